//! `nightsafe node add`: takes in what a node's administrator answered to this machine's line.
//!
//! Believes the answer when it was made for just this machine's keys, and when a person has the code for it by another way.

use crate::{Globals, enrol, output};
use base::config::{ClientConfig, Reach, SshAddress};
use base::{At, Error, Exit, Name, Result, atomic, untrusted};
use queue::access::{KeyLine, authorized_line, line_of_key};
use queue::enrol::code::{Code, Said};
use queue::enrol::{ClientLine, LINE_LIMIT, NodeLine, within};
use queue::signature::parse_public_key;
use queue::verdict::Role;
use std::io::BufRead;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The largest list of keys that is read.
const KEYS_LIMIT: usize = 4 << 20;

/// Take in a node by the line that nightsafe-server client add printed: its address and keys are written into the
/// configuration, and its key is let in here for the gate alone. Where this machine dials (nightsafe init --dial) nothing is let in.
///
/// Asks for the code that the node's administrator tells you by another way than the line, as by telephone.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// The line, or - to find it in the standard input.
    line: String,
    /// The code, where nobody is to be asked.
    #[arg(long)]
    code: Option<String>,
    /// Where sshd looks for keys of the account that the node logs in to. Default: .ssh/authorized_keys of this account.
    #[arg(long, value_name = "FILE", env = "NIGHTSAFE_AUTHORIZED_KEYS")]
    authorized_keys: Option<PathBuf>,
    /// Do not let the node's key in: print what is to be written, and where.
    #[arg(long)]
    print_key: bool,
}

impl Add {
    /// Runs the command.
    pub fn run(self, globals: &Globals) -> Result<Exit> {
        let config = crate::commands::load(globals)?;
        let name = config.client_name()?;
        let (answer, code) = NodeLine::parse(&self.text()?)?;
        let own = enrol::printed(&config)?.ok_or_else(|| {
            Error::usage("this machine has not printed a line yet that a node could answer")
                .hint("Run nightsafe init; what is there stays as it is.")
        })?;
        fits(&config, name, &own, &answer)?;
        // It is what the node talks to, whichever way it comes.
        enrol::gate_program()?;
        self.confirm(&answer, &code)?;
        let added = write_node(&globals.config, &config, &answer)?;
        let words = if added { "is a node of this machine now" } else { "is in the configuration already, just so" };
        output::line(format_args!("{} {words}: {}.", answer.name, answer.address));
        output::line(format_args!("The code of both sides is {code}."));
        self.let_in(globals, &answer)?;
        output::line("nightsafe config check says what works and what does not yet.");
        Ok(Exit::Done)
    }

    fn text(&self) -> Result<String> {
        if self.line != "-" {
            return Ok(self.line.clone());
        }
        let bytes = untrusted::read_bounded(std::io::stdin().lock(), 4 * LINE_LIMIT).at("read the line from", "the standard input")?;
        String::from_utf8(bytes)
            .map(|text| within(&text).to_owned())
            .map_err(|_| Error::usage("what came on the standard input is no text"))
    }

    /// The code comes from a person, and is not shown before: whoever only has to say yes does not compare.
    fn confirm(&self, answer: &NodeLine, code: &Code) -> Result<()> {
        let said = match &self.code {
            Some(said) => said.clone(),
            None if output::can_ask() && self.line != "-" => {
                output::note(format_args!(
                    "This line says that it is from {} at {}. Its administrator has a code for it; ask for that by another way than the line came.",
                    answer.name, answer.address
                ));
                output::note("The code:");
                let mut said = String::new();
                std::io::stdin().lock().read_line(&mut said).at("read from", "the terminal")?;
                said
            }
            None => {
                return Err(Error::usage("the code is missing that nightsafe-server client add printed with the line")
                    .hint("Give it with --code; it should come by another way than the line, as by telephone."));
            }
        };
        match code.compare(&said) {
            Said::Same => Ok(()),
            Said::Mistyped(few) => Err(Error::usage(format!("the code differs in {}; nothing was changed", output::count(few as u64, "letter", "letters")))
                .hint("Look at it again: it is made of 0 to 9 and of letters without i, l, o and u.")),
            Said::NoCode => Err(Error::usage("that is no code: it has 28 letters, in groups of four; nothing was changed")
                .hint("nightsafe-server client add prints it with the line.")),
            Said::Other => Err(Error::refused("the code is another one than that of this line; nothing was changed").hint(format!(
                "A line was changed on its way, or code and line are not of one answer: each time client add runs it makes both anew. If it stays so, have the node's administrator run: nightsafe-server client remove {}",
                answer.client.name
            ))),
        }
    }

    /// Lets the node's key in for the gate alone, or says what is to be written where.
    fn let_in(&self, globals: &Globals, answer: &NodeLine) -> Result<()> {
        if answer.client.reach == Reach::Dial {
            output::line(format_args!("This machine dials {}: its key is let in nowhere.", answer.name));
            return Ok(());
        }
        let line = own_line(&globals.config, &answer.name, &answer.pull_key)?;
        let account = answer.client.address.as_ref().map(|address| address.user.clone()).unwrap_or_else(enrol::account);
        let place = match &self.authorized_keys {
            _ if self.print_key => Err("you asked for it".to_owned()),
            Some(path) => Ok(path.clone()),
            None if account != enrol::account() => Err(format!("the node logs in as {account}, and this is {}", enrol::account())),
            None => keys_of_account().ok_or_else(|| "this account has no folder of its own".to_owned()),
        };
        let why = match place {
            Err(why) => why,
            Ok(path) => match append(&path, &line, &globals.config)? {
                Appended::Now => {
                    output::line(format_args!("Its key is let in for the gate alone, by {}.", path.display()));
                    return Ok(());
                }
                Appended::Before => {
                    output::line(format_args!("Its key is let in already, by {}.", path.display()));
                    return Ok(());
                }
                Appended::Not(why) => why,
            },
        };
        output::line(format_args!("Its key is not let in yet: {why}. This line belongs where sshd looks for keys of {account}:"));
        output::line(&line);
        Ok(())
    }
}

/// The line with which a node's key may run the gate here, and nothing else.
pub fn own_line(config: &Path, node: &Name, pull_key: &str) -> Result<String> {
    let config = std::path::absolute(config).at("find", config)?;
    authorized_line(&enrol::gate_program()?, &config, &Role::Export(node.clone()), &parse_public_key(pull_key)?)
}

/// Whether the configuration that a line leads to is the file `config`, by whichever way.
pub fn is_same(other: &str, config: &Path) -> bool {
    Path::new(other).canonicalize().ok().zip(config.canonicalize().ok()).is_some_and(|(other, config)| other == config)
}

/// `.ssh/authorized_keys` of the account that this runs as, where sshd looks for it.
pub fn keys_of_account() -> Option<PathBuf> {
    let user = uzers::get_user_by_uid(rustix::process::geteuid().as_raw())?;
    let home = uzers::os::unix::UserExt::home_dir(&user).to_owned();
    home.is_dir().then(|| home.join(".ssh/authorized_keys"))
}

/// Whether the answer was made for this machine, as it is now.
fn fits(config: &ClientConfig, name: &Name, own: &ClientLine, answer: &NodeLine) -> Result<()> {
    let refused = |what: String| {
        Err(Error::refused(what)
            .hint("Nothing was changed. Send the line that nightsafe init prints here to the node's administrator again."))
    };
    if answer.client.name != *name {
        return refused(format!("this line answers {}, and this machine is {name}", answer.client.name));
    }
    let signer = queue::signature::Signer::from_file(&config.key_path())?;
    if answer.client.key != crate::trust::key_text(signer.public())? {
        return refused(format!("{} has pinned another login key for {name} than this machine has", answer.name));
    }
    if answer.client.host_key.is_some() && answer.client.host_key != own.host_key {
        return refused(format!("{} has pinned another host key for {name} than this machine has", answer.name));
    }
    if answer.client.restore_key.is_some() && answer.client.restore_key != own.restore_key {
        return refused(format!("{} would let another key restore than this machine has", answer.name));
    }
    if own.reach == Reach::Dial && answer.client.reach == Reach::Ssh {
        return refused(format!("{} does not know that {name} dials, so it would never fetch anything", answer.name));
    }
    if answer.receipts_key == answer.client.key {
        return refused("its key for receipts is this machine's own".to_owned());
    }
    Ok(())
}

/// Writes `[[node]]` behind what is in the configuration; false when it is there.
fn write_node(path: &Path, config: &ClientConfig, answer: &NodeLine) -> Result<bool> {
    if let Some(known) = config.node(&answer.name) {
        let same =
            |a: &str, b: &str| parse_public_key(a).ok().zip(parse_public_key(b).ok()).is_some_and(|(a, b)| a.key_data() == b.key_data());
        let other = match () {
            () if known.ssh != answer.address => "ssh",
            () if !same(&known.host_key, &answer.host_key) => "host_key",
            () if !same(&known.receipts_key, &answer.receipts_key) => "receipts_key",
            () if known.reach != answer.client.reach => {
                let (has, change) = match known.reach {
                    Reach::Ssh => ("no reach = \"dial\"", "Write that into it"),
                    Reach::Dial => ("reach = \"dial\"", "Take that out of it"),
                };
                return Err(Error::refused(format!(
                    "the [[node]] {} in {} has {has}, and the answer says otherwise; nothing was changed",
                    answer.name,
                    path.display()
                ))
                .hint(format!("{change}, then this again.")));
            }
            () => return Ok(false),
        };
        return Err(Error::refused(format!("{} has a node {} with another {other}; nothing was changed", path.display(), answer.name))
            .hint("Take that [[node]] out first, if the node was set up anew; receipts of the old one are believed by nightsafe node trust alone."));
    }
    // A link is the administrator's own choice: the file behind it is changed.
    let real = path.canonicalize().at("find", path)?;
    let file = untrusted::read(&real, base::config::CONFIG_LIMIT)?;
    let before = String::from_utf8(file.bytes).map_err(|_| Error::usage(format!("{} is no text", path.display())))?;
    let text = with_node(&before, config, answer);
    // What was written is what was meant, or nothing is.
    let read: ClientConfig = base::config::parse(&path.display().to_string(), text.as_bytes()).map_err(|error| {
        error
            .context("the node cannot be written behind what is in the configuration")
            .hint(format!("Write it in yourself:\n{}", table(config, answer)))
    })?;
    if read.nodes.len() != config.nodes.len() + 1 || read.node(&answer.name).is_none() {
        return Err(Error::failed(format!("{} could not be changed", path.display())));
    }
    let mode = std::fs::metadata(&real).at("look at", &real)?.mode() & 0o7777;
    atomic::write(&real, text.as_bytes(), mode)?;
    Ok(true)
}

fn with_node(before: &str, config: &ClientConfig, answer: &NodeLine) -> String {
    let between = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    format!("{before}{between}\n{}", table(config, answer))
}

fn table(config: &ClientConfig, answer: &NodeLine) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let mut text = String::from("# Written by nightsafe node add.\n[[node]]\n");
    let mut field = |name: &str, value: &str| text.push_str(&format!("{name} = {}\n", quoted(value)));
    field("name", answer.name.as_str());
    field("ssh", &answer.address.to_string());
    field("host_key", &answer.host_key);
    field("receipts_key", &answer.receipts_key);
    field("pull_key", &answer.pull_key);
    if answer.client.reach == Reach::Dial {
        field("reach", "dial");
    }
    if answer.client.restore_key.is_some() {
        let ssh = answer
            .read_address
            .as_ref()
            .map(|address: &SshAddress| format!("ssh = {}, ", quoted(&address.to_string())))
            .unwrap_or_default();
        text.push_str(&format!("restore = {{ {ssh}key = {} }}\n", quoted(&enrol::restore_key_path(config).to_string_lossy())));
    }
    text
}

/// What became of a line for `authorized_keys`.
enum Appended {
    Now,
    Before,
    Not(String),
}

/// Writes `line`, which leads to the configuration `config`, behind what is in the file at `path`.
fn append(path: &Path, line: &str, config: &Path) -> Result<Appended> {
    if let Some(folder) = path.parent() {
        atomic::make_folder(folder, 0o700)?;
    }
    let (before, mode) = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (String::new(), 0o600),
        Err(error) => return Err(error).at("look at", path),
        Ok(meta) if !meta.is_file() => return Ok(Appended::Not(format!("{} is no plain file", path.display()))),
        Ok(meta) if meta.uid() != rustix::process::geteuid().as_raw() => {
            return Ok(Appended::Not(format!("{} belongs to another account", path.display())));
        }
        Ok(meta) => {
            let file = untrusted::read(path, KEYS_LIMIT)?;
            let Ok(text) = String::from_utf8(file.bytes) else {
                return Ok(Appended::Not(format!("{} is no text", path.display())));
            };
            (text, meta.mode() & 0o7777)
        }
    };
    match line_of_key(&before, line) {
        None => {}
        Some(KeyLine::Same) => return Ok(Appended::Before),
        Some(KeyLine::Gate { program, config: other, .. }) if Path::new(program).is_file() && is_same(other, config) => {
            return Ok(Appended::Before);
        }
        Some(KeyLine::Gate { line, config: other, .. }) if !is_same(other, config) => {
            return Err(Error::refused(format!("line {line} of {} lets the node's key in for another configuration, {other}", path.display()))
                .hint("sshd takes the first line with a key, so two clients of a node need an account each. If no other client has that line, remove it and run this again."));
        }
        Some(KeyLine::Gate { line, .. } | KeyLine::Other { line }) => {
            return Err(Error::refused(format!("line {line} of {} lets the node's key in with other options", path.display()))
                .hint("Remove that line and run this again: sshd takes the first line with a key."));
        }
    }
    let between = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    atomic::write(path, format!("{before}{between}{line}\n").as_bytes(), mode)?;
    Ok(Appended::Now)
}

#[cfg(test)]
#[path = "add_tests.rs"]
mod tests;
