//! Writing a cache, block by block.
//!
//! Does not know what is remembered; its files are made durable by nobody.

use super::record::{self, time_bytes};
use super::{BLOCK, HEAD, Known, LONGEST, digest};
use crate::entry::Mtime;
use crate::walk::Stat;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Result, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A cache being written. The file is made when the first block is full, or at the end.
pub(super) struct Writer {
    path: PathBuf,
    file: Option<File>,
    key: [u8; 32],
    began: Mtime,
    number: u64,
    /// Length and digest, which are filled in at the end, and the payload.
    block: Vec<u8>,
    /// The last path in the block.
    last: Vec<u8>,
    /// Numbers of the pairs of names by user and group.
    names: HashMap<(u32, u32), u32>,
}

impl Writer {
    pub(super) fn new(path: &Path, key: [u8; 32], began: Mtime) -> Self {
        Self { path: path.to_owned(), file: None, key, began, number: 0, block: vec![0; HEAD], last: Vec::new(), names: HashMap::new() }
    }

    pub(super) fn push(&mut self, path: &[u8], stat: &Stat, known: &Known<'_>) -> Result<()> {
        let next = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        let names = self.names.get(&(stat.uid, stat.gid)).copied();
        let start = self.block.len();
        let shared = path.iter().zip(&self.last).take_while(|(a, b)| a == b).count();
        record::write(&mut self.block, shared, path, stat, known, names.unwrap_or(next), names.is_none());
        if self.block.len() - HEAD > LONGEST {
            self.block.truncate(start);
            return Ok(());
        }
        self.names.entry((stat.uid, stat.gid)).or_insert(next);
        self.last.clear();
        self.last.extend_from_slice(path);
        if self.block.len() - HEAD >= BLOCK { self.close() } else { Ok(()) }
    }

    /// Writes what is left, and says whether there is a file.
    pub(super) fn finish(mut self) -> Result<bool> {
        if self.block.len() > HEAD {
            self.close()?;
        }
        Ok(self.file.is_some())
    }

    fn close(&mut self) -> Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                // One of another process is left to it: it has its own name for it by now, or it is gone.
                if let Err(error) = std::fs::remove_file(&self.path)
                    && error.kind() != ErrorKind::NotFound
                {
                    return Err(error);
                }
                let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path)?;
                let mut first = [vec![0; HEAD], time_bytes(self.began).to_vec()].concat();
                seal(&mut first, &self.key, 0)?;
                file.write_all(&first)?;
                none.insert(file)
            }
        };
        self.number += 1;
        seal(&mut self.block, &self.key, self.number)?;
        file.write_all(&self.block)?;
        self.block.truncate(HEAD);
        self.last.clear();
        Ok(())
    }
}

/// Fills in length and digest.
fn seal(block: &mut [u8], key: &[u8; 32], number: u64) -> Result<()> {
    let (head, payload) = block.split_at_mut(HEAD);
    let length = u32::try_from(payload.len()).map_err(|_| Error::other("a block is too long"))?;
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..].copy_from_slice(&digest(key, number, payload));
    Ok(())
}
