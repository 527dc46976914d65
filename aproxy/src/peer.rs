//! One connection, cut into messages.
//!
//! Whatever the peer sends, at most one message is in memory, and a message that has begun is complete
//! within a time limit or an error.
//!
//! A serial line may stay connected through a reset of the VM, in the middle of a message too. So the
//! line is brought back in step rather than closed where that is possible: see [`Peer::resync`].

use std::io;
use std::time::{Duration, Instant};

use libaproxy::frame::{encode, payload_len};
use libaproxy::{HEADER_LEN, MessageError};
use serde::Serialize;
use thiserror::Error;

use crate::transport::Stream;

/// How long a peer may take.
#[derive(Clone, Copy, Debug)]
pub struct PeerLimits {
    /// From the first byte of a message to its last, and for taking an answer.
    pub message: Duration,
    /// From the negotiation's answer to the first byte of the evidence.
    pub evidence: Duration,
    /// A line that is silent for so long has nothing left of a broken message.
    pub quiet: Duration,
}

impl Default for PeerLimits {
    fn default() -> Self {
        Self {
            message: Duration::from_secs(10),
            evidence: Duration::from_secs(120),
            quiet: Duration::from_millis(200),
        }
    }
}

/// Why no message could be read or written.
#[derive(Debug, Error)]
pub enum PeerError {
    /// The connection ended between two messages.
    #[error("the SVSM closed the connection")]
    Closed,
    /// The connection ended inside a message.
    #[error("the SVSM closed the connection in the middle of a message")]
    Truncated,
    /// No message began in time.
    #[error("the SVSM sent nothing for {} s", .0.as_secs())]
    Silent(Duration),
    /// A message began but was not complete in time.
    #[error("a message of the SVSM was not complete after {} s", .0.as_secs())]
    Stalled(Duration),
    /// The SVSM did not read its answer in time.
    #[error("the SVSM did not take its answer within {} s", .0.as_secs())]
    NotTaken(Duration),
    /// The announced length is beyond the limit, or an answer would be.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The connection broke.
    #[error("the connection to the SVSM broke: {0}")]
    Io(io::Error),
}

impl PeerError {
    /// Whether the connection is of no further use.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Closed | Self::Truncated | Self::NotTaken(_) | Self::Io(_)
        )
    }
}

/// Bytes that passed a connection, of messages and of what was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the SVSM.
    pub received: u64,
    /// To the SVSM.
    pub sent: u64,
}

/// A connection to one SVSM, or to several after each other.
pub struct Peer<S> {
    stream: S,
    limits: PeerLimits,
    traffic: Traffic,
}

impl<S: Stream> Peer<S> {
    /// Takes a fresh connection.
    pub fn new(stream: S, limits: PeerLimits) -> Self {
        Self {
            stream,
            limits,
            traffic: Traffic::default(),
        }
    }

    /// What passed since the last call.
    pub fn take_traffic(&mut self) -> Traffic {
        std::mem::take(&mut self.traffic)
    }

    /// The limits this peer has to keep.
    pub fn limits(&self) -> PeerLimits {
        self.limits
    }

    /// The JSON of the next message. Waits `patience` for it to begin, `None` for ever.
    pub fn read_message(&mut self, patience: Option<Duration>) -> Result<Vec<u8>, PeerError> {
        let mut header = [0; HEADER_LEN];
        self.stream.limit_read(patience).map_err(PeerError::Io)?;
        let begun = loop {
            match self.stream.read(&mut header) {
                Ok(0) => return Err(PeerError::Closed),
                Ok(n) => {
                    self.traffic.received += n as u64;
                    break n;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if timed_out(&e) => {
                    return Err(PeerError::Silent(patience.unwrap_or_default()));
                }
                Err(e) => return Err(PeerError::Io(e)),
            }
        };
        let end = Instant::now() + self.limits.message;
        self.read_exact(&mut header[begun..], end)?;
        let mut json = vec![0; payload_len(header)?];
        self.read_exact(&mut json, end)?;
        Ok(json)
    }

    /// Sends one message.
    pub fn write_message<M: Serialize>(&mut self, message: &M) -> Result<(), PeerError> {
        let bytes = encode(message)?;
        let end = Instant::now() + self.limits.message;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let left = time_left(end).ok_or(PeerError::NotTaken(self.limits.message))?;
            self.stream.limit_write(Some(left)).map_err(PeerError::Io)?;
            match self.stream.write(rest) {
                Ok(0) => return Err(PeerError::Io(io::ErrorKind::WriteZero.into())),
                Ok(n) => {
                    self.traffic.sent += n as u64;
                    rest = &rest[n..];
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted || timed_out(&e) => {}
                Err(e) => return Err(PeerError::Io(e)),
            }
        }
        Ok(())
    }

    /// After a message whose end is unknown: drops what is left of it, until the line is quiet.
    ///
    /// # Errors
    ///
    /// [`PeerError::Stalled`] if the peer goes on sending for the time of a whole message.
    pub fn resync(&mut self) -> Result<(), PeerError> {
        let mut dropped = [0; 4096];
        let end = Instant::now() + self.limits.message;
        self.stream
            .limit_read(Some(self.limits.quiet))
            .map_err(PeerError::Io)?;
        while time_left(end).is_some() {
            match self.stream.read(&mut dropped) {
                Ok(0) => return Err(PeerError::Closed),
                Ok(n) => self.traffic.received += n as u64,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if timed_out(&e) => return Ok(()),
                Err(e) => return Err(PeerError::Io(e)),
            }
        }
        Err(PeerError::Stalled(self.limits.message))
    }

    fn read_exact(&mut self, buffer: &mut [u8], end: Instant) -> Result<(), PeerError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let left = time_left(end).ok_or(PeerError::Stalled(self.limits.message))?;
            self.stream.limit_read(Some(left)).map_err(PeerError::Io)?;
            match self.stream.read(&mut buffer[filled..]) {
                Ok(0) => return Err(PeerError::Truncated),
                Ok(n) => {
                    self.traffic.received += n as u64;
                    filled += n;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted || timed_out(&e) => {}
                Err(e) => return Err(PeerError::Io(e)),
            }
        }
        Ok(())
    }
}

/// Time until `end`, at least a millisecond: a socket takes a limit of zero for "none".
fn time_left(end: Instant) -> Option<Duration> {
    let left = end.checked_duration_since(Instant::now())?;
    Some(left.max(Duration::from_millis(1)))
}

fn timed_out(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    fn pair() -> (UnixStream, Peer<UnixStream>) {
        let (svsm, proxy) = UnixStream::pair().unwrap();
        let limits = PeerLimits {
            message: Duration::from_millis(300),
            evidence: Duration::from_millis(300),
            quiet: Duration::from_millis(50),
        };
        (svsm, Peer::new(proxy, limits))
    }

    #[test]
    fn message_may_arrive_in_pieces() {
        let (mut svsm, mut peer) = pair();
        let sender = std::thread::spawn(move || {
            for byte in encode(&"hello").unwrap() {
                svsm.write_all(&[byte]).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
            svsm
        });
        assert_eq!(peer.read_message(None).unwrap(), b"\"hello\"");
        drop(sender.join().unwrap());
        assert!(matches!(peer.read_message(None), Err(PeerError::Closed)));
    }

    #[test]
    fn slow_trickle_does_not_outlast_the_limit() {
        let (mut svsm, mut peer) = pair();
        let sender = std::thread::spawn(move || {
            let _ = svsm.write_all(&1000u64.to_le_bytes());
            for _ in 0..100 {
                std::thread::sleep(Duration::from_millis(20));
                if svsm.write_all(b" ").is_err() {
                    return;
                }
            }
        });
        let begun = Instant::now();
        let e = peer.read_message(None).unwrap_err();
        assert!(matches!(e, PeerError::Stalled(_)), "{e}");
        assert!(begun.elapsed() < Duration::from_secs(2));
        drop(peer);
        sender.join().unwrap();
    }

    #[test]
    fn length_beyond_the_limit_reserves_nothing() {
        for length in [libaproxy::MAX_MESSAGE as u64 + 1, 1 << 63, u64::MAX] {
            let (mut svsm, mut peer) = pair();
            svsm.write_all(&length.to_le_bytes()).unwrap();
            let e = peer.read_message(None).unwrap_err();
            assert!(matches!(e, PeerError::Message(MessageError::TooLong(n)) if n == length));
        }
    }

    #[test]
    fn half_a_message_and_its_end_are_told_apart() {
        for bytes in [&b"\x05\0\0"[..], b"\x05\0\0\0\0\0\0\0{\"v"] {
            let (mut svsm, mut peer) = pair();
            svsm.write_all(bytes).unwrap();
            svsm.shutdown(Shutdown::Write).unwrap();
            let e = peer.read_message(None).unwrap_err();
            assert!(matches!(e, PeerError::Truncated), "{e}");
        }
    }

    #[test]
    fn peer_that_never_begins_is_given_up_where_a_limit_is_set() {
        let (_svsm, mut peer) = pair();
        let e = peer.read_message(Some(Duration::from_millis(20)));
        assert!(matches!(e, Err(PeerError::Silent(_))));
    }

    #[test]
    fn peer_that_does_not_read_is_given_up() {
        let (_svsm, mut peer) = pair();
        let big = "x".repeat(60_000);
        let e = (0..100).find_map(|_| peer.write_message(&big).err());
        assert!(matches!(e, Some(PeerError::NotTaken(_))), "{e:?}");
    }

    #[test]
    fn line_is_in_step_again_after_silence() {
        let (mut svsm, mut peer) = pair();
        svsm.write_all(&[0xff; 30]).unwrap();
        assert!(peer.read_message(None).is_err());
        peer.resync().unwrap();
        svsm.write_all(&encode(&7).unwrap()).unwrap();
        assert_eq!(peer.read_message(None).unwrap(), b"7");
    }
}
