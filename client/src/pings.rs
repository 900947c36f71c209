//! Pings: tells addresses of the configuration that a backup began, is stored or has failed, as healthchecks.io takes it.
//!
//! A thread of its own says it; nothing waits for that but the end of the process, and that not for long. What could not be
//! said is not said later: whoever listens misses it, which is what they are for.

use crate::history::History;
use crate::outcome::{Ending, OutcomeFile};
use base::config::{ClientConfig, PingUrl};
use base::text::printable;
use base::{Dataset, Error, Reason, Result};
use queue::pool::{ClientPool, PoolFile};
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
enum Event {
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
fn urls<'a>(config: &'a ClientConfig, dataset: &Dataset) -> impl Iterator<Item = &'a PingUrl> {
    config.listed(dataset).and_then(|entry| entry.ping.as_ref()).into_iter().chain(&config.ping)
}

/// What is told of how a request has ended, and to whom. What is asked for again by itself has not failed, and no dataset is well
/// that fails at another node, nor a client of which any dataset fails: `asked` is what is not finished, `histories` are all nodes'.
fn at_end<'a>(config: &'a ClientConfig, outcome: &OutcomeFile, asked: &[PoolFile], histories: &[History]) -> Vec<(&'a PingUrl, Event)> {
    let dataset = &outcome.dataset;
    let urls = urls(config, dataset);
    match outcome.outcome {
        Ending::Cancelled => Vec::new(),
        Ending::Failed | Ending::Refused => {
            let again = |file: &PoolFile| {
                file.node == outcome.node && file.reason == Reason::Heal && file.dataset().is_ok_and(|other| other == *dataset)
            };
            if asked.iter().any(again) {
                return Vec::new();
            }
            let reason = outcome.reason.as_deref().unwrap_or("no reason was given");
            let words = format!("{dataset} to {}: {}: {reason}", outcome.node, outcome.outcome.words());
            urls.map(|url| (url, Event::Fail(words.clone()))).collect()
        }
        Ending::Stored => {
            let past = histories.iter().flat_map(|history| &history.datasets);
            let failing: Vec<&Dataset> = past.filter(|(_, past)| past.failing_since.is_some()).map(|(dataset, _)| dataset).collect();
            let of_client = |url: &PingUrl| config.ping.as_ref() == Some(url);
            let well = |url: &&PingUrl| !failing.iter().any(|failing| of_client(url) || *failing == dataset);
            urls.filter(well).map(|url| (url, Event::Success)).collect()
        }
    }
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

    /// Tells that a request for `dataset` is being prepared.
    pub fn start(&self, config: &ClientConfig, dataset: &Dataset) {
        urls(config, dataset).for_each(|url| self.say(url, Event::Start));
    }

    /// Tells how a request has ended.
    pub fn end(&self, config: &ClientConfig, pool: &ClientPool, outcome: &OutcomeFile) {
        if urls(config, &outcome.dataset).next().is_none() {
            return;
        }
        let asked: Vec<PoolFile> = pool.unfinished().unwrap_or_default().into_iter().map(|(_, file, _)| file).collect();
        let histories: Vec<History> = config.nodes.iter().map(|node| History::wanted(config, &node.name, &asked)).collect();
        at_end(config, outcome, &asked, &histories).into_iter().for_each(|(url, event)| self.say(url, event));
    }

    /// Says it, by and by.
    fn say(&self, url: &PingUrl, event: Event) {
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
    use base::Name;

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
    #[test]
    fn no_success_while_anything_that_is_wanted_fails() {
        let text = "version = 1\nping = \"https://h/client\"\n[[dataset]]\naddress = \"files:/a\"\nping = \"https://h/a\"\n\
                    [[dataset]]\naddress = \"files:/b\"\n[[allow]]\nmodule = \"git\"\nunder = \"/srv\"\n";
        let config: ClientConfig = base::config::parse("c", text.as_bytes()).unwrap();
        let (one, two) = (Name::new("n1").unwrap(), Name::new("n2").unwrap());
        let ended = |dataset: &str, node: &Name, ending| {
            let id = base::RequestId::generate().unwrap();
            OutcomeFile::new(&id, &dataset.parse().unwrap(), node, ending).because("why")
        };
        let history = |dataset: &str, ending| {
            let mut history = History::default();
            let outcome = ended(dataset, &one, ending);
            history.datasets.entry(outcome.dataset.clone()).or_default().add(&outcome);
            history
        };
        let told = |outcome: &OutcomeFile, asked: &[PoolFile], histories: Vec<History>| {
            let histories: Vec<History> = histories.into_iter().map(|history| history.without_unwanted(&config, &one, asked)).collect();
            let told = at_end(&config, outcome, asked, &histories);
            told.into_iter().map(|(url, event)| (url.as_str().rsplit('/').next().unwrap(), event)).collect::<Vec<_>>()
        };
        let stored = ended("files:/a", &two, Ending::Stored);
        let both = vec![("a", Event::Success), ("client", Event::Success)];
        assert_eq!(told(&stored, &[], vec![history("files:/a", Ending::Stored), history("files:/b", Ending::Stored)]), both);
        assert_eq!(told(&stored, &[], vec![history("files:/a", Ending::Failed)]), [], "it fails at another node");
        assert_eq!(told(&stored, &[], vec![history("files:/b", Ending::Refused)]), both[..1], "something else fails");
        assert_eq!(told(&stored, &[], vec![history("git:/srv/x", Ending::Failed)]), both[..1], "it may be asked for");
        // Nobody asks for it any more, unless somebody does.
        assert_eq!(told(&stored, &[], vec![history("files:/gone", Ending::Failed)]), both);
        let gone = PoolFile::new(&"files:/gone".parse().unwrap(), &one, &[], Reason::Manual).unwrap();
        assert_eq!(told(&stored, &[gone], vec![history("files:/gone", Ending::Failed)]), both[..1]);
        let failed = ended("files:/b", &one, Ending::Failed);
        let words = "files:/b to n1: failed: why".to_owned();
        assert_eq!(told(&failed, &[], vec![]), [("client", Event::Fail(words))]);
        let heal = |node: &Name| PoolFile::new(&failed.dataset, node, &[], Reason::Heal).unwrap();
        assert_eq!(told(&failed, &[heal(&one)], vec![]), [], "it is sent again");
        assert_eq!(told(&failed, &[heal(&two)], vec![]).len(), 1);
        assert_eq!(told(&ended("files:/b", &one, Ending::Cancelled), &[], vec![]), []);
    }
}
