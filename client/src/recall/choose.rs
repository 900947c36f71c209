//! Which snapshot is meant: the newest by order of acceptance, the newest at or before a time, or one by its name.
//!
//! Decides over a listing alone. What is chosen is proven afterwards; a listing proves nothing.

use base::{Address, Dataset, Error, Name, RequestId, Result, names};
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
pub use queue::listing::ListedSnapshot as Offered;
use std::collections::BTreeSet;

/// What `--at` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// The newest.
    Newest,
    /// The newest that was accepted at or before this time.
    Time(Timestamp),
    /// This snapshot.
    Snapshot(RequestId),
}

impl At {
    /// Reads a snapshot's name, a time as RFC 3339, or a local date with or without a time of day. A date alone means
    /// the end of that day.
    ///
    /// # Errors
    /// Of kind usage.
    pub fn parse(text: &str, zone: &TimeZone) -> Result<Self> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Snapshot(id));
        }
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(Self::Time(time));
        }
        let local = if let Ok(date) = text.parse::<Date>()
            && text.len() <= "2026-11-20".len()
        {
            date.at(23, 59, 59, 999_999_999)
        } else {
            text.parse::<DateTime>().map_err(|_| {
                Error::usage(format!("{text:?} is neither a time nor a snapshot's name"))
                    .hint("Write 2026-11-20, \"2026-11-20 14:00\", 2026-11-20T14:00:00Z, or a name that nightsafe snapshots shows.")
            })?
        };
        let time = local.to_zoned(zone.clone()).map_err(|e| Error::usage(format!("{text:?} is no time here")).because(e))?;
        Ok(Self::Time(time.timestamp()))
    }
}

/// Whose dataset it is: what the address says, else this machine's own name where it is offered, else the only client
/// that is offered.
///
/// # Errors
/// Of kind usage when several could be meant.
pub fn client_of(address: &Address, own: Option<&Name>, offered: &[Offered]) -> Result<Name> {
    if let Some(client) = &address.client {
        return Ok(client.clone());
    }
    let mut clients: Vec<&Name> = offered.iter().map(|one| &one.client).collect();
    clients.sort_unstable();
    clients.dedup();
    if let Some(own) = own
        && (clients.contains(&own) || clients.is_empty())
    {
        return Ok(own.clone());
    }
    // Of several clients, the one that has this dataset is meant, where there is but one.
    let having: Vec<&Name> = clients
        .iter()
        .copied()
        .filter(|client| offered.iter().any(|one| one.client == **client && one.dataset == address.dataset))
        .collect();
    match (clients.as_slice(), having.as_slice()) {
        ([only], _) | (_, [only]) => Ok((*only).clone()),
        ([], _) => Err(Error::failed("there are no snapshots yet")),
        (all, _) => {
            let all: Vec<&str> = all.iter().map(|name| name.as_str()).collect();
            Err(Error::usage(format!("several clients could be meant by {}", address.dataset)).hint(format!(
                "Write CLIENT:{} with one of: {}.",
                address.dataset,
                all.join(", ")
            )))
        }
    }
}

/// What is offered, as a person would name it here: without the client where it is this one.
pub fn known(offered: &[Offered], own: &Name) -> Vec<String> {
    let name = |one: &Offered| if one.client == *own { one.dataset.to_string() } else { format!("{}:{}", one.client, one.dataset) };
    let all: BTreeSet<String> = offered.iter().map(name).collect();
    all.into_iter().collect()
}

/// Adds the nearest of what is offered to the error for a text that is no dataset's name at all.
pub fn near(error: Error, text: &str, offered: &[Offered], own: Option<&Name>) -> Error {
    let known = match own {
        Some(own) => known(offered, own),
        None => offered.iter().map(|one| format!("{}:{}", one.client, one.dataset)).collect(),
    };
    let near = names::nearest(text, known.iter().map(String::as_str));
    if near.is_empty() { error } else { error.hint(format!("Did you mean {}?", near.join(" or "))) }
}

/// Chooses the snapshot of `dataset`.
///
/// # Errors
/// When there is none; with the nearest names for a dataset that is not there.
pub fn choose<'a>(offered: &'a [Offered], client: &Name, dataset: &Dataset, at: &At) -> Result<&'a Offered> {
    let mine: Vec<&Offered> = offered.iter().filter(|one| one.client == *client).collect();
    let of_dataset: Vec<&Offered> = mine.iter().copied().filter(|one| one.dataset == *dataset).collect();
    if of_dataset.is_empty() {
        let known = known(offered, client);
        // Whose data it is was said wrongly as easily as what.
        let wrong = if mine.is_empty() { format!("{client}:{dataset}") } else { dataset.to_string() };
        return Err(Error::failed(format!("there is no snapshot of {client}:{dataset}"))
            .hint(names::hint(&wrong, known.iter().map(String::as_str))));
    }
    let newest = |all: &mut dyn Iterator<Item = &'a Offered>| all.max_by_key(|one| one.order);
    match at {
        At::Newest => newest(&mut of_dataset.iter().copied()).ok_or_else(|| Error::failed("there are no snapshots yet")),
        At::Time(time) => newest(&mut of_dataset.iter().copied().filter(|one| one.received <= *time)).ok_or_else(|| {
            let first = of_dataset.iter().map(|one| one.received).min().unwrap_or_default();
            Error::failed(format!("there is no snapshot of {client}:{dataset} from {time} or before"))
                .hint(format!("The oldest was accepted at {first}."))
        }),
        At::Snapshot(id) => of_dataset.iter().copied().find(|one| one.snapshot == *id).ok_or_else(|| {
            let known: Vec<&str> = of_dataset.iter().map(|one| one.snapshot.as_str()).collect();
            Error::failed(format!("there is no snapshot {id} of {client}:{dataset}")).hint(names::hint(id.as_str(), known))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(client: &str, dataset: &str, order: u64, received: &str) -> Offered {
        Offered {
            client: Name::new(client).unwrap(),
            dataset: dataset.parse().unwrap(),
            snapshot: format!("20261120T0315{order:02}Z-3f9a1c7e").parse().unwrap(),
            seq: order,
            submitted: received.parse().unwrap(),
            received: received.parse().unwrap(),
            order,
            bytes: 0,
            packs: 0,
            unreadable: 0,
            epoch: None,
            repairs: Vec::new(),
            group: None,
            module: "files".into(),
        }
    }

    fn sample() -> Vec<Offered> {
        vec![
            offered("web1", "files:/a", 1, "2026-11-19T10:00:00Z"),
            // A clock that went back: order counts, not time.
            offered("web1", "files:/a", 3, "2026-11-18T10:00:00Z"),
            offered("web1", "files:/a", 2, "2026-11-20T10:00:00Z"),
            offered("web2", "files:/b", 4, "2026-11-20T10:00:00Z"),
        ]
    }

    #[test]
    fn times_are_read() {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let time = |text: &str| match At::parse(text, &zone).unwrap() {
            At::Time(time) => time.to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(time("2026-11-20"), "2026-11-20T22:59:59.999999999Z");
        assert_eq!(time("2026-11-20 14:00"), "2026-11-20T13:00:00Z");
        assert_eq!(time("2026-11-20T14:00:00Z"), "2026-11-20T14:00:00Z");
        assert_eq!(time("2026-11-20T14:00:00+02:00"), "2026-11-20T12:00:00Z");
        assert!(matches!(At::parse("20261120T031501Z-3f9a1c7e", &zone).unwrap(), At::Snapshot(_)));
        for bad in ["", "yesterday", "2026-13-01", "14:00", "3"] {
            assert!(At::parse(bad, &zone).is_err(), "{bad}");
        }
    }

    #[test]
    fn order_of_acceptance_decides() {
        let (all, web1, dataset) = (sample(), Name::new("web1").unwrap(), "files:/a".parse().unwrap());
        let order = |at: At| choose(&all, &web1, &dataset, &at).map(|one| one.order);
        assert_eq!(order(At::Newest).unwrap(), 3);
        assert_eq!(order(At::Time("2026-11-17T00:00:00Z".parse().unwrap())).unwrap_err().kind(), base::Kind::Failed);
        assert_eq!(order(At::Time("2026-11-20T09:00:00Z".parse().unwrap())).unwrap(), 3);
        assert_eq!(order(At::Snapshot("20261120T031502Z-3f9a1c7e".parse().unwrap())).unwrap(), 2);
        assert!(order(At::Snapshot("20261120T031504Z-3f9a1c7e".parse().unwrap())).is_err());
    }

    #[test]
    fn a_wrong_dataset_gets_the_nearest_ones() {
        let all = sample();
        let error = choose(&all, &Name::new("web1").unwrap(), &"files:/ab".parse().unwrap(), &At::Newest).unwrap_err();
        assert!(error.render().contains("files:/a"), "{}", error.render());
        // A wrong client, the right one's left out, and no name at all.
        let error = choose(&all, &Name::new("web9").unwrap(), &"files:/b".parse().unwrap(), &At::Newest).unwrap_err();
        assert!(error.render().contains("web2:files:/b"), "{}", error.render());
        let error = choose(&all, &Name::new("web1").unwrap(), &"files:/b".parse().unwrap(), &At::Newest).unwrap_err();
        assert!(error.render().contains("web2:files:/b"), "{}", error.render());
        for text in ["/a", "files/a", "web2:files"] {
            let error = near(Error::usage("x").hint("y"), text, &all, None).render();
            assert!(error.contains("Did you mean web"), "{text}: {error}");
        }
        assert!(near(Error::usage("x").hint("y"), "zzzzzz", &all, None).render().contains('y'));
    }

    #[test]
    fn whose_dataset() {
        let address = |text: &str| Address::parse(text, &["files"]).unwrap();
        let (all, web1, web3) = (sample(), Name::new("web1").unwrap(), Name::new("web3").unwrap());
        assert_eq!(client_of(&address("web2:files:/a"), Some(&web1), &all).unwrap().as_str(), "web2");
        assert_eq!(client_of(&address("files:/a"), Some(&web1), &all).unwrap().as_str(), "web1");
        assert_eq!(client_of(&address("files:/b"), Some(&web3), &all).unwrap().as_str(), "web2");
        assert_eq!(client_of(&address("files:/x"), Some(&web3), &all[..3]).unwrap().as_str(), "web1");
        assert!(client_of(&address("files:/x"), None, &all).is_err());
        assert!(client_of(&address("files:/x"), None, &[]).is_err());
    }
}
