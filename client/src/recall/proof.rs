//! The chain of proof for one snapshot: from a client's signature down to the bytes that are read back.
//!
//! Everything that a restore uses comes out of here; what a node says beside it is only shown.

use super::choose::Offered;
use super::source::Source;
use crate::trust;
use archive::manifest::Manifest;
use base::clock::ago;
use base::config::ClientConfig;
use base::{At, Blake3, Claim, Error, Name, Payload, Result, Sha256};
use queue::AllowedSigners;
use queue::prove::Expect;
use queue::signature::{PublicKey, parse_public_key, read_commit};
use std::path::Path;

/// Whose signatures count.
#[derive(Debug)]
pub enum Signers {
    /// A keyholder's own list.
    List(AllowedSigners),
    /// On a client without a list: its own key, for its own data.
    Own(Name, PublicKey),
}

impl Signers {
    /// The list in `file`, or this client's own key.
    ///
    /// # Errors
    /// Of kind usage when there is neither.
    pub fn load(config: Option<&ClientConfig>, file: Option<&Path>) -> Result<Self> {
        if let Some(file) = file {
            return AllowedSigners::load(file).map(Self::List);
        }
        let missing = || {
            Error::usage("nobody's signature is trusted").hint(
                "Give a list of allowed signers with --signers or NIGHTSAFE_SIGNERS: a line CLIENT namespaces=\"git\" KEY for each client.",
            )
        };
        let config = config.ok_or_else(missing)?;
        let name = config.name.clone().ok_or_else(missing)?;
        let path = config.key_path().with_extension("pub");
        if !path.exists() {
            return Err(missing());
        }
        let text = std::fs::read_to_string(&path).at("read", &path)?;
        Ok(Self::Own(name, parse_public_key(&text)?))
    }

    fn keys(&self, client: &Name) -> Vec<PublicKey> {
        match self {
            Self::List(list) => list.keys(client),
            Self::Own(name, key) if name == client => vec![key.clone()],
            Self::Own(..) => Vec::new(),
        }
    }
}

/// What the client has signed for, checked.
pub enum Content {
    /// An archive.
    Archive(Box<Manifest>),
    /// A git repository's list of refs.
    Refs(Vec<u8>),
    /// Nothing is carried.
    Nothing,
}

/// A snapshot that is what its client signed.
pub struct Proven {
    /// What was signed.
    pub claim: Claim,
    /// What the signature leads to.
    pub content: Content,
    /// What the node says of it.
    pub offered: Offered,
}

impl Proven {
    /// What is about to be read, in one line: signed time, number and age.
    pub fn describe(&self) -> String {
        let claim = &self.claim;
        format!(
            "{}:{} as of {} ({} ago, signed by {} as number {}; accepted {} as {})",
            claim.client,
            claim.dataset,
            claim.submitted,
            ago(claim.submitted),
            claim.client,
            claim.seq,
            self.offered.received,
            claim.id
        )
    }
}

/// Proves the snapshot that a listing offers, from the signed commit down to the manifest or the refs.
///
/// # Errors
/// Of kind refused, naming what does not verify.
pub fn prove(source: &Source, offered: &Offered, signers: &Signers) -> Result<Proven> {
    let claim = claim(source, offered, signers)?;
    prove_content(source, offered, claim)
}

/// Proves the request of a snapshot: signature, tree and request, and that they are those of the listing.
///
/// # Errors
/// As [`prove`].
pub fn claim(source: &Source, offered: &Offered, signers: &Signers) -> Result<Claim> {
    let raw = source.proof(&offered.client, &offered.snapshot)?;
    let expect = Expect {
        client: Some(offered.client.clone()),
        node: source.node().cloned(),
        dataset: Some(offered.dataset.clone()),
        id: Some(offered.snapshot.clone()),
    };
    queue::prove(&raw, &|client| signers.keys(client), &expect)
        .map_err(|error| refused(explain(error, &raw.commit, &offered.client, signers), offered))
}

/// Proves what a proven request leads to.
///
/// # Errors
/// As [`prove`].
pub fn prove_content(source: &Source, offered: &Offered, claim: Claim) -> Result<Proven> {
    let bytes = source.content(&offered.client, &offered.snapshot, &claim.payload)?;
    let content = check_content(&claim, bytes).map_err(|error| refused(error, offered))?;
    Ok(Proven { claim, content, offered: offered.clone() })
}

fn refused(error: Error, offered: &Offered) -> Error {
    error.context(format!("the snapshot {} of {}:{} does not verify", offered.snapshot, offered.client, offered.dataset))
}

/// Adds what to do where the signature is right but its key is not known for this client.
fn explain(error: Error, commit: &[u8], client: &Name, signers: &Signers) -> Error {
    let known = signers.keys(client);
    let stranger = read_commit(commit).is_ok_and(|signed| known.iter().all(|key| key.key_data() != signed.key.key_data()));
    match signers {
        _ if !stranger => error,
        Signers::List(_) => error
            .hint("If the client has a new key, add it to the list of allowed signers, from the client itself and never from the node."),
        Signers::Own(name, key) => {
            error.hint(format!("Only {name}'s own key {} is trusted here; --signers names others.", trust::fingerprint(key)))
        }
    }
}

/// Whether `bytes` are what the claim's signature covers, and say the same as the claim.
fn check_content(claim: &Claim, bytes: Vec<u8>) -> Result<Content> {
    match claim.payload {
        Payload::Nothing => Ok(Content::Nothing),
        Payload::Refs(digest) if Sha256::of(&bytes) == digest => Ok(Content::Refs(bytes)),
        Payload::Refs(digest) => Err(Error::refused(format!("its list of refs is not the one that was signed ({digest})"))),
        Payload::Manifest(digest) if Blake3::of(&bytes) != digest => {
            Err(Error::refused(format!("its manifest is not the one that was signed ({digest})")))
        }
        Payload::Manifest(_) => {
            let manifest = Manifest::parse(&bytes)?;
            let public = &manifest.public;
            let same =
                public.id == claim.id && public.client == claim.client && public.node == claim.node && public.dataset == claim.dataset;
            if same { Ok(Content::Archive(Box::new(manifest))) } else { Err(Error::refused("its manifest is of another request")) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recall::testing;

    fn claim(payload: Payload) -> Claim {
        Claim { payload, ..testing::claim("20261120T031500Z-3f9a1c7e".parse().unwrap(), "git:/a", 1) }
    }

    #[test]
    fn content_must_have_the_signed_digest() {
        let refs = b"HEAD -\n".to_vec();
        let signed = claim(Payload::Refs(Sha256::of(&refs)));
        assert!(matches!(check_content(&signed, refs).unwrap(), Content::Refs(_)));
        assert!(check_content(&signed, b"HEAD -".to_vec()).is_err());
        assert!(check_content(&claim(Payload::Manifest(Blake3::of(b"x"))), b"y".to_vec()).is_err());
        assert!(check_content(&claim(Payload::Manifest(Blake3::of(b"x"))), b"x".to_vec()).is_err());
    }

    #[test]
    fn a_client_trusts_itself_alone() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
        let own = Signers::Own(Name::new("web1").unwrap(), parse_public_key(key).unwrap());
        assert_eq!(own.keys(&Name::new("web1").unwrap()).len(), 1);
        assert!(own.keys(&Name::new("web2").unwrap()).is_empty());
        assert_eq!(Signers::load(None, None).unwrap_err().kind(), base::Kind::Usage);
    }
}
