//! Frames: chunks as tar members named `run/frame/n`, without an end-of-archive mark, so that frames can be put together.
//!
//! Does not compress, and does not know packs.

use crate::limits;
use crate::reference::{Member, RunId};
use base::{Error, Result};
use std::ops::Range;

/// What a tar archive is made of.
const BLOCK: usize = 512;
/// A frame is closed when it has reached this size.
pub const TARGET: usize = 4 << 20;

/// Appends a chunk as the member `at`.
///
/// # Errors
/// When the chunk is longer than a chunk may be.
pub fn append(frame: &mut Vec<u8>, at: Member, chunk: &[u8]) -> Result<()> {
    if chunk.is_empty() || chunk.len() > limits::CHUNK {
        return Err(Error::failed(format!("a chunk cannot have {} bytes", chunk.len())));
    }
    let mut header = tar::Header::new_ustar();
    header.set_path(at.to_string()).map_err(|e| Error::failed("could not name a chunk").because(e))?;
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(chunk.len() as u64);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    frame.extend_from_slice(header.as_bytes());
    frame.extend_from_slice(chunk);
    frame.resize(frame.len().next_multiple_of(BLOCK), 0);
    Ok(())
}

/// The places of a frame's chunks in its bytes, by their number, after checking that it holds just the members
/// `run/frame/0`, `run/frame/1` and so on.
///
/// # Errors
/// With what is wrong in it.
pub fn members(frame: &[u8], run: RunId, number: u32) -> Result<Vec<Range<usize>>> {
    let wrong = |why: &str| Error::failed(format!("frame {run}/{number} is wrong: {why}"));
    let mut found = Vec::new();
    each_member(frame, &wrong, &mut |name, place| {
        let n = u32::try_from(found.len()).map_err(|_| wrong("it has too many members"))?;
        if name != (Member { run, frame: number, n }).to_string().as_bytes() {
            return Err(wrong("a member has another name than its place"));
        }
        found.push(place);
        Ok(())
    })?;
    Ok(found)
}

/// As [`members`], of a frame of a repair: members of any frames, in any order, under the names that they say.
///
/// # Errors
/// As [`members`].
pub fn named_members(frame: &[u8]) -> Result<Vec<(Member, Range<usize>)>> {
    let wrong = |why: &str| Error::failed(format!("a frame of a repair is wrong: {why}"));
    let mut found = Vec::new();
    each_member(frame, &wrong, &mut |name, place| {
        let name = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
        found.push((name.ok_or_else(|| wrong("a member's name is no place of a chunk"))?, place));
        Ok(())
    })?;
    Ok(found)
}

/// Is given a member's name and the place of its bytes.
type Each<'a> = &'a mut dyn FnMut(&[u8], Range<usize>) -> Result<()>;

fn each_member(frame: &[u8], wrong: &dyn Fn(&str) -> Error, each: Each<'_>) -> Result<()> {
    if frame.len() > limits::FRAME {
        return Err(wrong("it is longer than 8 MiB"));
    }
    if frame.is_empty() {
        return Err(wrong("it is empty"));
    }
    let mut offset = 0;
    while offset < frame.len() {
        let block: &[u8; BLOCK] =
            frame.get(offset..offset + BLOCK).and_then(|b| b.try_into().ok()).ok_or_else(|| wrong("it is cut off"))?;
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        let size = header.entry_size().ok().and_then(|size| usize::try_from(size).ok()).filter(|size| (1..=limits::CHUNK).contains(size));
        let size = size.ok_or_else(|| wrong("a chunk is empty or longer than 2 MiB"))?;
        if !header.entry_type().is_file() {
            return Err(wrong("a member is no regular file"));
        }
        let start = offset + BLOCK;
        offset = (start + size).next_multiple_of(BLOCK);
        if offset > frame.len() {
            return Err(wrong("it is cut off"));
        }
        each(&header.path_bytes(), start..start + size)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RUN: RunId = RunId(u64::MAX);

    fn frame(chunks: &[Vec<u8>]) -> Vec<u8> {
        let mut frame = Vec::new();
        for (n, chunk) in chunks.iter().enumerate() {
            append(&mut frame, Member { run: RUN, frame: u32::MAX, n: u32::try_from(n).unwrap() }, chunk).unwrap();
        }
        frame
    }

    #[test]
    fn tar_reads_it() {
        let mut archive = frame(&[b"one".to_vec(), vec![7; 600]]);
        archive.resize(archive.len() + 1024, 0);
        let mut archive = tar::Archive::new(&archive[..]);
        let names: Vec<_> = archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(names, ["ffffffffffffffff/4294967295/0", "ffffffffffffffff/4294967295/1"]);
    }

    #[test]
    fn hostile_frames() {
        let good = frame(&[b"one".to_vec(), b"two".to_vec()]);
        assert!(members(&good, RUN, u32::MAX).is_ok());
        let mut bad = vec![
            Vec::new(),
            vec![0; 512],
            vec![0; 1024],
            vec![0xff; 1024],
            good[..1].to_vec(),
            good[..512].to_vec(),
            good[..1535].to_vec(),
            good[1024..].to_vec(),
        ];
        bad.push([&good[..], &good].concat());
        bad.push([&good[..], &[0; 1024]].concat());
        let edit = |at: usize, bytes: &[u8]| {
            let mut frame = good.clone();
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            frame
        };
        bad.push(edit(0, b"/"));
        bad.push(edit(156, b"2"));
        bad.push(edit(156, b"x"));
        bad.push(edit(124, b"00000000000\0"));
        bad.push(edit(124, b"77777777777\0"));
        bad.push(edit(124, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"));
        bad.push(edit(124, b"zzzzzzzzzzz\0"));
        for frame in bad {
            assert!(members(&frame, RUN, u32::MAX).is_err());
        }
        assert!(members(&good, RUN, 0).is_err());
        assert!(append(&mut Vec::new(), Member { run: RUN, frame: 0, n: 0 }, &[]).is_err());
        assert!(append(&mut Vec::new(), Member { run: RUN, frame: 0, n: 0 }, &vec![0; limits::CHUNK + 1]).is_err());
    }

    proptest! {
        #[test]
        fn chunks_survive(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..1500), 1..8)) {
            let bytes = frame(&chunks);
            prop_assert_eq!(bytes.len() % 512, 0);
            let found = members(&bytes, RUN, u32::MAX).unwrap();
            prop_assert_eq!(found.into_iter().map(|r| bytes[r].to_vec()).collect::<Vec<_>>(), chunks);
        }
    }
}
