//! Finds the frames in what comes from the line.
//!
//! What is no frame is skipped up to the next byte that may begin one, so that a receiver
//! that has lost its place finds it again; how much was skipped is counted. Room for a
//! body is made once, for the longest one, and never more.

use crate::frame::{Frame, FrameError, HEADER_LEN, Header, MAGIC, MAX_BODY};
use alloc::vec::Vec;

/// What a receiver has at a moment.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// A frame whose body was damaged on the way: its sequence number.
    Damaged(u32),
}

/// Collects bytes until they are a frame.
pub struct Receiver {
    /// What is in it is a header, or may become one, and the body behind it.
    buffer: Vec<u8>,
    header: Option<Header>,
    /// The frame in `buffer` was given out.
    given: bool,
    skipped: u64,
}

impl Receiver {
    /// An empty one, with room for the longest frame.
    ///
    /// # Errors
    /// [`FrameError::NoMemory`].
    pub fn new() -> Result<Self, FrameError> {
        let mut buffer = Vec::new();
        buffer
            .try_reserve_exact(HEADER_LEN + MAX_BODY)
            .map_err(|_| FrameError::NoMemory)?;
        Ok(Self {
            buffer,
            header: None,
            given: false,
            skipped: 0,
        })
    }

    /// Bytes that were no part of a frame, or of one that never became whole.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Whether a frame has begun and is not whole.
    pub fn is_in_frame(&self) -> bool {
        !self.given && !self.buffer.is_empty()
    }

    /// Gives up the frame that has begun.
    pub fn reset(&mut self) {
        if !self.given {
            self.skipped += self.buffer.len() as u64;
        }
        self.clear();
    }

    /// Takes bytes from the front of `input` until they make something whole or `input`
    /// is empty.
    pub fn take(&mut self, input: &mut &[u8]) -> Option<Event<'_>> {
        if self.given {
            self.clear();
        }
        while self.header.is_none() {
            let wanted = HEADER_LEN - self.buffer.len();
            if !self.collect(wanted, input) {
                return None;
            }
            self.header = self.buffer.first_chunk().and_then(Header::parse);
            if self.header.is_none() {
                self.skip_to_next();
            }
        }
        let header = self.header?;
        let whole = HEADER_LEN + header.body_len();
        if !self.collect(whole - self.buffer.len(), input) {
            return None;
        }
        self.given = true;
        let body = &self.buffer[HEADER_LEN..];
        if !header.fits(body) {
            self.skipped += self.buffer.len() as u64;
            return Some(Event::Damaged(header.sequence()));
        }
        Some(Event::Frame(Frame {
            kind: header.kind(),
            sequence: header.sequence(),
            body,
        }))
    }

    /// Moves up to `wanted` bytes of `input` into the buffer, and tells whether there were
    /// as many.
    fn collect(&mut self, wanted: usize, input: &mut &[u8]) -> bool {
        let (taken, rest) = input.split_at(wanted.min(input.len()));
        // The room was made at the start: no frame is longer.
        self.buffer.extend_from_slice(taken);
        *input = rest;
        taken.len() == wanted
    }

    /// Drops the first byte, and all behind it that cannot begin a frame.
    fn skip_to_next(&mut self) {
        let next = (1..self.buffer.len())
            .find(|&at| {
                let rest = &self.buffer[at..];
                let known = rest.len().min(MAGIC.len());
                rest[..known] == MAGIC[..known]
            })
            .unwrap_or(self.buffer.len());
        self.buffer.drain(..next);
        self.skipped += next as u64;
    }

    fn clear(&mut self) {
        self.buffer.clear();
        self.header = None;
        self.given = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Kind, encode};
    use alloc::vec;

    fn frame(sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(Kind::Call, sequence, body, &mut out).unwrap();
        out
    }

    /// A frame's number, and its body unless it was damaged.
    type Received = (u32, Option<Vec<u8>>);

    /// Everything a receiver makes of `line`, fed in pieces of `piece` bytes.
    fn received(line: &[u8], piece: usize) -> (Vec<Received>, u64) {
        let mut receiver = Receiver::new().unwrap();
        let mut events = Vec::new();
        for mut input in line.chunks(piece) {
            while !input.is_empty() {
                match receiver.take(&mut input) {
                    Some(Event::Frame(frame)) => {
                        events.push((frame.sequence, Some(frame.body.to_vec())));
                    }
                    Some(Event::Damaged(sequence)) => events.push((sequence, None)),
                    None => {}
                }
            }
        }
        (events, receiver.skipped())
    }

    #[test]
    fn frames_come_out_whole_however_they_are_cut() {
        let line = [frame(1, b"one"), frame(2, b""), frame(3, &[7; 1000])].concat();
        for piece in [1, 2, 23, 24, 25, 5000] {
            let (events, skipped) = received(&line, piece);
            assert_eq!(
                events,
                [
                    (1, Some(b"one".to_vec())),
                    (2, Some(vec![])),
                    (3, Some(vec![7; 1000]))
                ]
            );
            assert_eq!(skipped, 0);
        }
    }

    #[test]
    fn garbage_before_and_between_frames_is_skipped() {
        let garbage: Vec<u8> = (0..=255).chain(MAGIC).chain(MAGIC).collect();
        let line = [
            garbage.clone(),
            frame(1, b"one"),
            vec![MAGIC[0]],
            garbage,
            frame(2, b"two"),
        ]
        .concat();
        for piece in [1, 7, 5000] {
            let (events, skipped) = received(&line, piece);
            assert_eq!(
                events,
                [(1, Some(b"one".to_vec())), (2, Some(b"two".to_vec()))]
            );
            assert_eq!(skipped, 2 * 264 + 1);
        }
    }

    #[test]
    fn a_damaged_header_costs_nothing_but_its_own_frame() {
        for at in 0..HEADER_LEN {
            for bit in 0..8 {
                let mut line = frame(1, b"lost");
                line[at] ^= 1 << bit;
                line.extend(frame(2, b"found"));
                let (events, skipped) = received(&line, 11);
                assert_eq!(
                    events,
                    [(2, Some(b"found".to_vec()))],
                    "byte {at} bit {bit}"
                );
                assert_eq!(skipped, 28);
            }
        }
    }

    #[test]
    fn a_damaged_body_is_reported_with_its_number() {
        let mut line = frame(1, b"lost");
        line[HEADER_LEN] ^= 1;
        line.extend(frame(2, b"found"));
        assert_eq!(
            received(&line, 3).0,
            [(1, None), (2, Some(b"found".to_vec()))]
        );
    }

    #[test]
    fn a_frame_that_stops_half_way_can_be_given_up() {
        let mut receiver = Receiver::new().unwrap();
        let whole = frame(1, b"body");
        let mut half = &whole[..26];
        assert!(receiver.take(&mut half).is_none());
        assert!(receiver.is_in_frame());
        receiver.reset();
        assert!(!receiver.is_in_frame());
        assert_eq!(receiver.skipped(), 26);
        assert!(matches!(
            receiver.take(&mut &whole[..]),
            Some(Event::Frame(Frame { sequence: 1, .. }))
        ));
        assert!(!receiver.is_in_frame());
    }

    #[test]
    fn the_buffer_never_grows() {
        let mut receiver = Receiver::new().unwrap();
        let room = receiver.buffer.capacity();
        let line = [vec![0xfb; 200_000], frame(1, &vec![0; MAX_BODY])].concat();
        let mut input = &line[..];
        let mut frames = 0;
        while !input.is_empty() {
            frames += u32::from(receiver.take(&mut input).is_some());
        }
        assert_eq!(frames, 1);
        assert_eq!(receiver.buffer.capacity(), room);
    }
}
