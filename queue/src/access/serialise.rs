//! From the list to text: the files of `admin.git`, and the lines that sshd reads.
//!
//! What is written is canonical: what the parser reads from it is the same list.

use super::{AccessList, KEYS, LIST, Limits, authorized_line, parse};
use crate::verdict::Role;
use base::config::Reach;
use base::{Keep, Result, Span};
use ssh_key::PublicKey;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

impl AccessList {
    /// The files of the list by their paths: `access.toml` and `keys/….pub`.
    ///
    /// # Errors
    /// When a key cannot be written.
    pub fn to_files(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut files = BTreeMap::from([(LIST.to_owned(), self.to_toml().into_bytes())]);
        for (role, keys, names) in self.owners() {
            for (key, name) in keys.iter().zip(names) {
                let line = format!("{} {}\n", parse::openssh(key)?, role.name());
                files.insert(format!("{KEYS}/{name}"), line.into_bytes());
            }
        }
        Ok(files)
    }

    /// The text of `access.toml`.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for line in &self.header {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str("version = 1\n");
        let mut defaults = String::new();
        if let Some(quota) = self.default_quota {
            field(&mut defaults, "quota", &quoted(&String::from(quota)));
        }
        limits(&mut defaults, self.default_limits);
        if let Some(ttl) = self.default_part_ttl {
            field(&mut defaults, "part_ttl", &quoted(&String::from(ttl)));
        }
        keeping(&mut defaults, self.default_keep.as_ref(), self.default_expect);
        if !defaults.is_empty() {
            text.push_str("\n[defaults]\n");
            text.push_str(&defaults);
        }
        for (name, files) in &self.admin_key_files {
            table(&mut text, "admin", name.as_str());
            field(&mut text, "keys", &array(files.iter().map(String::as_str)));
        }
        for (name, grant) in &self.clients {
            table(&mut text, "client", name.as_str());
            field(&mut text, "keys", &array(grant.key_files.iter().map(String::as_str)));
            if grant.paused {
                field(&mut text, "paused", "true");
            }
            if grant.reach == Reach::Dial {
                field(&mut text, "reach", "\"dial\"");
            }
            for (key, address) in [("address", &grant.address), ("git_address", &grant.git_address)] {
                if let Some(address) = address {
                    field(&mut text, key, &quoted(&address.to_string()));
                }
            }
            if let Some(key) = &grant.host_key {
                field(&mut text, "host_key", &quoted(key));
            }
            field(&mut text, "allow", &array(grant.allow.iter().map(base::DatasetPattern::as_str)));
            if let (Some(quota), false) = (grant.quota, grant.default_quota) {
                field(&mut text, "quota", &quoted(&String::from(quota)));
            }
            limits(&mut text, grant.limits);
            if let Some(ttl) = grant.part_ttl {
                field(&mut text, "part_ttl", &quoted(&String::from(ttl)));
            }
            keeping(&mut text, grant.keep.as_ref(), grant.expect);
            for own in &grant.keep_for {
                let _ = write!(text, "\n[[client.{}.keep_for]]\n", key(name.as_str()));
                field(&mut text, "datasets", &quoted(own.datasets.as_str()));
                keeping(&mut text, own.keep.as_ref(), own.expect);
            }
        }
        for (name, grant) in &self.restorers {
            table(&mut text, "restorer", name.as_str());
            field(&mut text, "keys", &array(grant.key_files.iter().map(String::as_str)));
            let read: Vec<_> = grant.read.iter().map(|(client, pattern)| format!("{client}:{}", pattern.as_str())).collect();
            field(&mut text, "read", &array(read.iter().map(String::as_str)));
        }
        text
    }

    /// The lines for sshd: one for each key, each with the gate as its only command.
    ///
    /// # Errors
    /// Of kind usage when a path holds something that would need quoting.
    pub fn authorized_keys(&self, gate_program: &Path, node_toml: &Path) -> Result<String> {
        let mut text = String::from("# Written by nightsafe-server from the signed access list; changes here are lost.\n");
        for (role, keys, _) in self.owners() {
            for key in keys {
                text.push_str(&authorized_line(gate_program, node_toml, &role, key)?);
                text.push('\n');
            }
        }
        Ok(text)
    }

    pub(super) fn owners(&self) -> impl Iterator<Item = (Role, &Vec<PublicKey>, &Vec<String>)> {
        let none = const { &Vec::new() };
        let admins =
            self.admins.iter().map(move |(name, keys)| (Role::Admin(name.clone()), keys, self.admin_key_files.get(name).unwrap_or(none)));
        let clients = self.clients.iter().map(|(name, grant)| (Role::Client(name.clone()), &grant.keys, &grant.key_files));
        let restorers = self.restorers.iter().map(|(name, grant)| (Role::Restorer(name.clone()), &grant.keys, &grant.key_files));
        admins.chain(clients).chain(restorers)
    }
}

fn table(text: &mut String, kind: &str, name: &str) {
    // Writing to a string cannot fail.
    let _ = write!(text, "\n[{kind}.{}]\n", key(name));
}

/// A name may hold a dot, which would begin another table.
fn key(name: &str) -> String {
    if name.contains('.') { quoted(name) } else { name.to_owned() }
}

fn limits(text: &mut String, limits: Limits) {
    let said = limits.to_toml();
    if !said.is_empty() {
        field(text, "limits", &said);
    }
}

fn keeping(text: &mut String, keep: Option<&Keep>, expect: Option<Span>) {
    if let Some(keep) = keep {
        field(text, "keep", &keep.to_string());
    }
    if let Some(expect) = expect {
        field(text, "expect", &quoted(&String::from(expect)));
    }
}

fn field(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "{name} = {value}");
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn array<'a>(items: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", items.map(quoted).collect::<Vec<_>>().join(", "))
}
