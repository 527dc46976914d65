//! Messages over the serial line.
//!
//! The line carries bytes and nothing else: it does not say whether anybody is at the
//! other end, whether they hung up, or where a message begins. Hence every wait has an
//! end; a message that began has to be complete soon after; and what arrived before
//! the first request, which can only be left over from an earlier user of the line,
//! is thrown away. Bytes lost by an overrun show up as JSON that does not parse or as
//! a message that never completes.

use crate::drivers::stream::ByteStream;
use crate::exec::yield_now;
use crate::time::{Clock, Deadline};
use alloc::vec::Vec;
use core::task::Poll;
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
    /// For the first byte of the answer to a report: the server stores it durably.
    pub report: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            negotiation: Duration::from_secs(10),
            decision: Duration::from_secs(60),
            message: Duration::from_secs(10),
            report: Duration::from_secs(30),
        }
    }
}

impl Timeouts {
    /// These, but none longer than `limit`.
    pub fn at_most(self, limit: Duration) -> Self {
        Self {
            negotiation: self.negotiation.min(limit),
            decision: self.decision.min(limit),
            message: self.message.min(limit),
            report: self.report.min(limit),
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
pub struct Link<'c, S> {
    stream: S,
    clock: &'c dyn Clock,
    message: Duration,
    traffic: Traffic,
}

/// Bytes that passed the line, headers included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// To the proxy.
    pub sent: usize,
    /// From the proxy.
    pub received: usize,
}

/// A message on its way to the proxy, and the answer on its way back.
pub struct Question<'c> {
    message: Vec<u8>,
    sent: usize,
    header: [u8; HEADER_LEN],
    json: Vec<u8>,
    received: usize,
    patience: Duration,
    deadline: Deadline<'c>,
}

impl<'c, S: ByteStream> Link<'c, S> {
    /// A link over `stream`. What has arrived by now is thrown away and counted.
    pub fn open(
        stream: S,
        clock: &'c dyn Clock,
        message: Duration,
    ) -> Result<(Self, usize), LinkError> {
        let mut link = Self {
            stream,
            clock,
            message,
            traffic: Traffic::default(),
        };
        let stale = link.throw_away()?;
        Ok((link, stale))
    }

    /// What passed so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// The clock that the waits go by.
    pub fn clock(&self) -> &'c dyn Clock {
        self.clock
    }

    /// Throws away what has arrived, and counts it.
    pub fn throw_away(&mut self) -> Result<usize, LinkError> {
        let mut stale = 0;
        let mut scratch = [0; 64];
        loop {
            match self.stream.read_some(&mut scratch) {
                0 => return Ok(stale),
                count => stale += count,
            }
            if stale > MAX_MESSAGE {
                return Err(LinkError::Babble);
            }
        }
    }

    /// Sends `request` and waits for the JSON of the answer, `patience` for its first
    /// byte.
    pub async fn ask(
        &mut self,
        request: &impl Serialize,
        patience: Duration,
    ) -> Result<Vec<u8>, LinkError> {
        let mut question = self.begin(request, patience)?;
        loop {
            match self.advance(&mut question) {
                Poll::Ready(answer) => return answer,
                Poll::Pending => yield_now().await,
            }
        }
    }

    /// A question that [`advance`](Self::advance) sends. One at a time.
    pub fn begin(
        &self,
        request: &impl Serialize,
        patience: Duration,
    ) -> Result<Question<'c>, LinkError> {
        Ok(Question {
            message: frame::encode(request)?,
            sent: 0,
            header: [0; HEADER_LEN],
            json: Vec::new(),
            received: 0,
            patience,
            deadline: Deadline::after(self.clock, self.message),
        })
    }

    /// Moves as many bytes as pass at once; ready with the JSON of the answer.
    pub fn advance(&mut self, question: &mut Question<'c>) -> Poll<Result<Vec<u8>, LinkError>> {
        loop {
            let moved = if question.sent < question.message.len() {
                self.send(question)
            } else if question.is_complete() {
                self.traffic.received += question.received;
                return Poll::Ready(Ok(core::mem::take(&mut question.json)));
            } else {
                match self.receive(question) {
                    Ok(count) => count,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            };
            if moved == 0 {
                return match question.deadline.passed() {
                    true => Poll::Ready(Err(question.overdue())),
                    false => Poll::Pending,
                };
            }
        }
    }

    fn send(&mut self, question: &mut Question<'c>) -> usize {
        let count = self.stream.write_some(&question.message[question.sent..]);
        question.sent += count;
        self.traffic.sent += count;
        if question.sent == question.message.len() {
            question.deadline = Deadline::after(self.clock, question.patience);
        }
        count
    }

    fn receive(&mut self, question: &mut Question<'c>) -> Result<usize, LinkError> {
        let rest = match question.received.checked_sub(HEADER_LEN) {
            None => &mut question.header[question.received..],
            Some(received) => &mut question.json[received..],
        };
        let count = self.stream.read_some(rest);
        if question.received == 0 && count > 0 {
            question.deadline = Deadline::after(self.clock, self.message);
        }
        let header_was_due = question.received < HEADER_LEN;
        question.received += count;
        if header_was_due && question.received == HEADER_LEN {
            let length = frame::payload_len(question.header)?;
            question
                .json
                .try_reserve_exact(length)
                .map_err(|_| LinkError::NoMemory(length))?;
            question.json.resize(length, 0);
        }
        Ok(count)
    }
}

impl Question<'_> {
    fn is_complete(&self) -> bool {
        self.received == HEADER_LEN + self.json.len()
    }

    /// What it means that the deadline has passed.
    fn overdue(&self) -> LinkError {
        if self.sent < self.message.len() {
            return LinkError::Stuck(self.message.len());
        }
        match self.received {
            0 => LinkError::Silent(self.patience),
            received => LinkError::Stalled {
                received,
                expected: HEADER_LEN + self.json.len(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_can_be_shortened_and_not_extended() {
        let usual = Timeouts::default();
        assert_eq!(usual.at_most(Duration::MAX), usual);
        let second = Duration::from_secs(1);
        let short = Timeouts {
            negotiation: second,
            decision: second,
            message: second,
            report: second,
        };
        assert_eq!(usual.at_most(second), short);
        let between = usual.at_most(Duration::from_secs(20));
        assert_eq!(between.negotiation, usual.negotiation);
        assert_eq!(between.decision, Duration::from_secs(20));
    }
}
