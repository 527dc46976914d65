//! Messages over the serial line.
//!
//! The line carries bytes and nothing else: it does not say whether anybody is at the
//! other end, whether they hung up, or where a message begins. Hence every wait has an
//! end; a message that began has to be complete soon after; and what arrived before
//! the first request, which can only be left over from an earlier user of the line,
//! is thrown away. Bytes lost by an overrun show up as JSON that does not parse or as
//! a message that never completes.

use crate::drivers::stream::{self, ByteStream};
use crate::exec::yield_now;
use crate::time::{Clock, Deadline};
use alloc::vec::Vec;
use core::time::Duration;
use libaproxy::frame;
use libaproxy::{HEADER_LEN, MAX_MESSAGE, MessageError};
use serde::Serialize;

/// How long to wait for the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the first byte of the answer to the negotiation: tells whether there is a
    /// proxy at all.
    pub negotiation: Duration,
    /// For the first byte of the answer to the evidence: covers the server's check.
    pub decision: Duration,
    /// For one message to pass, from its first byte to its last, in either direction.
    pub message: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            negotiation: Duration::from_secs(10),
            decision: Duration::from_secs(60),
            message: Duration::from_secs(10),
        }
    }
}

/// Why a message did not get through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Nothing at all came back.
    #[error("no answer from the proxy within {0:?}")]
    Silent(Duration),
    /// A message began and did not end in time.
    #[error("the proxy stopped after {received} of {expected} bytes of its answer")]
    Stalled {
        /// Bytes that came, the header included.
        received: usize,
        /// Bytes that were due; of a message whose header is incomplete, the header.
        expected: usize,
    },
    /// The line does not take our message.
    #[error("the proxy does not take a message of {0} bytes")]
    Stuck(usize),
    /// The line was full of bytes before anything was asked.
    #[error("the line to the proxy carries more than {MAX_MESSAGE} bytes nobody asked for")]
    Babble,
    /// What came is not a message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// There is no memory for it.
    #[error("no memory for a message of {0} bytes")]
    NoMemory(usize),
}

/// The line to the proxy.
pub struct Link<'a, S> {
    stream: &'a mut S,
    clock: &'a dyn Clock,
    message: Duration,
}

impl<'a, S: ByteStream> Link<'a, S> {
    /// A link over `stream`. What has arrived by now is thrown away and counted.
    pub fn open(
        stream: &'a mut S,
        clock: &'a dyn Clock,
        message: Duration,
    ) -> Result<(Self, usize), LinkError> {
        let mut stale = 0;
        let mut scratch = [0; 64];
        loop {
            match stream.read_some(&mut scratch) {
                0 => break,
                count => stale += count,
            }
            if stale > MAX_MESSAGE {
                return Err(LinkError::Babble);
            }
        }
        let link = Self {
            stream,
            clock,
            message,
        };
        Ok((link, stale))
    }

    /// Sends `request` and waits for the JSON of the answer, `patience` for its first
    /// byte.
    pub async fn ask(
        &mut self,
        request: &impl Serialize,
        patience: Duration,
    ) -> Result<Vec<u8>, LinkError> {
        let message = frame::encode(request)?;
        let deadline = Deadline::after(self.clock, self.message);
        stream::write_all(self.stream, &message, deadline)
            .await
            .map_err(|_| LinkError::Stuck(message.len()))?;
        self.receive(patience).await
    }

    async fn receive(&mut self, patience: Duration) -> Result<Vec<u8>, LinkError> {
        let mut header = [0; HEADER_LEN];
        let (first, rest) = header.split_at_mut(1);
        self.fill(first, Deadline::after(self.clock, patience))
            .await
            .map_err(|_| LinkError::Silent(patience))?;

        let deadline = Deadline::after(self.clock, self.message);
        self.fill(rest, deadline)
            .await
            .map_err(|received| LinkError::Stalled {
                received: 1 + received,
                expected: HEADER_LEN,
            })?;
        let length = frame::payload_len(header)?;
        let mut json = Vec::new();
        json.try_reserve_exact(length)
            .map_err(|_| LinkError::NoMemory(length))?;
        json.resize(length, 0);
        self.fill(&mut json, deadline)
            .await
            .map_err(|received| LinkError::Stalled {
                received: HEADER_LEN + received,
                expected: HEADER_LEN + length,
            })?;
        Ok(json)
    }

    /// Fills `buffer`, or says how far it got by the deadline.
    async fn fill(&mut self, buffer: &mut [u8], deadline: Deadline<'_>) -> Result<(), usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.stream.read_some(&mut buffer[filled..]) {
                0 if deadline.passed() => return Err(filled),
                0 => yield_now().await,
                count => filled += count,
            }
        }
        Ok(())
    }
}
