//! Asking over HTTP as plainly as can be: one request, one connection, everything that comes back.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub asked: String,
    /// 0 when the connection ended before anything came.
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Far more than any answer takes.
const PATIENCE: Duration = Duration::from_secs(200);

/// GET from a loopback port.
pub fn get(port: u16, path: &str) -> Answer {
    ask(port, "GET", path, &[], "")
}

/// Any request. `Host` is `localhost` unless `headers` say it.
pub fn ask(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap_or_else(|error| panic!("port {port}: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    exchange(stream, method, path, headers, body)
}

/// The same, over a socket of the file system.
pub fn ask_socket(socket: &Path, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let stream = UnixStream::connect(socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display()));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    exchange(stream, method, path, headers, "")
}

fn exchange(mut stream: impl Read + Write, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    let has_host = headers.iter().any(|(name, _)| *name == "Host");
    text.push_str(if has_host { "" } else { "Host: localhost\r\n" });
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    let asked = format!("{method} {path}");
    // Whoever refuses may not read all of it.
    let _ = stream.write_all(format!("{text}\r\n{body}").as_bytes());
    let (mut bytes, mut buffer, mut ended) = (Vec::new(), [0; 65_536], Ok(0));
    // Some keep the connection open whatever they are asked.
    while !is_whole(&bytes) {
        ended = stream.read(&mut buffer);
        match ended {
            Ok(n @ 1..) => bytes.extend_from_slice(&buffer[..n]),
            _ => break,
        }
    }
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let Some(end) = end else {
        assert!(bytes.is_empty() || ended.is_err(), "{asked}: {}", String::from_utf8_lossy(&bytes));
        return Answer { asked, status: 0, head: String::new(), body: String::new() };
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut body = bytes.split_off(end + 4);
    if head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked") {
        body = joined(&body);
    }
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{asked}: {head}"));
    Answer { asked, status, head, body: String::from_utf8_lossy(&body).into_owned() }
}

/// Whether an answer that says its length is there.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    length.is_some_and(|length| bytes.len() >= end + 4 + length)
}

/// Chunks put together; what is cut off is left out.
fn joined(mut rest: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let length = std::str::from_utf8(&rest[..end]).ok().and_then(|hex| usize::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
        let chunk = &rest[end + 2..];
        if length == 0 || chunk.len() < length {
            break;
        }
        whole.extend_from_slice(&chunk[..length]);
        rest = chunk[length..].strip_prefix(b"\r\n").unwrap_or_default();
    }
    whole
}

impl Answer {
    /// It has this status.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }

    /// The page holds each of `words`.
    #[track_caller]
    pub fn shows(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.body.contains(word), "it does not show {word:?}: {self}");
        }
        self
    }

    /// Neither the page nor its head holds any of `words`.
    #[track_caller]
    pub fn hides(self, words: &[&str]) -> Self {
        for word in words {
            assert!(!self.body.contains(word) && !self.head.contains(word), "it shows {word:?}: {self}");
        }
        self
    }

    /// A header's value; empty when there is none.
    pub fn header(&self, name: &str) -> String {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).unwrap_or_default()
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short: String = self.body.chars().take(20_000).collect();
        write!(f, "{}\n{}\n\n{short}", self.asked, self.head)
    }
}
