//! `config check`: says in sentences whether the node can work: its configuration, keys and folders, its sshd, its
//! administrators, room, and whether it gets through to each client.
//!
//! Changes nothing. What is asked of others is in `config/reach.rs`.

mod reach;

use crate::node::Node;
use crate::{access, groups, output};
use base::findings::Findings;
use base::{At, ByteSize, Error, Exit, Result};
use clap::Subcommand;
use queue::Signer;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Look at the configuration.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say in sentences what works, what does not yet, and what is wrong; nothing is changed.
    ///
    /// Exit codes: 0 everything works that was looked at; 75 something does not work yet; 2 something is wrong.
    Check(Check),
}

#[derive(Debug, clap::Args)]
struct Check {
    /// Send a mail to the addresses in [mail], to see whether it arrives.
    #[arg(long)]
    mail: bool,
    /// Look at this machine alone: connect to no client.
    #[arg(long)]
    offline: bool,
    /// The configuration that sshd runs with. Default: sshd's own.
    #[arg(long, value_name = "FILE", env = "NIGHTSAFE_SSHD_CONFIG")]
    sshd_config: Option<PathBuf>,
    /// Print an array of objects: about, state (ok, unseen, not-yet, wrong), says, todo.
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Has sshd say how it is set for the gate's account, while this is root still. Gives a variable and its value.
    pub fn remember_sshd(&self, gate: &str) -> Option<(&'static str, String)> {
        let What::Check(asked) = &self.what;
        reach::remember_sshd(gate, asked.sshd_config.as_deref())
    }
}

/// Runs the command.
pub fn run(args: &Args, config: &Path) -> Result<Exit> {
    let What::Check(asked) = &args.what;
    let node = Node::load(config)?;
    let mut findings = Findings::default();
    findings.good("configuration", format!("{} can be read; this is node {}.", config.display(), node.config.name));
    check(&node, &mut findings);
    reach::sshd(&node, asked.sshd_config.as_deref(), &mut findings);
    if asked.offline {
        findings.unseen("clients", "No client was asked.");
    } else {
        reach::clients(&node, &mut findings);
    }
    mail(&node, asked.mail, &mut findings);
    show(&findings, asked.json)?;
    Ok(findings.exit())
}

fn show(findings: &Findings, json: bool) -> Result<()> {
    if json {
        return output::json(findings.all());
    }
    for finding in findings.all() {
        for line in finding.to_string().lines() {
            output::line(line)?;
        }
    }
    output::line(&findings.summary())
}

fn check(node: &Node, findings: &mut Findings) {
    let config = &node.config;
    for (about, key, what) in
        [("pull key", &config.pull_key, "logs in to clients"), ("receipts key", &config.receipts_key, "signs receipts")]
    {
        let usable = private(key).and_then(|()| Signer::from_file(key).map(drop));
        findings.add(about, usable, format!("{} {what}, and nobody else can read it.", key.display()));
    }
    for (about, folder) in [("data", &config.data), ("gate", &config.gate)] {
        let there = std::fs::metadata(folder).at("find the folder", folder).map(drop);
        findings.add(
            about,
            there.map_err(|error| error.hint("nightsafe-server init makes it.")),
            format!("{} is there.", folder.display()),
        );
    }
    let open = crate::owners::problems(node, &node.clients(None).unwrap_or_default());
    for words in &open {
        // Its last words say what to run.
        let (says, todo) = words.split_once("; run: ").map_or((words.as_str(), "See docs/install.md."), |(says, todo)| (says, todo));
        findings.wrong("owners", says, format!("Run: {todo}"));
    }
    if open.is_empty() {
        findings.good("owners", "Owners and modes are as they must be.");
    }
    for (about, group) in [("groups.gate", &config.groups.gate), ("groups.mirrors", &config.groups.mirrors)] {
        if let Some(name) = group {
            findings.add(about, groups::id(Some(name)).map(drop), format!("The group {name} is there."));
        }
    }
    findings.add("gate program", node.gate_program().map(drop), "The gate's program is there.");
    administrators(node, findings);
    room(node, findings);
    if let Some(given) = &config.host_key {
        let key = queue::enrol::here::host_key(Some(given)).map(drop);
        findings.add("host_key", key.map_err(|error| error.context("host_key cannot be used")), "host_key is what clients pin.");
    }
}

fn administrators(node: &Node, findings: &mut Findings) {
    let first = match access::first_admins(&node.config) {
        Ok(first) => first,
        Err(error) => return findings.bad("administrators", &error),
    };
    let current = if node.config.admin_path().exists() { access::current(node).map(Some) } else { Ok(None) };
    match current {
        Err(error) => findings.bad("access list", &error),
        Ok(Some(access)) if access.tip.is_some() => {
            let names: Vec<&str> = access.list.admins.keys().map(base::Name::as_str).collect();
            let (clients, restorers) = (access.list.clients.len(), access.list.restorers.len());
            findings.good(
                "access list",
                format!("The list is signed; {} may change it. Clients: {clients}, restorers: {restorers}.", names.join(" and ")),
            );
        }
        Ok(_) if first.is_empty() => findings.not_yet(
            "administrators",
            "nobody can sign the access list yet",
            "Write admins = [\"ssh-ed25519 AAAA… NAME\"] into node.toml, or run init with --admin and --admin-key.",
        ),
        Ok(_) => findings.not_yet(
            "access list",
            "there is no signed access list yet, so nobody may send",
            "An administrator pushes one, or runs: nightsafe-server init --admin NAME --admin-key FILE",
        ),
    }
}

fn room(node: &Node, findings: &mut Findings) {
    let data = &node.config.data;
    let Ok(disk) = rustix::fs::statvfs(data) else { return };
    let free = ByteSize(disk.f_bavail.saturating_mul(disk.f_frsize));
    let files = disk.f_favail;
    match node.config.keep_free {
        Some(wanted) if free < wanted => findings.not_yet(
            "room",
            format!("{free} are free in {}, and keep_free is {wanted}", data.display()),
            "Make room, or lower keep_free; requests wait until then.",
        ),
        wanted => {
            let kept = wanted.map_or_else(|| "keep_free is not set".to_owned(), |wanted| format!("keep_free is {wanted}"));
            findings.good("room", format!("{free} are free in {}; {kept}.", data.display()));
        }
    }
    // Some file systems count no inodes, and say 0 of 0.
    if disk.f_files > 0 && files < 10_000 {
        findings.not_yet("room", format!("only {files} more files fit into {}", data.display()), "Make a file system with more inodes.");
    }
}

fn mail(node: &Node, try_it: bool, findings: &mut Findings) {
    match &node.config.mail {
        Some(mail) if try_it => {
            // It waits nowhere: who asked wants to know whether it went.
            let sent = mail::send_test(mail, node.config.name.as_str()).map_err(|error| error.with_kind(base::Kind::Failed));
            findings.add("mail", sent, format!("A mail was sent to {}.", mail.to.join(" and ")));
        }
        Some(mail) => findings.add("mail", mail::check(mail), format!("Mails go to {}.", mail.to.join(" and "))),
        None if try_it => {
            findings.wrong("mail", "there is no [mail] in node.toml, so there is nowhere to send a mail to", "Write [mail] into it.")
        }
        None => {}
    }
}

/// A private key that others can read is as good as lost.
fn private(key: &Path) -> Result<()> {
    let mode =
        std::fs::metadata(key).at("find the key", key).map_err(|error| error.hint("nightsafe-server init makes it."))?.permissions().mode();
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(Error::usage(format!("{} can be read by others (mode {:03o})", key.display(), mode & 0o777))
            .hint(format!("Run: chmod 600 {}", key.display())))
    }
}
