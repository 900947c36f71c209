//! Pings: tells addresses of the configuration that a backup began, is stored or has failed, as healthchecks.io takes it.
//!
//! A thread of its own says it; nothing waits for that but the end of the process, and that not for long. What could not be
//! said is not said later: whoever listens misses it, which is what they are for.

use base::config::{ClientConfig, PingUrl};
use base::text::printable;
use base::{Dataset, Error, Result};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// How long one call may take, and how long the end of the process waits for all that are left.
const CALL: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(15);

/// So many wait; what comes on top is not said.
const WAITING: usize = 1000;

/// The longest reason that goes along, in characters.
const WORDS: usize = 10_000;

/// What happened to a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is being prepared.
    Start,
    /// The node keeps it.
    Success,
    /// It failed for good, or was refused, with the reason.
    Fail(String),
}

impl Event {
    /// What is called, and with which words.
    fn call(self, url: &PingUrl) -> (String, String) {
        let url = url.as_str();
        match self {
            Self::Start => (format!("{url}/start"), String::new()),
            Self::Success => (url.to_owned(), String::new()),
            Self::Fail(words) => (format!("{url}/fail"), printable(&words).chars().take(WORDS).collect()),
        }
    }
}

/// The addresses that hear of `dataset`: its own, and the client's.
pub fn urls<'a>(config: &'a ClientConfig, dataset: &Dataset) -> impl Iterator<Item = &'a PingUrl> {
    config.listed(dataset).and_then(|entry| entry.ping.as_ref()).into_iter().chain(&config.ping)
}

/// The thread that says it.
#[derive(Debug)]
pub struct Pings {
    sender: Option<SyncSender<(String, String)>>,
    ended: Mutex<Receiver<()>>,
}

impl Pings {
    /// A thread where the configuration names an address; otherwise nothing is ever said.
    pub fn of(config: &ClientConfig) -> Self {
        let (done, ended) = sync_channel::<()>(0);
        let wanted = config.ping.is_some() || config.datasets.iter().any(|entry| entry.ping.is_some());
        let sender = wanted.then(|| {
            let (sender, calls) = sync_channel::<(String, String)>(WAITING);
            std::thread::spawn(move || {
                // Hung up when the last call is made.
                let _done = done;
                let mut agent = None;
                for (url, words) in calls {
                    if let Err(error) = say(&mut agent, &url, &words) {
                        tracing::warn!("{}", error.one_line());
                    }
                }
            });
            sender
        });
        Self { sender, ended: Mutex::new(ended) }
    }

    /// Says it, by and by.
    pub fn say(&self, url: &PingUrl, event: Event) {
        let Some(sender) = &self.sender else { return };
        if sender.try_send(event.call(url)).is_err() {
            tracing::warn!("a ping is left out: {WAITING} wait already");
        }
    }
}

impl Drop for Pings {
    /// Lets what waits be said, for a while.
    fn drop(&mut self) {
        if self.sender.take().is_none() {
            return;
        }
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("pings are left out: they took longer than {} s", PATIENCE.as_secs());
        }
    }
}

/// Calls `url`. The address is a secret of its kind, so that errors name its host alone.
fn say(agent: &mut Option<Agent>, url: &str, words: &str) -> Result<()> {
    let begun = Instant::now();
    let agent = agent.get_or_insert_with(|| Agent::new_with_config(settings()));
    let host = url.split('/').nth(2).unwrap_or_default();
    let failed = |error: ureq::Error| Error::failed(format!("a ping to {host} was not taken: {error}"));
    agent.post(url).send(words).map_err(failed)?;
    tracing::debug!("a ping to {host} took {} ms", begun.elapsed().as_millis());
    Ok(())
}

fn settings() -> ureq::config::Config {
    // The system's authorities, as for mails: whoever runs a server of their own has put its authority there.
    let found = rustls_native_certs::load_native_certs();
    let roots: Vec<Certificate<'static>> = found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    Agent::config_builder()
        .timeout_global(Some(CALL))
        .timeout_connect(Some(CONNECT))
        .max_redirects(2)
        .user_agent(concat!("nightsafe/", env!("CARGO_PKG_VERSION")))
        .tls_config(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots)).build())
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hears_of_what() {
        let text = "version = 1\nping = \"https://h/client\"\n[[dataset]]\naddress = \"files:/a\"\nping = \"https://h/a/\"\n[[dataset]]\naddress = \"files:/b\"\n";
        let config: ClientConfig = base::config::parse("c", text.as_bytes()).unwrap();
        let heard = |dataset: &str| urls(&config, &dataset.parse().unwrap()).map(PingUrl::as_str).collect::<Vec<_>>();
        assert_eq!(heard("files:/a"), ["https://h/a", "https://h/client"]);
        assert_eq!(heard("files:/b"), ["https://h/client"]);
        let url = config.ping.as_ref().unwrap();
        assert_eq!(Event::Start.call(url), ("https://h/client/start".into(), String::new()));
        assert_eq!(Event::Success.call(url).0, "https://h/client");
        let (called, words) = Event::Fail(format!("a\x1b{}", "ä".repeat(WORDS))).call(url);
        assert!(called == "https://h/client/fail" && words.starts_with("a\\u{1b}") && words.chars().count() == WORDS);
    }
}
