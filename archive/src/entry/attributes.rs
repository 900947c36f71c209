//! What few entries have beside mode and owner: extended attributes and access control lists.
//!
//! Does not read or set them.

use super::acl::{Acl, AclNames, Who, key, parse_key};
use super::{broken, text_or_base64, unreadable};
use crate::limits;
use crate::reference::References;
use base::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// About how many bytes a pair of a map takes in memory beside the bytes of its texts.
const PAIR: usize = 64;

/// The longest text of attributes that stands in a line; a longer one is stored as chunks of its own.
pub const INLINE_XATTRS: usize = 16 << 10;

/// Extended attributes by their whole name, as in `user.comment`.
pub type XattrMap = BTreeMap<Vec<u8>, Vec<u8>>;

/// Where the extended attributes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Xattrs {
    /// These; maybe none.
    Here(XattrMap),
    /// These chunks hold their text, which is too long for the line.
    More(References),
}

impl Default for Xattrs {
    fn default() -> Self {
        Self::Here(XattrMap::new())
    }
}

/// Extended attributes and access control lists of one entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Extended attributes, but for the two that hold access control lists.
    pub xattrs: Xattrs,
    /// Who may do what.
    pub acl: Option<Acl>,
    /// What is made in the folder is given this list.
    pub default_acl: Option<Acl>,
    /// The names that users and groups of both lists have on the client.
    pub names: AclNames,
}

impl Attributes {
    /// Whether there is nothing to be kept.
    pub fn is_empty(&self) -> bool {
        matches!(&self.xattrs, Xattrs::Here(map) if map.is_empty()) && self.acl.is_none() && self.default_acl.is_none()
    }

    /// About how many bytes it takes in memory.
    pub(super) fn weight(&self) -> usize {
        let xattrs = match &self.xattrs {
            Xattrs::Here(map) => map.iter().map(|(name, value)| PAIR + name.len() + value.len()).sum(),
            Xattrs::More(list) => super::list_weight(list),
        };
        let lists: usize = [&self.acl, &self.default_acl].into_iter().flatten().map(|list| PAIR * list.0.len()).sum();
        xattrs + lists + self.names.values().map(|name| PAIR + name.len()).sum::<usize>()
    }
}

type Map = BTreeMap<String, String>;

/// Attributes in JSON: value in base64 by name, and apart from these the names that are not UTF-8, in base64 themselves.
#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct XattrsJson {
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    xattrs: Map,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    xattrs_b64: Map,
}

impl XattrsJson {
    fn of(map: &XattrMap) -> Self {
        let mut json = Self::default();
        for (name, value) in map {
            let value = STANDARD.encode(value);
            match text_or_base64(name) {
                (Some(name), _) => json.xattrs.insert(name, value),
                (None, name) => json.xattrs_b64.insert(name.unwrap_or_default(), value),
            };
        }
        json
    }

    fn into_map(self) -> Result<XattrMap> {
        let bytes = |text: String| STANDARD.decode(text).map_err(|e| broken("it has bytes that are no base64").because(e));
        let plain = self.xattrs.into_iter().map(|(name, value)| Ok((name.into_bytes(), value)));
        let odd = self.xattrs_b64.into_iter().map(|(name, value)| Ok((bytes(name)?, value)));
        let mut map = XattrMap::new();
        for pair in plain.chain(odd) {
            let (name, value) = pair?;
            if name.is_empty() || name.len() > 255 || name.contains(&0) || map.insert(name, bytes(value)?).is_some() {
                return Err(broken("it has an attribute that cannot be, or one twice"));
            }
        }
        Ok(map)
    }
}

/// The text of attributes that is stored in chunks where it is too long for a line.
///
/// # Errors
/// When it is longer than readers accept.
pub fn xattrs_text(map: &XattrMap) -> Result<Vec<u8>> {
    let text = serde_json::to_vec(&XattrsJson::of(map)).map_err(|e| Error::failed("could not write attributes").because(e))?;
    if text.len() > limits::XATTRS {
        return Err(Error::failed("its extended attributes are longer than 16 MiB together"));
    }
    Ok(text)
}

/// Reads the text of attributes.
///
/// # Errors
/// With what is wrong in it.
pub fn parse_xattrs(text: &[u8]) -> Result<XattrMap> {
    if text.len() > limits::XATTRS {
        return Err(broken("its extended attributes are longer than 16 MiB"));
    }
    serde_json::from_slice::<XattrsJson>(text).map_err(unreadable)?.into_map()
}

/// The keys of a line that hold attributes.
#[derive(Serialize, Deserialize, Default)]
pub(super) struct Keys {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) acl: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) default_acl: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) acl_names: Option<Map>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) xattrs: Option<Map>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) xattrs_b64: Option<Map>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) xattrs_more: Option<References>,
}

impl Keys {
    pub(super) fn of(attributes: &Attributes) -> Self {
        let names = attributes.names.iter().map(|(who, name)| (key(*who), name.clone())).collect::<Map>();
        let mut keys = Self {
            acl: attributes.acl.as_ref().map(Acl::to_text),
            default_acl: attributes.default_acl.as_ref().map(Acl::to_text),
            acl_names: (!names.is_empty()).then_some(names),
            ..Self::default()
        };
        match &attributes.xattrs {
            Xattrs::Here(map) => {
                let json = XattrsJson::of(map);
                keys.xattrs = (!json.xattrs.is_empty()).then_some(json.xattrs);
                keys.xattrs_b64 = (!json.xattrs_b64.is_empty()).then_some(json.xattrs_b64);
            }
            Xattrs::More(list) => keys.xattrs_more = Some(list.clone()),
        }
        keys
    }

    pub(super) fn read(self) -> Result<Option<Box<Attributes>>> {
        let Self { acl, default_acl, acl_names, xattrs, xattrs_b64, xattrs_more } = self;
        if acl.is_none() && default_acl.is_none() && xattrs.is_none() && xattrs_b64.is_none() && xattrs_more.is_none() {
            return if acl_names.is_none() { Ok(None) } else { Err(broken("it has names without a list")) };
        }
        let xattrs = match (xattrs, xattrs_b64, xattrs_more) {
            (None, None, Some(list)) if !list.is_empty() => Xattrs::More(list),
            (xattrs, xattrs_b64, None) => {
                Xattrs::Here(XattrsJson { xattrs: xattrs.unwrap_or_default(), xattrs_b64: xattrs_b64.unwrap_or_default() }.into_map()?)
            }
            _ => return Err(broken("it has attributes both in the line and elsewhere")),
        };
        let mut names = AclNames::new();
        for (who, name) in acl_names.unwrap_or_default() {
            match parse_key(&who)? {
                who @ (Who::User(_) | Who::Group(_)) => names.insert(who, name),
                _ => return Err(broken("it names somebody who has no name")),
            };
        }
        let list = |text: Option<String>| text.map(|text| Acl::parse(&text)).transpose();
        Ok(Some(Box::new(Attributes { xattrs, acl: list(acl)?, default_acl: list(default_acl)?, names })))
    }
}
