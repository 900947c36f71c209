//! Manifests: what names a snapshot. A public line for the node, and a part sealed to the epoch's key.
//!
//! Does not know who signed for a manifest; its digest stands in the request.

use crate::entry::{bytes_of, newer, text_or_base64, unreadable};
use crate::epoch::{ChunkId, EpochKey, Secrets, encrypt, is_epoch_recipient};
use crate::index::PackInfo;
use crate::limits;
use crate::reference::{Member, RunId};
use base::{Blake3, Dataset, Error, Name, RequestId, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The version that this program writes and reads.
pub const VERSION: u64 = 1;

/// A manifest file: `public line ‖ sealed bytes`.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// What the node reads.
    pub public: Public,
    /// What only a keyholder reads, encrypted.
    pub sealed: Vec<u8>,
    /// The digest of the whole file, which the request names.
    pub digest: Blake3,
    // Kept as it came: the digest is over these bytes.
    line: Vec<u8>,
}

/// The public part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Public {
    /// The format's version.
    pub version: u64,
    /// The request's id.
    pub id: RequestId,
    /// The part's number, where this is no snapshot but a part of a long backup; the id has it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<u16>,
    /// Whose data it is.
    pub client: Name,
    /// The node it was made for.
    pub node: Name,
    /// The dataset.
    pub dataset: Dataset,
    /// The key that all is sealed to.
    pub epoch: EpochPublic,
    /// Every pack that the snapshot needs, old and new; of a part, those that it brings.
    pub packs: Vec<PackRef>,
    /// What some of them bring again of packs that were lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repairs: Option<Repairs>,
    /// How much it is.
    pub counts: Counts,
    /// What the sealed part must be.
    pub sealed: SealedRef,
}

/// An epoch as manifests name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochPublic {
    /// The epoch's own age recipient.
    pub recipient: String,
    /// For whom the key file was sealed: age recipients or ssh public keys, sorted.
    pub recipients: Vec<String>,
    /// An age file in base64: the epoch's identity, encrypted to `recipients`.
    pub key_file: String,
}

impl EpochPublic {
    /// The key file's bytes.
    ///
    /// # Errors
    /// When it is no base64 or too long.
    pub fn key_file_bytes(&self) -> Result<Vec<u8>> {
        if self.key_file.len() > limits::KEY_FILE / 3 * 4 + 4 {
            return Err(Error::failed("the manifest's key file is too long"));
        }
        STANDARD.decode(&self.key_file).map_err(|e| Error::failed("the manifest's key file is no base64").because(e))
    }
}

/// A pack by its name and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackRef {
    /// BLAKE3 of the pack file.
    pub digest: Blake3,
    /// Its size in bytes.
    pub size: u64,
}

/// Packs whose members have the names that they had in packs which were lost. Nothing says that they are whole, or right:
/// whoever reads them holds every file against its own digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repairs {
    /// The lost packs, in order; none of them is among the manifest's packs.
    pub of: Vec<Blake3>,
    /// Those of the manifest's packs that hold what the client still had of them, in order.
    pub packs: Vec<Blake3>,
}

/// How much a snapshot holds; nodes look at it for what is out of the ordinary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Lines of the catalog.
    pub entries: u64,
    /// Files among them.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// What could not be read, or changed while it was read.
    pub unreadable: u64,
}

/// Digest and size of the sealed part as encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedRef {
    /// BLAKE3 of the sealed bytes.
    pub digest: Blake3,
    /// How many there are.
    pub size: u64,
}

#[derive(Deserialize)]
struct Version {
    version: u64,
}

impl Manifest {
    /// Puts a manifest together: `public.packs` and `sealed.packs` are parallel, `public.sealed` is filled in here.
    ///
    /// # Errors
    /// When it would be too long.
    pub fn seal(public: Public, sealed: &Sealed, recipient: &age::x25519::Recipient) -> Result<Self> {
        Self::seal_any(public, sealed, recipient)
    }

    /// As [`Manifest::seal`], of a part.
    ///
    /// # Errors
    /// As there.
    pub fn seal_part(public: Public, sealed: &PartSealed, recipient: &age::x25519::Recipient) -> Result<Self> {
        Self::seal_any(public, sealed, recipient)
    }

    fn seal_any(mut public: Public, sealed: &impl Serialize, recipient: &age::x25519::Recipient) -> Result<Self> {
        let plain = serde_json::to_vec(sealed).map_err(|e| Error::failed("could not write the manifest").because(e))?;
        let sealed = encrypt(std::iter::once(recipient as &dyn age::Recipient), &plain)?;
        public.sealed = SealedRef { digest: Blake3::of(&sealed), size: sealed.len() as u64 };
        let mut line = serde_json::to_vec(&public).map_err(|e| Error::failed("could not write the manifest").because(e))?;
        line.push(b'\n');
        line.extend_from_slice(&sealed);
        Self::parse(&line)
    }

    /// Reads a manifest file without any key, and checks what can be checked so.
    ///
    /// # Errors
    /// With what is wrong in it.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let wrong = |why: &str| Error::failed(format!("the manifest is wrong: {why}"));
        if bytes.len() > limits::MANIFEST {
            return Err(wrong("it is longer than 64 MiB"));
        }
        let end = bytes.iter().position(|b| *b == b'\n').ok_or_else(|| wrong("its first line does not end"))?;
        let (line, sealed) = bytes.split_at(end + 1);
        let version: Version = serde_json::from_slice(line).map_err(unreadable)?;
        if version.version != VERSION {
            return Err(newer(&format!("a manifest of version {}", version.version)));
        }
        let public: Public = serde_json::from_slice(line).map_err(unreadable)?;
        if public.sealed.size != sealed.len() as u64 || public.sealed.digest != Blake3::of(sealed) {
            return Err(wrong("its sealed part is not the one that the public part names"));
        }
        if public.part != public.id.part() {
            return Err(wrong("its id and the number of its part are of different requests"));
        }
        public.epoch.key_file_bytes()?;
        if !is_epoch_recipient(&public.epoch.recipient) || public.epoch.recipients.is_empty() {
            return Err(wrong("it does not say for whom it is"));
        }
        let names: BTreeSet<_> = public.packs.iter().map(|pack| pack.digest).collect();
        if names.len() != public.packs.len() || public.packs.is_empty() || public.packs.iter().any(|pack| pack.size == 0) {
            return Err(wrong("its list of packs is empty, or names one twice"));
        }
        if public.packs.iter().try_fold(0u64, |sum, pack| sum.checked_add(pack.size)).is_none() {
            return Err(wrong("the sizes of its packs are more than there can be"));
        }
        if let Some(Repairs { of, packs }) = &public.repairs {
            let in_order = |list: &[Blake3]| !list.is_empty() && list.windows(2).all(|two| two[0] < two[1]);
            if !in_order(of)
                || !in_order(packs)
                || of.iter().any(|pack| names.contains(pack))
                || !packs.iter().all(|pack| names.contains(pack))
            {
                return Err(wrong("what it says of repairs does not fit its packs"));
            }
        }
        Ok(Self { public, sealed: sealed.to_vec(), digest: Blake3::of(bytes), line: line.to_vec() })
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.line[..], &self.sealed].concat()
    }

    /// Opens the sealed part and checks that it belongs to the public one.
    ///
    /// # Errors
    /// When the key is another one, or the parts do not fit.
    pub fn open(&self, key: &EpochKey) -> Result<Sealed> {
        if let Some(part) = self.public.part {
            let whole = self.public.id.whole();
            return Err(Error::refused(format!("this is the manifest of part {part} of {whole}, and of no snapshot")));
        }
        let plain = key.decrypt_all(&self.sealed, limits::MANIFEST).map_err(|e| e.context("could not open the manifest's sealed part"))?;
        let version: Version = serde_json::from_slice(&plain).map_err(unreadable)?;
        if version.version != VERSION {
            return Err(newer(&format!("a manifest of version {}", version.version)));
        }
        let sealed: Sealed = serde_json::from_slice(&plain).map_err(unreadable)?;
        let wrong = |why: &str| Err(Error::refused(format!("the manifest's two parts do not belong together: {why}")));
        if sealed.id != self.public.id || sealed.dataset != self.public.dataset {
            return wrong("they name different snapshots");
        }
        if sealed.packs.len() != self.public.packs.len() {
            return wrong("they name different packs");
        }
        if sealed.root.level >= limits::LEVELS {
            return wrong("the catalog has too many levels");
        }
        let mut spans: Vec<_> =
            sealed.packs.iter().map(|pack| (pack.run, pack.first, u64::from(pack.first) + u64::from(pack.frames))).collect();
        spans.sort_unstable();
        let apart = spans.windows(2).all(|two| two[0].0 != two[1].0 || two[0].2 <= u64::from(two[1].1));
        if !apart || sealed.packs.iter().any(|pack| pack.frames == 0) {
            return wrong("two packs hold the same frames");
        }
        Ok(sealed)
    }
}

/// The sealed part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The format's version.
    pub version: u64,
    /// As in the public part.
    pub id: RequestId,
    /// As in the public part.
    pub dataset: Dataset,
    /// The client's chunk secret.
    #[serde(with = "secret_hex")]
    pub secret: Secrets,
    /// The catalog's root.
    pub root: Root,
    /// What the packs of the public part hold, in the same order.
    pub packs: Vec<SealedPack>,
    /// What could not be read, or changed while it was read; the first of them where there are very many.
    pub unreadable: Vec<Unreadable>,
    /// What was left out without anything being lost, in the same form.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Unreadable>,
    /// The request's tags.
    pub tags: Vec<String>,
    /// Whether it was made from a stream and not from files.
    pub stream: bool,
    /// The client's clock when it was begun.
    pub time: Timestamp,
}

/// The sealed part of a part's manifest: no catalog ends in it. It tells a keyholder, where the whole never came, what the
/// packs hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartSealed {
    /// The format's version.
    pub version: u64,
    /// As in the public part.
    pub id: RequestId,
    /// As in the public part.
    pub dataset: Dataset,
    /// What the packs of the public part hold, in the same order.
    pub packs: Vec<SealedPack>,
}

/// Where the catalog begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// The root segment's place.
    #[serde(rename = "ref")]
    pub at: Member,
    /// What its bytes must hash to.
    #[serde(with = "chunk_hex")]
    pub id: ChunkId,
    /// Its level: 0 when its lines are entries, else one more than that of the segments it lists.
    pub level: u8,
}

/// What a pack holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedPack {
    /// The run that wrote it.
    pub run: RunId,
    /// The number of its first frame within the run.
    pub first: u32,
    /// How many frames it holds.
    pub frames: u32,
    /// BLAKE3 of its frame table.
    pub table: Blake3,
}

impl From<&PackInfo> for PackRef {
    fn from(pack: &PackInfo) -> Self {
        Self { digest: pack.digest, size: pack.size }
    }
}

impl From<&PackInfo> for SealedPack {
    fn from(pack: &PackInfo) -> Self {
        Self { run: pack.run, first: pack.first, frames: pack.frames, table: pack.table }
    }
}

/// One line of the errors ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "UnreadableJson", into = "UnreadableJson")]
pub struct Unreadable {
    /// The path below the dataset's own.
    pub path: Vec<u8>,
    /// What was wrong.
    pub why: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UnreadableJson {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    why: String,
}

impl From<Unreadable> for UnreadableJson {
    fn from(item: Unreadable) -> Self {
        let (path, path_b64) = text_or_base64(&item.path);
        Self { path, path_b64, why: item.why }
    }
}

impl TryFrom<UnreadableJson> for Unreadable {
    type Error = Error;
    fn try_from(json: UnreadableJson) -> Result<Self> {
        let path = bytes_of(json.path, json.path_b64)?.ok_or_else(|| Error::failed("a line of the errors ledger has no path"))?;
        Ok(Self { path, why: json.why })
    }
}

/// Chunk ids in JSON: 64 hex digits.
pub(crate) mod chunk_hex {
    use super::{Blake3, ChunkId};
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(id: &ChunkId, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&base::digest::to_hex(&id.0))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ChunkId, D::Error> {
        let text = String::deserialize(from)?;
        Blake3::from_hex(&text).map(|bytes| ChunkId(bytes.0)).ok_or_else(|| D::Error::custom("64 lowercase hex digits are expected"))
    }
}

mod secret_hex {
    use super::Secrets;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(secrets: &Secrets, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&secrets.to_hex())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secrets, D::Error> {
        let text = String::deserialize(from)?;
        Secrets::from_hex(&text).ok_or_else(|| D::Error::custom("64 lowercase hex digits are expected"))
    }
}
