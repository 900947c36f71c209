//! Reading configuration files: TOML with `version = 1`, unknown fields refused, errors with file, line and field.
//!
//! Does not look for files: the commands say which one to read.

mod address;
mod around;
mod chosen;
pub mod client;
mod group;
mod mail;
pub mod node;
mod place;
mod reach;
mod watching;
mod web;

pub use address::SshAddress;
pub use around::{Commands, SnapshotWith};
pub use chosen::{AllowEntry, Choosing, DatasetEntry};
pub use client::ClientConfig;
pub use group::{GROUP, GroupEntry};
pub use mail::{DigestTime, MailConfig, SmtpConfig, Tls};
pub use node::{Floor, NodeConfig, PruneTimes, SOON, ScrubConfig};
pub use reach::Reach;
pub use watching::{MetricsFile, PingUrl};
pub use web::{About, CgitConfig, Listen, WebConfig};

use crate::error::{At, Error, Result};
use serde::de::DeserializeOwned;
use std::path::Path;

/// The version of all TOML formats that this program reads and writes.
pub const VERSION: i64 = 1;

/// The largest configuration file that is read, in bytes.
pub const CONFIG_LIMIT: usize = 1 << 20;

/// Reads a configuration file of the administrator, and holds what the types do not say against `check`.
fn load<T: DeserializeOwned>(path: &Path, check: impl FnOnce(&T) -> Result<()>) -> Result<T> {
    let file = std::fs::File::open(path).at("open the configuration", path).map_err(|e| e.with_kind(crate::Kind::Usage))?;
    let bytes = crate::untrusted::read_bounded(file, CONFIG_LIMIT).at("read", path)?;
    let config = parse(&path.display().to_string(), &bytes)?;
    check(&config).map_err(|error| unusable(path, &bytes, error))?;
    Ok(config)
}

/// An error of what a file means, with the file and, as far as its words tell, the line.
fn unusable(path: &Path, bytes: &[u8], error: Error) -> Error {
    let line = place::place(&String::from_utf8_lossy(bytes), &error.one_line());
    let line = line.map_or_else(String::new, |line| format!(", near line {line},"));
    error.context(format!("{}{line} is not usable", path.display()))
}

/// As an error of [`ClientConfig::load`] or [`NodeConfig::load`], for what is only found out later of the file at `path`.
pub fn not_usable(path: &Path, error: Error) -> Error {
    let bytes = std::fs::File::open(path).and_then(|file| crate::untrusted::read_bounded(file, CONFIG_LIMIT)).unwrap_or_default();
    unusable(path, &bytes, error)
}

/// Reads TOML with `version = 1` from `bytes`; `name` is what errors call the file.
///
/// # Errors
/// Of kind usage, with line, column and field.
pub fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    let text = std::str::from_utf8(bytes).map_err(|e| Error::usage(format!("{name} is not UTF-8 text (byte {})", e.valid_up_to())))?;
    // The version is looked at first: a newer format may have fields that we do not know.
    let table: toml::Table = toml::from_str(text).map_err(|e| describe(name, text, &e))?;
    match table.get("version") {
        Some(toml::Value::Integer(VERSION)) => {}
        Some(toml::Value::Integer(other)) => {
            return Err(Error::usage(format!("{name}: version = {other} is not known to this program, which reads version {VERSION}"))
                .hint(format!("This is nightsafe {}; read the file with the newer release that wrote it, or set version = {VERSION} if it was a slip.", env!("CARGO_PKG_VERSION"))));
        }
        Some(_) => return Err(Error::usage(format!("{name}: version must be a number; this program reads version = {VERSION}"))),
        None => {
            return Err(Error::usage(format!("{name}: there is no version")).hint(format!("Write version = {VERSION} as the first line.")));
        }
    }
    toml::from_str(text).map_err(|e| describe(name, text, &e))
}

fn describe(name: &str, text: &str, error: &toml::de::Error) -> Error {
    let message = error.message().trim().replace('\n', " ");
    // What is not there at all is nowhere: the whole file's beginning would only mislead.
    if message.starts_with("missing field") && error.span().is_none_or(|span| span.start == 0) {
        return Error::usage(format!("{name}: {message}"));
    }
    let place = error.span().map_or_else(String::new, |span| {
        let before = &text[..span.start.min(text.len())];
        let line = before.matches('\n').count() + 1;
        format!(", line {line}")
    });
    let field = error
        .span()
        .and_then(|span| text.get(..span.start).map(|before| before.rsplit('\n').next().unwrap_or("").len()).map(|column| (span, column)))
        .and_then(|(span, column)| text.get(span.start - column..)?.lines().next().map(str::trim))
        .and_then(|line| without_address(line, &message))
        .map_or_else(String::new, |line| format!(" (in `{}`)", line.chars().take(120).collect::<String>()));
    let wrong = Error::usage(format!("{name}{place}: {message}{field}"));
    if message.starts_with("unknown field") {
        let near = nearest(&message).map(|near| format!("Did you mean {near}? ")).unwrap_or_default();
        return wrong.hint(format!(
            "{near}What nightsafe {} does not know, it does not carry out: correct the name, or take it out.",
            env!("CARGO_PKG_VERSION")
        ));
    }
    meant(wrong, &message)
}

/// The error, with a hint at the allowed names that are most like the wrong one in serde's `message`, where there are such.
pub fn meant(error: Error, message: &str) -> Error {
    match nearest(message) {
        Some(near) => error.hint(format!("Did you mean {near}?")),
        None => error,
    }
}

/// A line of a configuration as it may be shown: what `ping` says is as good as a password, and this ends in mails of cron's.
/// Nothing where the line is all address.
fn without_address<'a>(line: &'a str, message: &str) -> Option<&'a str> {
    let is_key = |part: &str| part.trim_start_matches([' ', '\t', '"', '\'']).starts_with("ping");
    let end = match line.find("://") {
        // An address that is none may lack just this.
        _ if message.starts_with("ping is no usable address") || line.split(['{', ',']).any(is_key) => line.find('='),
        Some(at) => line[..at].rfind('='),
        None => return Some(line),
    };
    end.map(|end| line[..=end].trim_end())
}

/// The allowed names that are most like the wrong one, from words as "unknown field `x`, expected one of `a`, `b`".
fn nearest(message: &str) -> Option<String> {
    let rest = message.split_once("unknown field `").or_else(|| message.split_once("unknown variant `"))?.1;
    let (wrong, rest) = rest.split_once('`')?;
    let allowed: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    let near = crate::names::nearest(wrong, allowed);
    (!near.is_empty()).then(|| near.join(" or "))
}

/// Where control sockets go when nobody says: `run` below `state` where the whole path stays short enough for a
/// socket (with the socket's name under 90 bytes), otherwise a folder of this user's.
fn runtime_folder(state: &Path) -> std::path::PathBuf {
    let near = state.join("run");
    if near.as_os_str().len() <= 60 {
        return near;
    }
    let tag = crate::Blake3::of(near.as_os_str().as_encoded_bytes()).hex();
    let uid = rustix::process::getuid().as_raw();
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) if folder.len() <= 40 => Path::new(&folder).join(format!("nightsafe-{}", &tag[..8])),
        _ => std::env::temp_dir().join(format!("nightsafe-{uid}-{}", &tag[..8])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only read")]
        version: i64,
        size: crate::ByteSize,
    }

    #[test]
    fn addresses_are_not_shown() {
        let shown = |ping: &str| {
            let text = format!("version = 1\nname = \"web1\"\nrecipients = []\n{ping}\n");
            parse::<ClientConfig>("client.toml", text.as_bytes()).unwrap_err().render()
        };
        for bad in [
            "ping = \"https://hc-ping.com/secret?x\"",
            "ping = \"https://hc-ping.com/secret",
            "ping = https://hc-ping.com/secret",
            "pingg = \"https://hc-ping.com/secret\"",
            "ping = { url = \"https://hc-ping.com/secret\" }",
            "ping = [\"https://hc-ping.com/secret\"]",
            "ping = \"\"\"\nhttps://hc-ping.com/secret",
            "ping = \"\"\"\nhttps://hc-ping.com/secret\n\"\"\"",
            "https://hc-ping.com/secret",
            "ping = \"hc-ping.com/secret\"",
            "ping = \"https:/hc-ping.com/secret\"",
            "\"ping\" = \"hc-ping.com/secret",
            "ping = \"\"\"\nhc-ping.com/secret",
            "ping = \"\"\"\nhc-ping.com/secret\n\"\"\"",
            "ping = [\n\"hc-ping.com/secret\"\n]",
            "pingg = 'hc-ping.com/secret'",
            "ping \"hc-ping.com/secret\"",
            "dataset = [{ address = \"files:/a\", ping = \"hc-ping.com/secret\" }]",
            "dataset = [{ address = \"files:/a\", ping = \"hc-ping.com/secret\", tgas = 1 }]",
            "[[dataset]]\naddress = \"files:/a\"\nping = \"hc-ping.com/secret\"",
            "[[dataset]]\naddress = \"files:/a\"\nping = \"https://hc-ping.com/a#secret\"",
        ] {
            let error = shown(bad);
            assert!(error.contains("line 4") || error.contains("line 5") || error.contains("line 6"), "{error}");
            assert!(!error.contains("secret"), "{bad}: {error}");
        }
        assert!(shown("ping = \"https://hc-ping.com/secret?x\"").contains("(in `ping =`)"), "{}", shown("ping = \"https://a?secret\""));
    }

    #[test]
    fn errors_name_line_and_field() {
        let message = |text: &str| parse::<Sample>("a.toml", text.as_bytes()).unwrap_err().one_line();
        assert_eq!(parse::<Sample>("a.toml", b"version = 1\nsize = \"1 KiB\"").unwrap().size.0, 1024);
        assert!(message("version = 1\nsize = 5").contains("line 2"), "{}", message("version = 1\nsize = 5"));
        let unknown = message("version = 1\nsize = \"1 B\"\nsise = 3");
        assert!(unknown.contains("line 3") && unknown.contains("sise") && unknown.contains("expected"), "{unknown}");
        assert!(message("version = 2\nx = 1").contains("version = 2"));
        assert!(message("size = \"1 B\"").contains("no version"));
        assert!(message("version = 1\nsize = ").contains("line 2"));
        let size = message("version = 1\nsize = \"1 XB\"");
        assert!(size.contains("no size") && size.contains("MiB"), "{size}");
        let near = parse::<Sample>("a.toml", b"version = 1\nsize = \"1 B\"\nsise = 3").unwrap_err();
        assert!(near.advice().unwrap().starts_with("Did you mean size? "), "{}", near.render());
        assert_eq!(nearest("unknown variant `startls`, expected `plain`, `starttls` or `none`").as_deref(), Some("starttls"));
        assert_eq!(nearest("unknown field `zzzzz`, expected `a`"), None);
        let missing = message("version = 1");
        assert!(missing.contains("missing field `size`") && !missing.contains("line"), "{missing}");
    }
}
