//! `nightsafe restore --group`: all members of one restore point, each below the target.
//!
//! A listing only tells where to look. Which datasets belong together, and that they do, is what the client signed.

use super::Restore;
use crate::output::{self, worse};
use crate::recall::choose::{At, Offered};
use crate::recall::{Recall, Wanted};
use base::{Dataset, Error, Exit, Group, Name, RequestId, Result, names};
use jiff::tz::TimeZone;
use modules::Destination;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A restore point as a node lists it.
#[derive(Debug, Clone)]
struct Listed<'a> {
    group: &'a Group,
    members: Vec<&'a Offered>,
}

impl Listed<'_> {
    /// Whether there is a snapshot of each member.
    fn is_whole(&self) -> bool {
        self.group.members.iter().all(|dataset| self.members.iter().any(|member| member.dataset == *dataset))
    }

    fn order(&self) -> u64 {
        self.members.iter().map(|member| member.order).max().unwrap_or_default()
    }
}

/// Brings a restore point back below `target`. Exit 3 when it lacks a member; a member that does not come back keeps none of the
/// others back.
///
/// # Errors
/// When there is none, or the client has signed something else of it.
pub fn run(command: &Restore, recall: &Recall, name: &str, target: &Path) -> Result<Exit> {
    let at = command.at.as_deref().map(|at| At::parse(at, &TimeZone::system())).transpose()?.unwrap_or(At::Newest);
    let offered = recall.source.list()?;
    let (client, name) = whose(name, recall.own_name(), &offered)?;
    let chosen = choose(&offered, &client, &name, &at)?;
    if !chosen.is_whole() {
        output::note(format_args!("nightsafe: WARNING: the group {} is incomplete", chosen.group.shown()));
    }
    let mut exit = Exit::Done;
    let mut all: Option<Group> = None;
    for member in &chosen.members {
        base::stop::check()?;
        let proven = match recall.prove(&offered, &Wanted::Snapshot(member.snapshot.clone())) {
            Ok(proven) => proven,
            Err(error) => {
                exit = worse(exit, fails(&member.dataset, error));
                continue;
            }
        };
        let signed = proven.claim.group.clone();
        let first = all.get_or_insert_with(|| chosen.group.clone());
        if signed.as_ref() != Some(first) || proven.claim.client != client {
            return Err(Error::refused(format!(
                "{} lists {} as part of the group {}, and the client has signed something else",
                recall.source.name(),
                member.snapshot,
                chosen.group.shown()
            )));
        }
        let below = target.join(place(&proven.claim.dataset));
        if let Some(parent) = below.parent().filter(|_| !command.dry_run) {
            base::atomic::make_folder(parent, 0o700)?;
        }
        output::line(format_args!("{} comes back to {}.", proven.claim.dataset, below.display()));
        let came = command.bring(recall, proven, Destination::Folder(&below));
        exit = worse(exit, came.unwrap_or_else(|error| fails(&member.dataset, error)));
    }
    base::stop::check()?;
    for dataset in chosen.group.members.iter().filter(|dataset| !chosen.members.iter().any(|member| member.dataset == **dataset)) {
        let why = if chosen.group.lacks.contains(dataset) { "could not be prepared on the client" } else { "is not there" };
        output::note(format_args!("nightsafe: {dataset} {why}, and does not come back"));
        exit = worse(exit, Exit::Incomplete);
    }
    Ok(exit)
}

/// Tells that a member does not come back.
fn fails(dataset: &Dataset, error: Error) -> Exit {
    let kind = error.kind();
    // Whoever asked us to stop is told that alone, and the rest is not begun.
    if base::stop::asked().is_none() {
        output::complain(&error.context(format!("{dataset} does not come back")));
    }
    kind.into()
}

/// Where below the target a member comes back to: a folder for its module, and its path in it.
fn place(dataset: &Dataset) -> PathBuf {
    Path::new(dataset.module()).join(dataset.path().trim_start_matches('/'))
}

/// Whose group it is: what `CLIENT:NAME` says, else this machine's, else that of the only client that has one of this name.
fn whose(text: &str, own: Option<&Name>, offered: &[Offered]) -> Result<(Name, String)> {
    if let Some((client, name)) = text.split_once(':') {
        return Ok((Name::new(client)?, name.to_owned()));
    }
    let has = |one: &&Offered| one.group.as_ref().is_some_and(|group| group.name == text);
    let mut clients: Vec<&Name> = offered.iter().filter(has).map(|one| &one.client).collect();
    clients.sort_unstable();
    clients.dedup();
    match (own, clients.as_slice()) {
        (Some(own), all) if all.contains(&own) || all.is_empty() => Ok((own.clone(), text.to_owned())),
        (_, [only]) => Ok(((*only).clone(), text.to_owned())),
        (_, []) => Err(unknown(text, offered)),
        (_, all) => {
            let all: Vec<&str> = all.iter().map(|name| name.as_str()).collect();
            Err(Error::usage(format!("several clients have a group {text}"))
                .hint(format!("Write CLIENT:{text} with one of: {}.", all.join(", "))))
        }
    }
}

fn unknown(name: &str, offered: &[Offered]) -> Error {
    let known: Vec<&str> = offered.iter().filter_map(|one| Some(one.group.as_ref()?.name.as_str())).collect();
    Error::failed(format!("there is no restore point of a group {name}")).hint(names::hint(name, known))
}

/// Chooses the restore point: the newest whole one that `at` leaves, or the one that is named. Its members stand in the order in which
/// they come back: one within another after it, because it is there already what the outer one finds in its target otherwise.
fn choose<'a>(offered: &'a [Offered], client: &Name, name: &str, at: &At) -> Result<Listed<'a>> {
    let mut points: BTreeMap<&RequestId, Listed<'a>> = BTreeMap::new();
    for one in offered.iter().filter(|one| one.client == *client) {
        let Some(group) = one.group.as_ref().filter(|group| group.name == name) else { continue };
        let point = points.entry(&group.id).or_insert_with(|| Listed { group, members: Vec::new() });
        // One snapshot of each; what says something else of the group is found out when it is proven.
        if point.group == group && !point.members.iter().any(|member| member.dataset == one.dataset) {
            point.members.push(one);
        }
    }
    if points.is_empty() {
        return Err(unknown(name, offered));
    }
    let fits = |point: &&Listed<'a>| match at {
        At::Newest => true,
        At::Time(time) => point.members.iter().all(|member| member.received <= *time),
        At::Snapshot(id) => point.group.id == *id || point.members.iter().any(|member| member.snapshot == *id),
    };
    let fitting: Vec<&Listed<'a>> = points.values().filter(fits).collect();
    let is_named = matches!(at, At::Snapshot(_));
    let Some(chosen) = fitting.iter().filter(|point| is_named || point.is_whole()).max_by_key(|point| point.order()).copied() else {
        let listed =
            |points: &mut dyn Iterator<Item = &Listed<'a>>| points.map(|point| point.group.id.as_str()).collect::<Vec<_>>().join(", ");
        return Err(if fitting.is_empty() {
            Error::failed(format!("there is no such restore point of the group {name}"))
                .hint(format!("These are there: {}.", listed(&mut points.values())))
        } else {
            Error::failed(format!("no such restore point of the group {name} has all its members"))
                .hint(format!("--at restores what there is of one: {}.", listed(&mut fitting.into_iter())))
        });
    };
    if let Some(later) = fitting.iter().filter(|point| point.order() > chosen.order()).max_by_key(|point| point.order()) {
        output::note(format_args!(
            "nightsafe: {} is newer and incomplete; --at {} restores what there is of it",
            later.group.shown(),
            later.group.id
        ));
    }
    let mut chosen = chosen.clone();
    chosen.members.sort_by_cached_key(|member| place(&member.dataset));
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(id: &str, at: u64, members: &[&str]) -> Vec<Offered> {
        let group = Group {
            id: id.parse().unwrap(),
            name: "shop".into(),
            members: vec!["files:/a".parse().unwrap(), "postgres:shop".parse().unwrap()],
            lacks: vec![],
        };
        let offered = |(n, dataset): (u64, &&str)| Offered {
            client: Name::new("web1").unwrap(),
            dataset: dataset.parse().unwrap(),
            module: "files".into(),
            snapshot: format!("20261120T03{at:02}{n:02}Z-3f9a1c7e").parse().unwrap(),
            seq: at + n,
            submitted: "2026-11-19T10:00:00Z".parse().unwrap(),
            received: format!("2026-11-19T10:{at:02}:00Z").parse().unwrap(),
            order: 10 * at + n,
            bytes: 0,
            packs: 0,
            unreadable: 0,
            epoch: None,
            repairs: vec![],
            group: Some(group.clone()),
        };
        (0..).zip(members).map(offered).collect()
    }

    #[test]
    fn what_holds_another_comes_back_first() {
        let all = point("20261120T030100Z-00000001", 1, &["files:/srv/db/data", "postgres:shop", "files:/srv", "files:/srv/db"]);
        let chosen =
            choose(&all, &Name::new("web1").unwrap(), "shop", &At::Snapshot("20261120T030100Z-00000001".parse().unwrap())).unwrap();
        let order: Vec<String> = chosen.members.iter().map(|member| member.dataset.to_string()).collect();
        assert_eq!(order, ["files:/srv", "files:/srv/db", "files:/srv/db/data", "postgres:shop"]);
    }

    #[test]
    fn which_restore_point() {
        let ids = ["20261120T030100Z-00000001", "20261120T030200Z-00000002", "20261120T030300Z-00000003"];
        let both = ["files:/a", "postgres:shop"];
        let all = [point(ids[0], 1, &both), point(ids[1], 2, &both), point(ids[2], 3, &both[..1])].concat();
        let web1 = Name::new("web1").unwrap();
        let at = |at: At| choose(&all, &web1, "shop", &at).map(|point| (point.group.id.to_string(), point.members.len()));
        assert_eq!(at(At::Newest).unwrap(), (ids[1].to_owned(), 2));
        assert_eq!(at(At::Time("2026-11-19T10:01:30Z".parse().unwrap())).unwrap().0, ids[0]);
        assert_eq!(at(At::Snapshot(ids[2].parse().unwrap())).unwrap(), (ids[2].to_owned(), 1));
        assert_eq!(at(At::Snapshot(all[0].snapshot.clone())).unwrap().0, ids[0]);
        assert!(at(At::Time("2026-11-18T10:01:30Z".parse().unwrap())).unwrap_err().render().contains(ids[0]));
        // One that lacks a member is never chosen but by its name.
        let lacking = point(ids[2], 3, &both[..1]);
        let chosen = |at: At| choose(&lacking, &web1, "shop", &at).map(|point| point.members.len());
        let why = chosen(At::Newest).unwrap_err().render();
        assert!(why.contains("has all its members") && why.contains(ids[2]), "{why}");
        assert!(chosen(At::Time("2026-11-19T12:00:00Z".parse().unwrap())).is_err());
        assert_eq!(chosen(At::Snapshot(ids[2].parse().unwrap())).unwrap(), 1);
        assert!(choose(&all, &web1, "shp", &At::Newest).unwrap_err().render().contains("shop"));
        assert_eq!(whose("shop", None, &all).unwrap().0, web1);
        assert_eq!(whose("web2:shop", None, &all).unwrap().0.as_str(), "web2");
        assert!(whose("other", None, &all).is_err());
        assert_eq!(place(&"files:/var/www".parse().unwrap()), Path::new("files/var/www"));
        assert_eq!(place(&"postgres:shop".parse().unwrap()), Path::new("postgres/shop"));
    }
}
