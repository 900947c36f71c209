//! What `config check` finds out about the way to and from each node: ssh, the gate's answer, the clocks, what the node would
//! take, and whether the node is let in here.
//!
//! Sends nothing but the verb `look`.

use crate::commands::node;
use crate::{Globals, enrol};
use base::config::client::ClientNode;
use base::config::{ClientConfig, Reach};
use base::findings::Findings;
use base::{DatasetPattern, Error, Kind, Name, Result, clock, process};
use queue::access::{KeyLine, line_of_key};
use queue::sight::{self, Sight};
use std::path::Path;
use std::time::Duration;
use transport::{Endpoint, Peer};

/// How long sshd may take to show its keys.
const TIME: Duration = Duration::from_secs(60);

/// Asks each node's gate.
pub fn nodes(config: &ClientConfig, findings: &mut Findings) {
    // A restorer's machine has no key of a client's to ask with.
    let Some(name) = &config.name else { return };
    for node in &config.nodes {
        let about = format!("ssh {}", node.name);
        match look(config, node) {
            Err(error) => refused(&about, name.as_str(), &error, findings),
            Ok(sight) => {
                findings.good(about, format!("{} lets {name} in at {}; its gate is {}.", node.name, node.ssh, sight.gate));
                seen(config, node, &sight, findings);
            }
        }
    }
}

fn look(config: &ClientConfig, node: &ClientNode) -> Result<Sight> {
    let peer = Peer::new(Endpoint {
        alias: node.name.to_string(),
        address: node.ssh.clone(),
        host_key: node.host_key.clone(),
        key: config.key_path(),
        runtime: config.runtime_path(),
    })?;
    Sight::read(&peer.exec("look", sight::LIMIT, sight::TIME)?, node.name.as_str())
}

/// What it means that the gate did not answer.
fn refused(about: &str, name: &str, error: &Error, findings: &mut Findings) {
    let words = error.one_line();
    let todo = match () {
        () if words.contains("paused") => {
            "Nothing is wrong here: the node's administrator goes on with nightsafe-server client pause --off.".to_owned()
        }
        () if words.contains("does not allow this command") => {
            "The node's program is older than this one; backups work as before.".to_owned()
        }
        () if words.contains("does not let us in") || words.contains("not in the list") => {
            format!(
                "The node's administrator lets {name} in by nightsafe-server client add, with the line that nightsafe init prints here."
            )
        }
        () => match error.advice() {
            Some(advice) => advice.to_owned(),
            None => "Try it again; nightsafe send goes on by itself when the node answers.".to_owned(),
        },
    };
    // Another host key, and what the configuration has wrong, stays so until somebody changes it.
    if matches!(error.kind(), Kind::Refused | Kind::Usage) {
        findings.wrong(about, words, todo);
    } else {
        findings.not_yet(about, words, todo);
    }
}

fn seen(config: &ClientConfig, node: &ClientNode, sight: &Sight, findings: &mut Findings) {
    let name = &node.name;
    let clocks = sight.clocks_agree(name.as_str(), clock::now());
    findings.add(format!("clock {name}"), clocks, format!("The clocks of {name} and of this machine agree."));
    match sight.room {
        Some(true) => findings.good(format!("room {name}"), format!("{name} has room for another backup.")),
        Some(false) => findings.not_yet(
            format!("room {name}"),
            format!("{name} has no room left for another backup"),
            "Its administrator makes room; requests wait.",
        ),
        None => {}
    }
    way_back(config, node, sight, findings);
    let allowed: Vec<DatasetPattern> = sight.allow.iter().filter_map(|text| DatasetPattern::new(text.as_str()).ok()).collect();
    for dataset in config.sent_to(name) {
        let about = dataset.to_string();
        if allowed.iter().any(|pattern| pattern.matches(dataset)) {
            findings.good(about, format!("{name} takes {dataset}."));
        } else {
            findings.not_yet(
                about,
                format!("{name} does not take {dataset} from this machine"),
                format!(
                    "Its administrator adds it to allow in the access list; there is: {}.",
                    if sight.allow.is_empty() { "nothing".into() } else { sight.allow.join(", ") }
                ),
            );
        }
    }
}

/// Whether the node gets to this machine as both sides have it.
fn way_back(config: &ClientConfig, node: &ClientNode, sight: &Sight, findings: &mut Findings) {
    let (name, own) = (&node.name, config.name.as_ref().map_or("this machine", Name::as_str));
    match (node.reach, sight.reach) {
        (Reach::Dial, Some(Reach::Dial)) => {
            findings.good(format!("line to {name}"), format!("{name} takes lines that this machine dials."));
        }
        (Reach::Dial, Some(Reach::Ssh)) => findings.not_yet(
            format!("line to {name}"),
            format!("reach = \"dial\" stands here, and {name} would log in to this machine and takes no line of it"),
            format!("Its administrator: nightsafe-server client set {own} --dial."),
        ),
        (Reach::Ssh, Some(Reach::Dial)) => findings.not_yet(
            format!("login of {name}"),
            format!("{name} waits for this machine to dial, and does not log in to it"),
            format!(
                "Write reach = \"dial\" into the [[node]] of {name}; or its administrator: nightsafe-server client set {own} --no-dial --address USER@HOST --host-key KEY."
            ),
        ),
        _ if sight.reached == Some(false) => findings.not_yet(
            format!("login of {name}"),
            format!("{name} does not know where to reach this machine, so it fetches nothing"),
            format!(
                "Its administrator adds address and host_key to the access list: nightsafe-server client set {own} --no-dial --address USER@HOST --host-key KEY."
            ),
        ),
        _ => {}
    }
}

/// Whether nodes are let in here: sshd answers where they look for it, and knows their keys, with the right command. Where this
/// machine dials it needs neither, and the gate's program alone.
pub fn let_in(globals: &Globals, config: &ClientConfig, keys: Option<&Path>, findings: &mut Findings) {
    for node in config.nodes.iter().filter(|node| node.reach == Reach::Dial) {
        let program = enrol::gate_program().map(drop);
        findings.add(format!("line to {}", node.name), program, "The gate's program is there, which answers what the node asks for.");
    }
    let log_in: Vec<&ClientNode> = config.nodes.iter().filter(|node| node.reach == Reach::Ssh).collect();
    if log_in.is_empty() && !config.nodes.is_empty() {
        return;
    }
    let line = match enrol::printed(config) {
        Ok(line) => line,
        Err(error) => return findings.bad("login of nodes", &error),
    };
    let address = line.as_ref().and_then(|line| line.address.clone());
    if let Some((address, host_key)) = address.as_ref().zip(line.as_ref().and_then(|line| line.host_key.clone())) {
        let found = shown(address);
        let about = format!("sshd {address}");
        match found {
            Err(error) => findings.not_yet(
                about,
                error.one_line(),
                "Is sshd running, and is this how nodes reach this machine? nightsafe init --address says it anew.",
            ),
            Ok(keys) if keys.contains(&host_key) => findings.good(about, "sshd answers there with the host key that nodes pin."),
            Ok(_) => findings.wrong(
                about,
                "sshd answers there with other host keys than the one that nodes pin",
                "Run nightsafe init --host-key FILE and give its line to the node's administrator again, or find out who answers there.",
            ),
        }
    }
    for node in log_in {
        let about = format!("login of {}", node.name);
        let Some(pull_key) = &node.pull_key else {
            findings.unseen(about, format!("{} has no pull_key in its [[node]], so nobody can see here whether it is let in.", node.name));
            continue;
        };
        let account = address.as_ref().map_or_else(enrol::account, |address| address.user.clone());
        let place = keys.map(Path::to_owned).or_else(|| (account == enrol::account()).then(node::keys_of_account).flatten());
        let Some(place) = place else {
            findings.unseen(
                about,
                format!("{} logs in as {account}; run this as {account}, or say with --authorized-keys where its keys are.", node.name),
            );
            continue;
        };
        match right_line(globals, node, pull_key, &place) {
            Ok(()) => findings.good(about, format!("{} is let in for the gate alone, by {}.", node.name, place.display())),
            Err(error) => findings.bad(about, &error),
        }
    }
}

/// The host keys that sshd shows at an address.
fn shown(address: &base::config::SshAddress) -> Result<Vec<String>> {
    let mut command = process::command("ssh-keyscan");
    command.args(["-T", "10"]);
    if let Some(port) = address.port {
        command.args(["-p", &port.to_string()]);
    }
    // The parser of addresses lets no host begin with '-'.
    command.arg(&address.host);
    let output = process::run(command, 1 << 20, TIME)?;
    let keys: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| queue::signature::parse_public_key(line.split_once(' ')?.1).ok())
        .filter_map(|key| crate::trust::key_text(&key).ok())
        .collect();
    if keys.is_empty() { Err(Error::not_now(format!("no sshd answers at {address}"))) } else { Ok(keys) }
}

fn right_line(globals: &Globals, node: &ClientNode, pull_key: &str, place: &Path) -> Result<()> {
    judge(&globals.config, node, &node::own_line(&globals.config, &node.name, pull_key)?, place)
}

/// Whether the file at `place` lets the node in by the line `wanted`, or by one that is as good.
fn judge(own: &Path, node: &ClientNode, wanted: &str, place: &Path) -> Result<()> {
    let add = format!("This line belongs there: {wanted}");
    let text = match std::fs::read_to_string(place) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Error::failed(format!("could not read {}", place.display())).because(error)),
    };
    let wrong = |line: usize, what: &str| Error::failed(format!("line {line} of {} lets {} in for {what}", place.display(), node.name));
    match line_of_key(&text, wanted) {
        None => Err(Error::not_now(format!("{} is not let in by {}", node.name, place.display())).hint(add)),
        Some(KeyLine::Same) => Ok(()),
        Some(KeyLine::Gate { line, config, .. }) if !node::is_same(config, own) => {
            Err(wrong(line, &format!("another configuration, {config}")).hint(format!(
                "sshd takes the first line with a key, so two clients of a node need an account each. If no other client has that line, take it out. {add}"
            )))
        }
        // Another path to the same gate is as good, as long as it is there.
        Some(KeyLine::Gate { program, .. }) if Path::new(program).is_file() => Ok(()),
        Some(KeyLine::Gate { line, program, .. }) => {
            Err(wrong(line, &format!("{program}, which is not there")).hint(format!("Take it out. {add}")))
        }
        Some(KeyLine::Other { line }) => Err(wrong(line, "something else than the gate alone").hint(format!("Take it out. {add}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::config::client::ClientNode;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn config(reach: &str) -> ClientConfig {
        let node = format!(
            "[[node]]\nname = \"node1\"\nssh = \"gate@n\"\nhost_key = \"{KEY}\"\nreceipts_key = \"{KEY}\"\npull_key = \"{KEY}\"\n{reach}"
        );
        base::config::parse("c", format!("version = 1\nname = \"web1\"\nstate = \"/does/not/exist\"\n{node}").as_bytes()).unwrap()
    }

    fn sight(reach: Option<Reach>, reached: bool) -> Sight {
        Sight { gate: "1".into(), time: clock::now(), allow: Vec::new(), room: None, reached: Some(reached), reach }
    }

    #[test]
    fn both_sides_are_to_have_the_same_way_to_this_machine() {
        let (ssh, dial) = (config(""), config("reach = \"dial\""));
        for (config, list, reached, said) in [
            (&ssh, Some(Reach::Ssh), true, ""),
            (&ssh, None, true, ""),
            (&ssh, Some(Reach::Ssh), false, "NOT YET   login of node1: node1 does not know where"),
            (&ssh, None, false, "NOT YET   login of node1: node1 does not know where"),
            (&ssh, Some(Reach::Dial), true, "NOT YET   login of node1: node1 waits for this machine to dial"),
            (&dial, Some(Reach::Dial), true, "ok        line to node1: node1 takes lines"),
            (&dial, Some(Reach::Ssh), true, "NOT YET   line to node1: reach = \"dial\" stands here"),
            (&dial, Some(Reach::Ssh), false, "nightsafe-server client set web1 --dial"),
            (&dial, None, true, ""),
        ] {
            let mut findings = Findings::default();
            let node: &ClientNode = &config.nodes[0];
            way_back(config, node, &sight(list, reached), &mut findings);
            let all: String = findings.all().iter().map(|one| format!("{one}\n")).collect();
            assert!(all.contains(said) && all.is_empty() == said.is_empty(), "{list:?} {reached}: {all}");
        }
    }

    #[test]
    fn a_machine_that_dials_needs_no_line_for_the_nodes_key() {
        let globals = Globals { config: "/does/not/exist".into(), verbose: 0 };
        for (config, login) in [(config(""), true), (config("reach = \"dial\""), false)] {
            let mut findings = Findings::default();
            let_in(&globals, &config, Some(Path::new("/does/not/exist")), &mut findings);
            let about = |what: &str| findings.all().iter().any(|one| one.about.starts_with(what));
            assert_eq!((about("login of node1"), about("line to node1")), (login, !login), "{:?}", findings.all());
        }
    }

    #[test]
    fn a_line_that_leads_to_another_configuration_is_none_of_this_clients() {
        let dir = tempfile::tempdir().unwrap();
        let [own, other, place] = ["own.toml", "other.toml", "keys"].map(|name| dir.path().join(name));
        for file in [&own, &other] {
            std::fs::write(file, "").unwrap();
        }
        let config = config("");
        let line =
            |program: &str, path: &Path| format!("command=\"{program} --config {} export node1\",restrict {KEY} x\n", path.display());
        for (program, path, said) in [
            ("/bin/sh", &own, None),
            ("/bin/sh", &other, Some("another configuration")),
            ("/absent/gate", &own, Some("which is not there")),
        ] {
            std::fs::write(&place, line(program, path)).unwrap();
            let judged = judge(&own, &config.nodes[0], &line("/bin/gate", &own), &place);
            assert_eq!(judged.is_err(), said.is_some(), "{program}");
            assert!(judged.err().is_none_or(|error| error.one_line().contains(said.unwrap())), "{program}");
        }
    }
}
