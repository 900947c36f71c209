//! What was told, kept on the disk, so that nothing is told twice and nothing is forgotten.
//!
//! A mail that could not be sent was not told: a later run tries again.

use crate::decide::{Trouble, Wrong, after, changes, compose};
use crate::send::send;
use base::config::MailConfig;
use base::{FileLock, Result, atomic, backoff, clock, config, crash, state};
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The longest such file that is read.
const LIMIT: usize = 64 << 20;

/// `mail.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    version: i64,
    /// How many mails in a row could not be sent.
    #[serde(default)]
    failures: u32,
    /// When the next one is due, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_try: Option<Timestamp>,
    /// What was told to be wrong, and not yet to be well again.
    #[serde(default)]
    wrong: BTreeMap<String, Trouble>,
}

impl Default for Told {
    fn default() -> Self {
        Self { version: config::VERSION, failures: 0, next_try: None, wrong: BTreeMap::new() }
    }
}

impl Told {
    /// Whether a mail may be sent now. A server that takes mails and does not say so gets few of them. A clock that was set
    /// back does not make us wait for longer than the longest wait there is.
    fn is_due(&self, now: Timestamp) -> bool {
        self.next_try.is_none_or(|next| next <= now || next.duration_since(now).unsigned_abs() > backoff::LONGEST)
    }

    /// A mail could not be sent.
    fn failed(self, now: Timestamp) -> Self {
        let failures = self.failures.saturating_add(1);
        let wait = SignedDuration::try_from(backoff::delay(failures, 0.0)).unwrap_or(SignedDuration::from_hours(1));
        Self { failures, next_try: now.checked_add(wait).ok(), ..self }
    }
}

/// Tells what has changed since it was told last, in one mail; nothing when nothing has. `folder` is where that is
/// remembered, `here` this machine's name, `hint` a sentence on where to look; `look` gets what was told to be wrong and
/// says what is wrong now. Another process that is at it is left alone.
///
/// # Errors
/// When it cannot be looked, the mail could not be sent, or what was told could not be written down; then a later run
/// tries again. Only the first mail in a row that could not be sent is an error, so that it is told once.
pub fn report(
    mail: &MailConfig,
    folder: &Path,
    here: &str,
    hint: &str,
    look: impl FnOnce(&BTreeMap<String, Trouble>) -> Result<Wrong>,
) -> Result<()> {
    report_at(clock::now(), mail, folder, here, hint, look)
}

fn report_at(
    now: Timestamp,
    mail: &MailConfig,
    folder: &Path,
    here: &str,
    hint: &str,
    look: impl FnOnce(&BTreeMap<String, Trouble>) -> Result<Wrong>,
) -> Result<()> {
    let path = folder.join("mail.toml");
    let Some(_lock) = FileLock::try_now(&folder.join("mail.lock"))? else { return Ok(()) };
    let told: Told = load(&path, LIMIT);
    // Under the lock: what was seen before another process told of it is no news.
    let changes = changes(&told.wrong, &look(&told.wrong)?);
    if changes.is_empty() || !told.is_due(now) {
        return Ok(());
    }
    let (subject, text) = compose(here, &changes, hint);
    // On the disk before the mail is on its way: what cannot be remembered must not be told, or it would be told at
    // every run. The new name needs no room.
    let next = folder.join("mail.toml.next");
    state::store(&next, &Told { wrong: after(&told.wrong, &changes), ..Told::default() })?;
    crash::point("remembered");
    match send(mail, here, &subject, &text) {
        Ok(()) => atomic::rename(&next, &path),
        Err(error) => {
            let error = error
                .context("a mail to the administrators could not be sent")
                .hint("It is tried again later; config check --mail sends one to try it out.");
            let first = told.failures == 0;
            state::store(&path, &told.failed(now))?;
            if first {
                return Err(error);
            }
            tracing::info!("{}", error.one_line());
            Ok(())
        }
    }
}

/// What was remembered at `path`; a damaged file is begun anew, which costs a mail too many or one digest.
pub(crate) fn load<T: DeserializeOwned + Default>(path: &Path, limit: usize) -> T {
    state::load(path, limit).unwrap_or_else(|error| {
        tracing::warn!("{} is begun anew: {}", path.display(), error.one_line());
        T::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sendmail that keeps what it gets, or fails.
    fn sendmail(folder: &Path, script: &str) -> MailConfig {
        crate::testing::sendmail(folder, script, "")
    }

    #[test]
    fn what_was_not_sent_is_tried_again_and_what_was_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        let mails = || std::fs::read_to_string(folder.join("mails")).unwrap_or_default();
        let keep = format!("echo \"$@\" >>{0}; cat >>{0}", folder.join("mails").display());
        let trouble = Trouble { since: Timestamp::UNIX_EPOCH, what: "failed".into(), why: "x\n.\nBcc: a@b".into() };
        let wrong = Wrong { things: BTreeMap::from([("files:/a".into(), trouble)]), ..Wrong::default() };
        let at = |second| Timestamp::from_second(second).unwrap();
        let tell = |config: &MailConfig, second, now: &Wrong| report_at(at(second), config, folder, "web1", "Look.", |_| Ok(now.clone()));
        let broken = sendmail(
            folder,
            "cat >/dev/null; echo try >>tries; echo no queue >&2; exit 75"
                .replace("tries", &folder.join("tries").display().to_string())
                .as_str(),
        );
        let tries = || std::fs::read_to_string(folder.join("tries")).unwrap().lines().count();
        assert!(tell(&broken, 0, &wrong).unwrap_err().one_line().contains("no queue"));
        tell(&broken, 4, &wrong).unwrap();
        assert_eq!(tries(), 1);
        tell(&broken, 5, &wrong).unwrap();
        assert_eq!(tries(), 2);
        let good = sendmail(folder, &keep);
        tell(&good, 14, &wrong).unwrap();
        assert_eq!(mails(), "");
        tell(&good, 15, &wrong).unwrap();
        tell(&good, 16, &wrong).unwrap();
        assert_eq!(mails().matches("Subject: [nightsafe web1] files:/a failed").count(), 1, "{}", mails());
        assert!(mails().starts_with("-i -f n@example.org -- root@example.org\n") && !mails().contains("\nBcc:"), "{}", mails());
        tell(&good, 17, &Wrong::default()).unwrap();
        tell(&good, 18, &Wrong::default()).unwrap();
        assert_eq!(mails().matches("Subject: ").count(), 2);
        std::fs::write(folder.join("mail.toml"), "version = ").unwrap();
        tell(&good, 19, &Wrong::default()).unwrap();
        assert_eq!(mails().matches("Subject: ").count(), 2);
        // What cannot be remembered is not told.
        std::fs::create_dir(folder.join("mail.toml.next")).unwrap();
        assert!(tell(&good, 20, &wrong).is_err() && tell(&good, 21, &wrong).is_err());
        assert_eq!(mails().matches("Subject: ").count(), 2);
    }

    #[test]
    fn a_clock_set_back_does_not_stop_mails() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let told = Told::default().failed(at(1_000_000));
        assert!(told.is_due(at(0)) && !told.is_due(at(1_000_004)) && told.is_due(at(1_000_005)));
    }

    #[test]
    fn a_sendmail_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = sendmail(dir.path(), "exit 0");
        config.sendmail = Some(dir.path().join("absent"));
        assert!(crate::send_test(&config, "web1").unwrap_err().one_line().contains("absent"));
    }
}
