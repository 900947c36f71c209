//! What reaches the gate: the text of the command, and the packets of sftp.

use crate::sftp_server::{Denied, Tree, converse};
use base::config::ClientConfig;
use base::{DatasetPattern, Name};
use queue::access::{AccessList, ClientGrant, NewClient, RestorerGrant};
use queue::verdict::{Grant, Role, Verb, Verdict, verdict};
use std::fs::File;
use std::io::{Read, Write};
use std::sync::OnceLock;

const CLIENT_TOML: &str = "version = 1\nname = \"web1\"\n[[dataset]]\naddress = \"git:/home/a/x.git\"\n\
    [[dataset]]\naddress = \"files:/var/www\"\n[[allow]]\nmodule = \"git\"\nunder = \"/srv/git\"\n";

/// Everybody who could come, with what they were granted.
struct Rules {
    client: ClientGrant,
    restorer: RestorerGrant,
    config: ClientConfig,
}

fn rules() -> &'static Rules {
    static RULES: OnceLock<Rules> = OnceLock::new();
    RULES.get_or_init(|| {
        let name = |text: &str| Name::new(text).expect("a name");
        let pattern = |text: &str| DatasetPattern::new(text).expect("a pattern");
        let key = |n: usize| queue::signature::parse_public_key(crate::listed::KEYS[n].1).expect("a key");
        let mut list = AccessList::first(&name("alice"), &key(0)).expect("a list");
        let new = NewClient { key: key(1), address: None, git_address: None, host_key: None, allow: vec![pattern("*")], quota: None };
        list.add_client(&name("web1"), new).expect("a client");
        let read = vec![(name("web1"), pattern("*")), (name("db"), pattern("postgres:*"))];
        let restorer = RestorerGrant { keys: Vec::new(), key_files: Vec::new(), read };
        let config = base::config::parse("client.toml", CLIENT_TOML.as_bytes()).expect("a configuration");
        Rules { client: list.clients[&name("web1")].clone(), restorer, config }
    })
}

/// The gate's command. The first byte chooses whose key it is, the rest is the text; without a rest there is no command.
/// Whatever is run is something that this key was granted.
pub fn command(bytes: &[u8]) {
    let Some((who, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let (rules, web1) = (rules(), Name::new("web1").expect("a name"));
    let (role, grant) = match who % 6 {
        0 => (Role::Client(web1), Grant::Client(&rules.client)),
        1 => (Role::Admin(web1), Grant::Admin),
        2 => (Role::Restorer(web1), Grant::Restorer(&rules.restorer)),
        3 => (Role::Export(web1), Grant::Export(&rules.config)),
        4 => (Role::Client(web1), Grant::Absent),
        _ => (Role::Restorer(web1), Grant::Admin),
    };
    let granted = match verdict(&role, &grant, Some(text).filter(|text| !text.is_empty())) {
        Verdict::Refuse(why) => {
            assert!(!why.is_empty() && !why.chars().any(char::is_control), "{why:?}");
            return;
        }
        Verdict::Run(verb) => (who % 6, verb),
    };
    let hex = |text: &str, digits| text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let good = match &granted {
        (0..=3, Verb::Ping) => text == "ping",
        (0, Verb::ReceivePackQueue) => text.starts_with("git-receive-pack "),
        (0, Verb::UploadPackQueue | Verb::UploadPackReceipts) => text.starts_with("git-upload-pack "),
        (0, Verb::ReceiptsWait(oid)) => hex(oid, 40),
        (1, Verb::ReceivePackAdmin | Verb::UploadPackAdmin) => text.contains("'admin'") || text.contains("'/admin'"),
        (2, Verb::List | Verb::Sftp) | (3, Verb::Sftp) => matches!(text, "list" | "sftp"),
        (2, Verb::UploadPackMirror { client, hex: mirror }) => hex(mirror, 32) && ["web1", "db"].contains(&client.as_str()),
        (2, Verb::UploadPackLog(client) | Verb::UploadPackReceiptsOf(client)) => client.as_str() == "web1",
        (3, Verb::UploadPackPath(dataset)) => {
            let path = dataset.path();
            dataset.module() == "git"
                && (["/home/a/x.git", "/srv/git"].contains(&path) || path.starts_with("/srv/git/"))
                && path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."))
        }
        _ => false,
    };
    assert!(good, "{granted:?} for {text:?}");
}

/// One file, under one name.
struct OneFile<'a>(&'a File);

impl Tree for OneFile<'_> {
    fn open(&mut self, name: &str) -> Result<File, Denied> {
        assert!(!name.is_empty() && !name.contains('\0') && !name.starts_with('/'), "{name:?}");
        if name == "pack" { self.0.try_clone().map_err(|_| Denied::Forbidden) } else { Err(Denied::Absent) }
    }
}

/// Bytes that come a few at a time.
struct Slowly<'a>(&'a [u8], usize);

impl Read for Slowly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.1.min(self.0.len()).min(buffer.len());
        buffer[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

/// A conversation with the sftp server. The first byte says in what pieces the rest arrives; that changes no answer. Each
/// answer is a whole packet, and there are no more of them than questions.
pub fn sftp(bytes: &[u8]) {
    static FILE: OnceLock<File> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"what is in the pack").expect("written");
        file
    });
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let answers = |piece: usize| {
        let mut said = Vec::new();
        let done = converse(&mut OneFile(file), &mut Slowly(bytes, piece), &mut said);
        (done.map_err(|error| error.to_string()), said)
    };
    let (whole, pieces) = (answers(usize::MAX), answers(usize::from(*piece).max(1)));
    assert_eq!(whole.0, pieces.0, "the end is the same in any pieces");
    // What was asked before a mistake may be answered or not.
    assert!(whole.0.is_err() || whole.1 == pieces.1, "the answers are the same in any pieces");
    assert!(packets(&whole.1) <= packets_at_most(bytes), "no answer without a question");
}

/// How many packets these are, all of them whole.
fn packets(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some((head, rest)) = bytes.split_first_chunk::<4>() {
        bytes = rest.get(u32::from_be_bytes(*head) as usize..).expect("an answer is as long as it says");
        count += 1;
    }
    assert!(bytes.is_empty(), "an answer is cut off");
    count
}

fn packets_at_most(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some((head, rest)) = bytes.split_first_chunk::<4>() {
        count += 1;
        let Some(rest) = rest.get(u32::from_be_bytes(*head) as usize..) else { break };
        bytes = rest;
    }
    count
}
