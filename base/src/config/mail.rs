//! The table `[mail]` of both configurations: who is told when something goes wrong for good, and by which way.
//!
//! Holds no secret, only the path to one. Sends nothing.

use crate::error::{Error, Result};
use crate::{DayTime, Span};
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Mails to administrators.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailConfig {
    /// Who gets them: plain addresses.
    pub to: Vec<String>,
    /// The sender's address. Default: `nightsafe@` and this machine's name.
    pub from: Option<String>,
    /// A mail server. Without it, `sendmail` is used.
    pub smtp: Option<SmtpConfig>,
    /// A program that takes a mail as sendmail does. Default: `/usr/sbin/sendmail`.
    pub sendmail: Option<PathBuf>,
    /// How long the other side may be unreachable before that is worth a mail. Default: 26 h.
    #[serde(default = "default_alert_after")]
    pub alert_after: Span,
    /// How often a mail says how everything stands: `daily`, or `weekly:mon` and so on. Default: none does.
    pub digest: Option<DigestTime>,
    /// When it does, by the machine's own time. Default: `"07:00"`.
    pub at: Option<DayTime>,
}

fn default_alert_after() -> Span {
    Span(Duration::from_secs(26 * 3600))
}

/// On which days a digest goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum DigestTime {
    /// Every day.
    Daily,
    /// On one day of the week.
    Weekly(Weekday),
}

/// The days of the week, as they are written and said.
const DAYS: [(&str, &str, Weekday); 7] = [
    ("mon", "Monday", Weekday::Monday),
    ("tue", "Tuesday", Weekday::Tuesday),
    ("wed", "Wednesday", Weekday::Wednesday),
    ("thu", "Thursday", Weekday::Thursday),
    ("fri", "Friday", Weekday::Friday),
    ("sat", "Saturday", Weekday::Saturday),
    ("sun", "Sunday", Weekday::Sunday),
];

impl DigestTime {
    /// How much time is between two.
    pub fn every(self) -> SignedDuration {
        SignedDuration::from_hours(if self == Self::Daily { 24 } else { 7 * 24 })
    }

    /// The last moment up to and with `now` at which one goes.
    pub fn last(self, at: DayTime, now: Timestamp, zone: &TimeZone) -> Timestamp {
        let mut time = at.last(now, zone);
        if let Self::Weekly(day) = self {
            for _ in 0..7 {
                if zone.to_datetime(time).weekday() == day {
                    break;
                }
                let before = time.checked_sub(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MIN);
                time = at.last(before, zone);
            }
        }
        time
    }
}

impl FromStr for DigestTime {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            || Error::usage(format!("{text:?} is no time for a digest; write \"daily\", or \"weekly:mon\" and so on to \"weekly:sun\""));
        if text == "daily" {
            return Ok(Self::Daily);
        }
        let day = text.strip_prefix("weekly:").and_then(|day| DAYS.iter().find(|(short, ..)| *short == day));
        day.map(|(.., day)| Self::Weekly(*day)).ok_or_else(wrong)
    }
}

impl TryFrom<String> for DigestTime {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl fmt::Display for DigestTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Daily => f.write_str("daily"),
            Self::Weekly(day) => {
                let name = DAYS.iter().find(|(.., known)| known == day).map_or("the same day", |(_, name, _)| name);
                write!(f, "every week on {name}")
            }
        }
    }
}

/// A mail server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmtpConfig {
    /// Its name, which its certificate must hold.
    pub host: String,
    /// Its port. Default: 587, with `tls = "tls"` 465, with `tls = "none"` 25.
    pub port: Option<u16>,
    /// How the connection is kept private.
    #[serde(default)]
    pub tls: Tls,
    /// The login.
    pub user: Option<String>,
    /// A file with the login's password and nothing else, which nobody else may read.
    pub password_file: Option<PathBuf>,
    /// A file with the certificates (PEM) that vouch for the server. Default: those of the system.
    pub ca: Option<PathBuf>,
}

/// How a connection to a mail server is kept private.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// STARTTLS, without which nothing is sent.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// Not at all; a login is not possible then.
    None,
}

impl MailConfig {
    /// When digests go.
    pub fn digest_at(&self) -> DayTime {
        self.at.unwrap_or(DayTime::at(7, 0))
    }

    /// Checks what the types do not say.
    pub(super) fn check(&self) -> Result<()> {
        if self.to.is_empty() {
            return Err(Error::usage("[mail] has an empty to, so nobody would get a mail").hint("Write to = [\"root@example.org\"]."));
        }
        for address in self.to.iter().chain(&self.from) {
            let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic() && !b"<>(),;:\\\"".contains(&b));
            if address.starts_with('-') || !address.rsplit_once('@').is_some_and(|(name, host)| plain(name) && plain(host)) {
                return Err(Error::usage(format!("[mail] has {address:?}, which is no mail address; write NAME@HOST")));
            }
        }
        if self.at.is_some() && self.digest.is_none() {
            return Err(Error::usage("[mail] has at, which is when digests go, and no digest")
                .hint("Write digest = \"daily\" or \"weekly:mon\", or take at out."));
        }
        if self.smtp.is_some() && self.sendmail.is_some() {
            return Err(Error::usage("[mail] has both smtp and sendmail").hint("Take one of them out."));
        }
        let Some(smtp) = &self.smtp else {
            return match &self.sendmail {
                Some(program) if !program.is_absolute() => Err(Error::usage("sendmail in [mail] must be an absolute path")),
                _ => Ok(()),
            };
        };
        if smtp.host.is_empty()
            || smtp.host.starts_with('-')
            || !smtp.host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:".contains(&b))
        {
            return Err(Error::usage(format!("host in [mail] smtp is {:?}, which is no host's name", smtp.host)));
        }
        for (field, path) in [("password_file", &smtp.password_file), ("ca", &smtp.ca)] {
            if path.as_ref().is_some_and(|path| !path.is_absolute()) {
                return Err(Error::usage(format!("{field} in [mail] smtp must be an absolute path")));
            }
        }
        if smtp.user.is_some() != smtp.password_file.is_some() {
            return Err(Error::usage("[mail] smtp needs both user and password_file, or neither"));
        }
        if smtp.tls == Tls::None && (smtp.user.is_some() || smtp.ca.is_some()) {
            return Err(Error::usage("[mail] smtp has tls = \"none\" and a login, which anybody on the way could read")
                .hint("Take tls out; then STARTTLS is used, and nothing is sent without it."));
        }
        Ok(())
    }
}

impl SmtpConfig {
    /// The port that is meant.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            Tls::Starttls => 587,
            Tls::Tls => 465,
            Tls::None => 25,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_tables_are_refused() {
        let check = |text: &str| {
            let config: MailConfig = toml::from_str(text).map_err(|e| Error::usage(e.to_string()))?;
            config.check()
        };
        for good in [
            "to = [\"root@example.org\"]",
            "to = [\"root@localhost\", \"a+b@c\"]\nfrom = \"x@y\"\nsendmail = \"/usr/sbin/sendmail\"\nalert_after = \"2d\"",
            "to = [\"a@b\"]\nsmtp = { host = \"mail.example.org\", user = \"u\", password_file = \"/p\", ca = \"/ca\", port = 2525 }",
            "to = [\"a@b\"]\nsmtp = { host = \"127.0.0.1\", tls = \"none\" }",
            "to = [\"a@b\"]\ndigest = \"daily\"\nat = \"23:59\"",
            "to = [\"a@b\"]\ndigest = \"weekly:sun\"",
        ] {
            check(good).unwrap_or_else(|error| panic!("{good}: {}", error.one_line()));
        }
        for bad in [
            "to = []",
            "to = [\"root\"]",
            "to = [\"a@b\\nBcc: c@d\"]",
            "to = [\"-oQ/tmp@b\"]",
            "to = [\"A <a@b>\"]",
            "to = [\"a@b,c@d\"]",
            "to = [\"a@b\"]\nsmtp = { host = \"h\", password = \"x\" }",
            "to = [\"a@b\"]\nsmtp = { host = \"h\", user = \"x\" }",
            "to = [\"a@b\"]\nsmtp = { host = \"h\", user = \"x\", password_file = \"p\" }",
            "to = [\"a@b\"]\nsmtp = { host = \"h\", user = \"x\", password_file = \"/p\", tls = \"none\" }",
            "to = [\"a@b\"]\nsmtp = { host = \"h h\" }",
            "to = [\"a@b\"]\nsmtp = { host = \"h\" }\nsendmail = \"/s\"",
            "to = [\"a@b\"]\nsendmail = \"sendmail\"",
            "to = [\"a@b\"]\nalert_after = \"soon\"",
            "to = [\"a@b\"]\ndigest = \"hourly\"",
            "to = [\"a@b\"]\ndigest = \"weekly:Monday\"",
            "to = [\"a@b\"]\ndigest = \"weekly\"",
            "to = [\"a@b\"]\ndigest = \"daily\"\nat = \"7\"",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
