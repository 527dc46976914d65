//! A byte stream that never blocks, and waiting on one with a deadline.
//!
//! The other end is the host: it may stall, hang up or never have been there. Every
//! wait is bounded by a [`Deadline`].

use crate::exec::yield_now;
use crate::time::Deadline;

/// A non-blocking, bidirectional byte stream.
pub trait ByteStream {
    /// Takes what has arrived, up to `buffer.len()` bytes; 0 means nothing yet.
    fn read_some(&mut self, buffer: &mut [u8]) -> usize;

    /// Hands over as many bytes of `data` as fit at once; 0 means try again.
    fn write_some(&mut self, data: &[u8]) -> usize;
}

impl<S: ByteStream + ?Sized> ByteStream for &mut S {
    fn read_some(&mut self, buffer: &mut [u8]) -> usize {
        (**self).read_some(buffer)
    }

    fn write_some(&mut self, data: &[u8]) -> usize {
        (**self).write_some(data)
    }
}

/// Why bytes could not be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum StreamError {
    #[error("no answer in time")]
    TimedOut,
}

/// Fills `buffer`, or fails when the deadline passes first.
pub async fn read_exact(
    stream: &mut impl ByteStream,
    mut buffer: &mut [u8],
    deadline: Deadline<'_>,
) -> Result<(), StreamError> {
    while !buffer.is_empty() {
        match stream.read_some(buffer) {
            0 if deadline.passed() => return Err(StreamError::TimedOut),
            0 => yield_now().await,
            count => buffer = &mut buffer[count..],
        }
    }
    Ok(())
}

/// Sends all of `data`, or fails when the deadline passes first.
pub async fn write_all(
    stream: &mut impl ByteStream,
    mut data: &[u8],
    deadline: Deadline<'_>,
) -> Result<(), StreamError> {
    while !data.is_empty() {
        match stream.write_some(data) {
            0 if deadline.passed() => return Err(StreamError::TimedOut),
            0 => yield_now().await,
            count => data = &data[count..],
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::block_on;
    use crate::time::fake::SteppingClock;
    use core::time::Duration;

    /// Gives one byte at every second call and never takes any.
    struct Dripping {
        next: u8,
        ready: bool,
    }

    impl ByteStream for Dripping {
        fn read_some(&mut self, buffer: &mut [u8]) -> usize {
            self.ready = !self.ready;
            if !self.ready {
                return 0;
            }
            buffer[0] = self.next;
            self.next += 1;
            1
        }

        fn write_some(&mut self, _data: &[u8]) -> usize {
            0
        }
    }

    #[test]
    fn dripping_bytes_are_collected() {
        let clock = SteppingClock::new(Duration::from_millis(1));
        let mut stream = Dripping {
            next: 0,
            ready: true,
        };
        let mut buffer = [0; 5];
        let deadline = Deadline::after(&clock, Duration::from_secs(1));
        block_on(read_exact(&mut stream, &mut buffer, deadline)).unwrap();
        assert_eq!(buffer, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn silence_ends_at_the_deadline() {
        let clock = SteppingClock::new(Duration::from_millis(1));
        let mut stream = Dripping {
            next: 0,
            ready: true,
        };
        let deadline = Deadline::after(&clock, Duration::from_millis(20));
        assert_eq!(
            block_on(write_all(&mut stream, b"x", deadline)),
            Err(StreamError::TimedOut)
        );
    }
}
