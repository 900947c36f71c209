//! What `config check` of a node finds out about its sshd, and about the way to each client.
//!
//! Sends nothing but the verb `look`. How sshd is set, it says itself, to root alone.

use crate::access;
use crate::node::Node;
use base::config::Reach;
use base::findings::Findings;
use base::{Kind, Name, Result, clock, process};
use queue::access::ClientGrant;
use queue::sight::{self, Sight};
use rustix::process::geteuid;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;
use transport::{Endpoint, Peer};

/// How many clients are asked side by side.
const AT_ONCE: usize = 8;
/// Carries what root learnt of sshd to the account that goes on.
const SETTINGS: &str = "NIGHTSAFE_SSHD_SETTINGS";

/// What sshd says to root of how it is set for the gate's account, and the variable that carries it.
pub fn remember_sshd(gate: &str, config: Option<&Path>) -> Option<(&'static str, String)> {
    settings(gate, config).ok().map(|text| (SETTINGS, text))
}

fn settings(user: &str, config: Option<&Path>) -> Result<String> {
    let mut command = process::command("sshd");
    if let Some(config) = config {
        command.arg("-f").arg(config);
    }
    command.args(["-T", "-C", &format!("user={user},host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22")]);
    process::run_ok(command, 1 << 20, Duration::from_secs(30)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether sshd gives the gate's account to the gate alone.
pub fn sshd(node: &Node, config: Option<&Path>, findings: &mut Findings) {
    let Ok(meta) = std::fs::metadata(&node.config.gate) else { return };
    let Some(user) = uzers::get_user_by_uid(meta.uid()).map(|user| user.name().to_string_lossy().into_owned()) else { return };
    let text = match std::env::var(SETTINGS).ok().map_or_else(|| settings(&user, config), Ok) {
        Ok(text) => text,
        Err(_) if !geteuid().is_root() => {
            return findings.unseen("sshd", "How sshd is set it says to root alone: run this as root to see it.");
        }
        Err(error) => return findings.unseen("sshd", format!("sshd did not say how it is set: {}", error.one_line())),
    };
    judge(node, &user, &text, findings);
}

/// Holds what `sshd -T` printed against what the gate needs.
fn judge(node: &Node, user: &str, text: &str, findings: &mut Findings) {
    let mut set: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        set.entry(name).or_default().push(value.trim());
    }
    let value = |name: &str| set.get(name).and_then(|values| values.first()).copied().unwrap_or_default();
    let list = node.config.access_path().join("authorized_keys");
    let by_gate = value("authorizedkeyscommand").contains("nightsafe-gate") && value("authorizedkeyscommand").contains(" keys ");
    let by_file = value("authorizedkeysfile").split(' ').any(|file| *list == *file);
    if by_gate || by_file {
        findings.good("sshd", format!("sshd looks up keys of {user} in the list that the poller publishes."));
    } else {
        let todo = format!("Install deploy/sshd/node.conf (or AuthorizedKeysFile {}), then reload sshd.", list.display());
        findings.not_yet("sshd", format!("sshd does not look up keys of {user} in the list that the poller publishes"), todo);
    }
    for (name, wanted, why) in [
        ("passwordauthentication", "no", "passwords can be guessed"),
        ("kbdinteractiveauthentication", "no", "passwords can be guessed"),
        ("permittty", "no", "the gate needs no terminal"),
    ] {
        let found = value(name);
        // What a gate of one account shares with people is theirs to decide.
        if by_gate && !found.is_empty() && found != wanted {
            findings.wrong("sshd", format!("{name} is {found} for {user}: {why}"), "deploy/sshd/node.conf has the settings.");
        }
    }
    let number = |name: &str| value(name).split(':').next().and_then(|text| text.parse::<u32>().ok());
    for (name, least) in [("maxstartups", 64), ("maxsessions", 16)] {
        if number(name).is_some_and(|found| found < least) {
            findings.not_yet(
                "sshd",
                format!("{name} is {}, and many clients at once would turn each other away", value(name)),
                format!("Set {name} to {least} at least (docs/install.md)."),
            );
        }
    }
    if !set.get("acceptenv").is_some_and(|values| values.iter().any(|value| value.split(' ').any(|one| one == "GIT_PROTOCOL"))) {
        findings.not_yet(
            "sshd",
            "sshd takes no GIT_PROTOCOL, so git falls back to its older protocol, which is slower",
            "Set AcceptEnv GIT_PROTOCOL.",
        );
    }
}

/// Asks each client's gate.
pub fn clients(node: &Node, findings: &mut Findings) {
    let list = match access::current(node) {
        Ok(access) => access.list,
        // It is said elsewhere.
        Err(_) => return,
    };
    if node.check_owner().is_err() {
        return findings.unseen("clients", "Clients are asked by the account that the data belongs to; run this as that one, or as root.");
    }
    let waiting: Mutex<Vec<(&Name, &ClientGrant)>> = Mutex::new(list.clients.iter().rev().collect());
    let found: Mutex<BTreeMap<&Name, Findings>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(list.clients.len()) {
            scope.spawn(|| {
                while let Some((name, grant)) = waiting.lock().ok().and_then(|mut waiting| waiting.pop()) {
                    let mut own = Findings::default();
                    client(node, name, grant, &mut own);
                    if let Ok(mut found) = found.lock() {
                        found.insert(name, own);
                    }
                }
            });
        }
    });
    for own in found.into_inner().unwrap_or_default().into_values() {
        findings.append(own);
    }
}

fn client(node: &Node, name: &Name, grant: &ClientGrant, findings: &mut Findings) {
    let about = format!("client {name}");
    if grant.paused {
        return findings.unseen(about, format!("{name} is paused; its requests wait."));
    }
    if grant.reach == Reach::Dial {
        return findings.unseen(
            about,
            format!("{name} dials in, so this node does not log in to it; nightsafe-server status says whether it is there."),
        );
    }
    let Some((address, host_key)) = grant.address.as_ref().zip(grant.host_key.as_ref()) else {
        return findings.unseen(about, format!("The access list says no address of {name}, so this node does not log in to it."));
    };
    let asked = Peer::new(Endpoint {
        alias: name.to_string(),
        address: address.clone(),
        host_key: host_key.clone(),
        key: node.config.pull_key.clone(),
        runtime: node.config.runtime_path(),
    })
    .and_then(|peer| peer.exec("look", sight::LIMIT, sight::TIME));
    match asked.and_then(|bytes| Sight::read(&bytes, name.as_str())) {
        Ok(sight) => {
            findings.good(about, format!("{name} lets this node in at {address}; its gate is {}.", base::text::printable(&sight.gate)));
            if let Err(error) = sight.clocks_agree(name.as_str(), clock::now()) {
                findings.bad(format!("clock {name}"), &error);
            }
        }
        Err(error) => {
            let words = error.one_line();
            let todo = match () {
                () if words.contains("does not allow this command") => {
                    "Its program is older than this one; backups work as before.".to_owned()
                }
                () if words.contains("does not let us in") => {
                    format!("On {name}: nightsafe node add with the line of nightsafe-server client add, and nightsafe config check.")
                }
                () => error.advice().unwrap_or("Try it again; requests wait until it answers.").to_owned(),
            };
            if matches!(error.kind(), Kind::Refused | Kind::Usage) {
                findings.wrong(about, words, todo);
            } else {
                findings.not_yet(about, words, todo);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_sshd_are_held_against_what_the_gate_needs() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.toml");
        let text = "version = 1\nname = \"node1\"\ndata = \"/srv/n\"\ngate = \"/g\"\npull_key = \"/p\"\nreceipts_key = \"/r\"\n";
        std::fs::write(&file, text).unwrap();
        let node = Node::load(&file).unwrap();
        let said = |settings: &str| {
            let mut findings = Findings::default();
            judge(&node, "ns-gate", settings, &mut findings);
            findings.all().iter().map(|one| format!("{one}\n")).collect::<String>()
        };
        let good = "authorizedkeyscommand /usr/local/bin/nightsafe-gate --config /c keys %t %k\nauthorizedkeysfile none\npasswordauthentication no\n\
            kbdinteractiveauthentication no\npermittty no\nmaxstartups 64:30:256\nmaxsessions 16\nacceptenv LANG\nacceptenv GIT_PROTOCOL\n";
        assert_eq!(said(good), "ok        sshd: sshd looks up keys of ns-gate in the list that the poller publishes.\n");
        for (old, new, words) in [
            ("/usr/local/bin/nightsafe-gate --config /c keys %t %k", "none", "NOT YET   sshd: sshd does not look up keys"),
            ("passwordauthentication no", "passwordauthentication yes", "WRONG     sshd: passwordauthentication is yes"),
            ("permittty no", "permittty yes", "WRONG     sshd: permittty is yes"),
            ("64:30:256", "10:30:100", "NOT YET   sshd: maxstartups is 10:30:100"),
            ("maxsessions 16", "maxsessions 10", "maxsessions is 10"),
            ("GIT_PROTOCOL", "LC_*", "takes no GIT_PROTOCOL"),
        ] {
            assert!(said(&good.replace(old, new)).contains(words), "{new}: {}", said(&good.replace(old, new)));
        }
        let by_file =
            "authorizedkeysfile .ssh/authorized_keys /srv/n/access/authorized_keys\npasswordauthentication yes\nacceptenv GIT_PROTOCOL\n";
        assert!(said(by_file).starts_with("ok ") && said(by_file).lines().count() == 1, "{}", said(by_file));
    }
}
