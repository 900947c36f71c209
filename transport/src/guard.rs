//! The frame around sftp's packets, checked before the library sees them: it would allocate, or count, by a length
//! that a hostile peer chose.
//!
//! Knows the lengths alone; what the packets say is the library's matter.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};

/// The longest packet that a peer may send: twice a read's answer.
const PACKET_LIMIT: u32 = 1 << 16;

const DATA: u8 = 103;

/// A reader that ends with an error as soon as a packet's length cannot be right.
#[derive(Debug)]
pub(crate) struct Guard<R> {
    inner: R,
    frame: Frame,
}

#[derive(Debug, Default)]
struct Frame {
    /// Length and type of the packet that begins, as far as they are there.
    header: [u8; 5],
    have: usize,
    /// What is still to come of the packet.
    rest: usize,
}

impl Frame {
    fn pass(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let skip = self.rest.min(bytes.len());
                self.rest -= skip;
                bytes = &bytes[skip..];
                continue;
            }
            self.header[self.have] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if self.have == self.header.len() {
                let [a, b, c, d, kind] = self.header;
                let length = u32::from_be_bytes([a, b, c, d]);
                // Type and number, and in an answer to a read the data's own length.
                let least = if kind == DATA { 9 } else { 5 };
                if !(least..=PACKET_LIMIT).contains(&length) {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, format!("the peer sent an sftp packet of {length} bytes")));
                }
                self.have = 0;
                self.rest = length as usize - 1;
            }
        }
        Ok(())
    }
}

impl<R> Guard<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, frame: Frame::default() }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Guard<R> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        Poll::Ready(self.frame.pass(&buffer.filled()[before..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(length: u32, kind: u8, body: usize) -> Vec<u8> {
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.push(kind);
        bytes.resize(bytes.len() + body, 7);
        bytes
    }

    #[test]
    fn lengths_are_checked_however_the_bytes_are_cut() {
        let good: Vec<u8> =
            [packet(5, 2, 4), packet(20, 101, 19), packet(9, DATA, 8), packet(PACKET_LIMIT, DATA, PACKET_LIMIT as usize - 1)].concat();
        for size in [1, 2, 3, 7, 1000, good.len()] {
            let mut frame = Frame::default();
            good.chunks(size).for_each(|piece| frame.pass(piece).unwrap());
            assert_eq!((frame.rest, frame.have), (0, 0));
        }
        for bad in [packet(0, 2, 0), packet(4, 101, 0), packet(8, DATA, 0), packet(PACKET_LIMIT + 1, DATA, 0), packet(u32::MAX, 101, 0)] {
            assert!(Frame::default().pass(&bad).is_err());
        }
    }
}
