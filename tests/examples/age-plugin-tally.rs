//! A plugin of age for tests: an X25519 key behind the plugins' protocol, which counts how often it is used.
//!
//! `age-plugin-tally` alone makes a new identity. Knows nothing of Nightsafe.
//!
//! `TALLY_LOG`: a file that gets a line for each file key that was unwrapped. `TALLY_PIN`: what must be typed first.
//! `TALLY_FAILS`: what is said instead of doing anything.

use age::secrecy::ExposeSecret;
use age::{Identity, Recipient};
use age_core::format::{FileKey, Stanza};
use age_plugin::identity::IdentityPluginV1;
use age_plugin::recipient::RecipientPluginV1;
use age_plugin::{Callbacks, PluginHandler, identity, print_new_identity, recipient, run_state_machine};
use std::collections::{HashMap, HashSet};
use std::io::{Error, Result, Write};

const NAME: &str = "tally";

fn main() -> Result<()> {
    if let Some(machine) = std::env::args().nth(1).and_then(|word| word.strip_prefix("--age-plugin=").map(str::to_owned)) {
        return run_state_machine(&machine, Handler);
    }
    let key = age::x25519::Identity::generate();
    print_new_identity(NAME, key.to_string().expose_secret().as_bytes(), key.to_public().to_string().as_bytes());
    Ok(())
}

fn fails() -> Option<String> {
    std::env::var("TALLY_FAILS").ok()
}

/// The text that a recipient or an identity of this plugin holds.
fn held<T: std::str::FromStr>(name: &str, bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok().filter(|_| name == NAME)?.parse().ok()
}

struct Handler;

impl PluginHandler for Handler {
    type RecipientV1 = Wrap;
    type IdentityV1 = Unwrap;

    fn recipient_v1(self) -> Result<Wrap> {
        Ok(Wrap(Vec::new()))
    }

    fn identity_v1(self) -> Result<Unwrap> {
        Ok(Unwrap(Vec::new()))
    }
}

struct Wrap(Vec<age::x25519::Recipient>);

impl RecipientPluginV1 for Wrap {
    fn add_recipient(&mut self, index: usize, name: &str, bytes: &[u8]) -> std::result::Result<(), recipient::Error> {
        let wrong = || recipient::Error::Recipient { index, message: "that is no key of mine".into() };
        self.0.push(held(name, bytes).ok_or_else(wrong)?);
        Ok(())
    }

    fn add_identity(&mut self, index: usize, _name: &str, _bytes: &[u8]) -> std::result::Result<(), recipient::Error> {
        Err(recipient::Error::Identity { index, message: "give the recipient".into() })
    }

    fn labels(&mut self) -> HashSet<String> {
        HashSet::new()
    }

    fn wrap_file_keys(
        &mut self,
        keys: Vec<FileKey>,
        _callbacks: impl Callbacks<recipient::Error>,
    ) -> Result<std::result::Result<Vec<Vec<Stanza>>, Vec<recipient::Error>>> {
        if let Some(message) = fails() {
            return Ok(Err(vec![recipient::Error::Internal { message }]));
        }
        let wrap = |key: &FileKey| -> Result<Vec<Stanza>> {
            let mut all = Vec::new();
            for recipient in &self.0 {
                for mut stanza in recipient.wrap_file_key(key).map_err(Error::other)?.0 {
                    stanza.tag = NAME.into();
                    all.push(stanza);
                }
            }
            Ok(all)
        };
        keys.iter().map(wrap).collect::<Result<Vec<_>>>().map(Ok)
    }
}

struct Unwrap(Vec<age::x25519::Identity>);

impl IdentityPluginV1 for Unwrap {
    fn add_identity(&mut self, index: usize, name: &str, bytes: &[u8]) -> std::result::Result<(), identity::Error> {
        let wrong = || identity::Error::Identity { index, message: "that is no key of mine".into() };
        self.0.push(held(name, bytes).ok_or_else(wrong)?);
        Ok(())
    }

    fn unwrap_file_keys(
        &mut self,
        files: Vec<Vec<Stanza>>,
        mut callbacks: impl Callbacks<identity::Error>,
    ) -> Result<HashMap<usize, std::result::Result<FileKey, Vec<identity::Error>>>> {
        let mut found = HashMap::new();
        for (index, stanzas) in files.into_iter().enumerate() {
            for mut stanza in stanzas.into_iter().filter(|stanza| stanza.tag == NAME) {
                stanza.tag = "X25519".into();
                let Some(Ok(key)) = self.0.iter().find_map(|identity| identity.unwrap_stanza(&stanza)) else { continue };
                let refused = |message: &str| Err(vec![identity::Error::Identity { index: 0, message: message.into() }]);
                if let Some(message) = fails() {
                    found.insert(index, refused(&message));
                    break;
                }
                if let Ok(pin) = std::env::var("TALLY_PIN") {
                    let given = callbacks.request_secret("Enter the PIN of the tally key")?;
                    if given.map_or(true, |given| given.expose_secret() != pin) {
                        found.insert(index, refused("wrong PIN"));
                        break;
                    }
                }
                if let Some(log) = std::env::var_os("TALLY_LOG") {
                    writeln!(std::fs::File::options().create(true).append(true).open(log)?, "unwrapped")?;
                }
                found.insert(index, Ok(key));
                break;
            }
        }
        Ok(found)
    }
}
