//! The list of mirrors that cgit reads: which there are, where they lie, and what the node's configuration says of them.
//!
//! Nothing of a repository's own content takes part: names come from the datasets that the access list allowed, and bytes that
//! mean something in a URL or in a line are written so that they do not.

use crate::groups;
use crate::node::{Node, folder};
use base::config::CgitConfig;
use base::text::printable;
use base::{Dataset, FileLock, Name, Result, atomic};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The list in [`NodeConfig::cgit_path`](base::config::NodeConfig::cgit_path), in the words of `cgitrc`.
const LIST: &str = "repositories";

/// One mirror.
struct Mirror {
    client: Name,
    dataset: Dataset,
    path: PathBuf,
}

/// Where a mirror is below cgit's address, without a slash at either end. No two mirrors have the same: what is neither a
/// letter, a digit nor one of `._/@-` is written `~` and two hex digits.
pub fn place(client: &Name, dataset: &Dataset) -> String {
    let mut place = client.to_string();
    // A path that is not absolute is of no repository; it would have its place all the same.
    place.push_str(if dataset.path().starts_with('/') { "" } else { "/~/" });
    for byte in dataset.path().bytes() {
        if byte.is_ascii_alphanumeric() || b"._/@-".contains(&byte) {
            place.push(byte.into());
        } else {
            let _ = write!(place, "~{byte:02x}");
        }
    }
    place
}

/// Writes the list anew where it is not as it must be; does nothing where node.toml has no `[cgit]`.
///
/// # Errors
/// With the path.
pub fn publish(node: &Node) -> Result<()> {
    let Some(config) = &node.config.cgit else { return Ok(()) };
    // Who looked first must not write last.
    let _lock = FileLock::wait(&node.state_path().join("cgit.lock"))?;
    let text = list(&find(&node.config.data)?, config);
    let path = node.config.cgit_path();
    folder(&path, 0o2750)?;
    groups::give(&path, node.config.groups.mirrors.as_deref())?;
    atomic::sweep_drafts(&path, std::time::Duration::from_secs(86_400));
    let path = path.join(LIST);
    if std::fs::read(&path).ok().as_deref() == Some(text.as_bytes()) {
        return Ok(());
    }
    atomic::write(&path, text.as_bytes(), 0o640)
}

/// Sees to it that the mirrors of `client` are in the list; looks at no other client's when they are.
///
/// # Errors
/// With the path.
pub fn add(node: &Node, client: &Name) -> Result<()> {
    if node.config.cgit.is_none() {
        return Ok(());
    }
    let text = std::fs::read_to_string(node.config.cgit_path().join(LIST)).unwrap_or_default();
    let listed: HashSet<&str> = text.lines().filter_map(|line| line.strip_prefix("repo.path=")).collect();
    let mirrors = modules::mirrors(&node.config.client_path(client).join("mirrors"))?;
    if mirrors.iter().all(|path| path.to_str().is_some_and(|path| listed.contains(path))) { Ok(()) } else { publish(node) }
}

/// The mirrors of all clients that have a folder here, by client and dataset. One that is of nothing is left out.
fn find(data: &Path) -> Result<Vec<Mirror>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(data).into_iter().flatten().flatten() {
        let Some(client) = entry.file_name().to_str().and_then(|name| Name::new(name).ok()) else { continue };
        for path in modules::mirrors(&entry.path().join("mirrors"))? {
            match modules::mirrored(&path) {
                Ok(dataset) => found.push(Mirror { client: client.clone(), dataset, path }),
                Err(error) => tracing::warn!("cgit does not show it: {}", error.one_line()),
            }
        }
    }
    found.sort_by(|a, b| (&a.client, &a.dataset).cmp(&(&b.client, &b.dataset)));
    Ok(found)
}

fn list(mirrors: &[Mirror], config: &CgitConfig) -> String {
    let mut text = "# Written by nightsafe-server; what is changed here is lost. docs/cgit.md says how it is read.\n".to_owned();
    for Mirror { client, dataset, path } in mirrors {
        let (description, owner) = config.about(client, dataset);
        // A line that cannot be one is as if it were not there; the node's own paths hold no line breaks.
        let (place, path) = (place(client, dataset), path.display().to_string());
        if path.chars().any(char::is_control) {
            continue;
        }
        let name = printable(dataset.path());
        let description = description.map_or_else(|| printable(&dataset.to_string()), str::to_owned);
        let owner = owner.unwrap_or(client.as_str());
        let _ = write!(
            text,
            "\nrepo.url={place}\nrepo.path={path}\nrepo.name={name}\nrepo.section={client}\nrepo.desc={description}\nrepo.owner={owner}\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mirror(client: &str, path: &str) -> Option<Mirror> {
        let dataset = Dataset::new("git", path).ok()?;
        Some(Mirror { client: Name::new(client).unwrap(), dataset, path: "/d/web1/mirrors/x.git".into() })
    }

    #[test]
    fn names_are_places_and_nothing_else() {
        for (path, expected) in [
            ("/srv/git/a.git", "web1/srv/git/a.git"),
            ("/a b?x=1#y", "web1/a~20b~3fx~3d1~23y"),
            ("/<script>alert(1)</script>", "web1/~3cscript~3ealert~281~29~3c/script~3e"),
            ("/%2e%2e/etc", "web1/~252e~252e/etc"),
            ("/ü~", "web1/~c3~bc~7e"),
            ("a", "web1/~/a"),
        ] {
            let mirror = mirror("web1", path).unwrap();
            assert_eq!(place(&mirror.client, &mirror.dataset), expected);
        }
    }

    #[test]
    fn the_list_says_what_the_configuration_says() {
        let config: CgitConfig =
            toml::from_str("about = [{ of = \"web1:git:/b.git\", description = \"The shop\", owner = \"ops\" }]").unwrap();
        let mirrors: Vec<Mirror> = ["/a.git", "/b.git"].into_iter().filter_map(|path| mirror("web1", path)).collect();
        let text = list(&mirrors, &config);
        assert!(text.contains("repo.url=web1/a.git\nrepo.path=/d/web1/mirrors/x.git\nrepo.name=/a.git\nrepo.section=web1\nrepo.desc=git:/a.git\nrepo.owner=web1\n"), "{text}");
        assert!(text.contains("repo.desc=The shop\nrepo.owner=ops\n"), "{text}");
    }

    proptest! {
        #[test]
        fn every_mirror_has_its_own_place_and_its_own_lines(a in "/[ -~ü\u{202e}]{1,12}", b in "/[ -~ü\u{202e}]{1,12}") {
            let (Some(a), Some(b)) = (mirror("web1", &a), mirror("web1", &b)) else { return Ok(()) };
            let places = [place(&a.client, &a.dataset), place(&b.client, &b.dataset)];
            prop_assert_eq!(places[0] == places[1], a.dataset == b.dataset);
            prop_assert!(places.iter().all(|place| place.bytes().all(|b| b.is_ascii_graphic() && !b"%?#&=\"'<>".contains(&b))));
            let text = list(&[a, b], &CgitConfig::default());
            prop_assert_eq!(text.lines().filter(|line| !line.is_empty() && !line.starts_with("repo.") && !line.starts_with('#')).count(), 0);
            prop_assert_eq!(text.matches("\nrepo.url=").count(), 2);
        }
    }
}
