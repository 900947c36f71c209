//! Whom keys and plugins may ask for a passphrase, a PIN or a touch.
//!
//! Does not know how a person is asked; the programs bring that along.

use age::secrecy::SecretString;
use std::sync::Arc;

/// A person at the keyboard, or whatever stands for one. Texts that come from plugins are made printable before.
pub trait Ask: Send + Sync {
    /// Shows a message, such as that a key is to be touched.
    fn say(&self, message: &str);

    /// Asks for a yes or a no; `None` when nobody can be asked.
    fn confirm(&self, question: &str, yes: &str, no: Option<&str>) -> Option<bool>;

    /// Asks for a line that is no secret; `None` when nobody can be asked.
    fn line(&self, what: &str) -> Option<String>;

    /// Asks for a passphrase or a PIN; `what` names what it is for. `None` when nobody can be asked.
    fn secret(&self, what: &str) -> Option<SecretString>;
}

/// Nobody is there: backups are made without a person.
#[derive(Debug, Clone, Copy)]
pub struct Nobody;

impl Ask for Nobody {
    fn say(&self, message: &str) {
        tracing::info!("{message}");
    }

    fn confirm(&self, _question: &str, _yes: &str, _no: Option<&str>) -> Option<bool> {
        None
    }

    fn line(&self, _what: &str) -> Option<String> {
        None
    }

    fn secret(&self, _what: &str) -> Option<SecretString> {
        None
    }
}

/// What a plugin is given to ask by.
#[derive(Clone)]
pub(super) struct ForPlugin {
    pub(super) ask: Arc<dyn Ask>,
    /// `age-plugin-NAME`, so that people know who asks.
    pub(super) program: String,
}

impl ForPlugin {
    fn named(&self, text: &str) -> String {
        format!("{}: {}", self.program, base::text::printable(text.trim()))
    }
}

impl age::Callbacks for ForPlugin {
    fn display_message(&self, message: &str) {
        // The library itself says after ten seconds that the plugin has not answered, in a text that it looks up.
        self.ask.say(&self.named(message));
    }

    fn confirm(&self, message: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        let (yes, no) = (base::text::printable(yes), no.map(base::text::printable));
        self.ask.confirm(&self.named(message), &yes, no.as_deref())
    }

    fn request_public_string(&self, description: &str) -> Option<String> {
        self.ask.line(&self.named(description))
    }

    fn request_passphrase(&self, description: &str) -> Option<SecretString> {
        self.ask.secret(&self.named(description))
    }
}

/// What a plugin said was wrong, in its own words.
pub(super) fn plugin_words(error: &impl std::fmt::Display) -> String {
    // The library's translations put marks for the direction of writing around names.
    let text: String = error.to_string().chars().filter(|c| !matches!(c, '\u{2066}'..='\u{2069}')).collect();
    base::text::printable(text.trim())
}

/// The error for a plugin that is not there.
pub(super) fn no_plugin(name: &str) -> base::Error {
    let path = std::env::var("PATH").unwrap_or_default();
    // The path is part of the message: it is another one under cron and systemd than at a terminal.
    let path = base::text::printable(&path);
    base::Error::usage(format!("the program age-plugin-{name} is not on the search path ({path})"))
        .hint("Install the plugin in one of these folders, or run this with the plugin's own in PATH.")
}
