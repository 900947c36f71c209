//! Reads one range of a remote file with many reads in flight, and gives the bytes in their order.
//!
//! Knows nothing of ssh or of what is read.

use crate::STALL;
use bytes::BytesMut;
use openssh_sftp_client::{Error as SftpError, file::File};
use std::collections::VecDeque;
use std::io::{self, SeekFrom};
use std::time::{Duration, Instant};
use tokio::io::AsyncSeekExt;
use tokio::task::JoinHandle;

/// What one read asks for.
pub(crate) const BLOCK: u32 = 32 * 1024;

/// How many reads are on their way at once.
const IN_FLIGHT: usize = 64;

/// Ends the reads that nobody waits for any more.
struct Flight(VecDeque<JoinHandle<io::Result<BytesMut>>>);

impl Drop for Flight {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// Gives `sink` the bytes from `offset` on, `length` of them or fewer when the file ends before. The sink runs in the
/// caller's thread, in order; at most 2 MiB wait for it.
pub(crate) async fn read(
    file: &File,
    offset: u64,
    length: u64,
    deadline: Instant,
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let end = offset.saturating_add(length);
    let mut next = offset;
    let mut flight = Flight(VecDeque::with_capacity(IN_FLIGHT));
    let mut done = 0;
    loop {
        while flight.0.len() < IN_FLIGHT && next < end {
            let count = u32::try_from((end - next).min(u64::from(BLOCK))).unwrap_or(BLOCK);
            flight.0.push_back(tokio::spawn(block(file.clone(), next, count)));
            next += u64::from(count);
        }
        let wanted = (end - offset - done).min(u64::from(BLOCK));
        let Some(task) = flight.0.front_mut() else { return Ok(done) };
        let bytes = tokio::time::timeout(patience(deadline)?, task)
            .await
            .map_err(|_| too_long())?
            .map_err(|_| io::Error::new(io::ErrorKind::ConnectionAborted, "the sftp session broke"))??;
        flight.0.pop_front();
        sink(&bytes)?;
        done += bytes.len() as u64;
        if (bytes.len() as u64) < wanted {
            return Ok(done);
        }
    }
}

/// How long the peer may take for its next answer. Said by the clock and not by a timer of no time at all, which fires after
/// a millisecond or so: a peer that is near would answer each time before that.
///
/// # Errors
/// When `deadline` has passed.
pub(crate) fn patience(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(too_long()) } else { Ok(STALL.min(left)) }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the peer took too long to answer")
}

/// What the peer says of this file is the file's trouble; everything else ends the session, and may be tried again.
fn told(error: SftpError) -> io::Error {
    let kind = if matches!(error, SftpError::SftpError(..)) { io::ErrorKind::Other } else { io::ErrorKind::ConnectionAborted };
    io::Error::new(kind, error)
}

/// Reads `count` bytes at `offset`; fewer only at the end of the file.
async fn block(mut file: File, offset: u64, count: u32) -> io::Result<BytesMut> {
    let mut got = BytesMut::with_capacity(count as usize);
    while (got.len() as u64) < u64::from(count) {
        file.seek(SeekFrom::Start(offset + got.len() as u64)).await?;
        let missing = count - u32::try_from(got.len()).unwrap_or(count);
        // The usual case is one answer, which is used as it came.
        let buffer = if got.is_empty() { std::mem::take(&mut got) } else { BytesMut::with_capacity(missing as usize) };
        let Some(more) = file.read(missing, buffer).await.map_err(told)? else { break };
        if more.is_empty() || more.len() as u64 > u64::from(missing) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer answered a read with a wrong number of bytes"));
        }
        if got.is_empty() { got = more } else { got.extend_from_slice(&more) }
    }
    Ok(got)
}
