//! What `config check` says of groups, schedules, commands and snapshots.

use crate::{freeze, state};
use base::config::{ClientConfig, Commands};
use base::{Dataset, Error, Result, Span, process};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A sentence for each thing that is as it should be, an error for each that is not.
pub fn check(config: &ClientConfig) -> Vec<Result<String>> {
    let mut found = Vec::new();
    for entry in &config.datasets {
        subject(&entry.address, entry.every, &entry.commands(), &mut found);
        if let Some(with) = entry.snapshot {
            let mount = state::snapshots_folder(config);
            let place = freeze::find(with, Path::new(entry.address.path()), "nightsafe-check", entry.snapshot_size, &mount);
            found.push(place.map(|place| format!("{} is read from a snapshot of {}, made by {}.", entry.address, place.of, with.word())));
        }
    }
    for group in &config.groups {
        let Ok(of) = group.subject() else { continue };
        let members: Vec<String> = group.members.iter().map(ToString::to_string).collect();
        let nodes: Vec<&str> = config.nodes_of(&of).iter().map(|node| node.name.as_str()).collect();
        found.push(Ok(format!("The group {} goes to {} as one restore point: {}.", group.name, nodes.join(" and "), members.join(", "))));
        subject(&of, group.every, &group.commands(), &mut found);
    }
    found
}

fn subject(of: &Dataset, every: Option<Span>, commands: &Commands, found: &mut Vec<Result<String>>) {
    if let Some(every) = every {
        found.push(Ok(format!("{of} is due when its last success is older than {}; send and watch ask for it then.", String::from(every))));
    }
    for (stage, words) in [("before", &commands.before), ("after", &commands.after)] {
        let Some(program) = words.first() else { continue };
        let shown = words.join(" ");
        let limit = String::from(Span(commands.time_limit));
        found.push(match find(program) {
            Some(_) => Ok(format!("{stage} {of} this is run, for {limit} at most: {}", base::text::printable(&shown))),
            None => Err(Error::usage(format!("{stage} {of}, {program:?} is to be run, and is no program"))
                .hint(format!("Write its whole path, or one that is in one of {}.", process::PATH))),
        });
    }
}

/// Where a program is, as it would be found when it is started.
fn find(program: &str) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(is_program);
    }
    process::PATH.split(':').map(|folder| Path::new(folder).join(program)).find(is_program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said() {
        // No machine has ZFS there.
        let text = "version = 1\n[[dataset]]\naddress = \"files:/proc\"\nevery = \"6h\"\nbefore = [\"true\", \"x\"]\nafter = [\"/no/such/program\"]\n\
                    one_file_system = true\nsnapshot = \"zfs\"\n[[group]]\nname = \"all\"\nmembers = [\"files:/proc\"]\nevery = \"1d\"";
        let config: ClientConfig = base::config::parse("c", text.as_bytes()).unwrap();
        let (good, wrong): (Vec<_>, Vec<_>) = check(&config).into_iter().partition(Result::is_ok);
        let good = good.into_iter().map(Result::unwrap).collect::<Vec<_>>().join("\n");
        let wrong = wrong.into_iter().map(|error| error.unwrap_err().render()).collect::<Vec<_>>().join("\n");
        for word in ["older than 6h", "for 10m at most: true x", "The group all", "group:all is due when its last success is older than 1d"]
        {
            assert!(good.contains(word), "{word} is missing in {good}");
        }
        for word in ["/no/such/program", "with zfs"] {
            assert!(wrong.contains(word), "{word} is missing in {wrong}");
        }
    }
}
