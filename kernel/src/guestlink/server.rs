//! Serves frames, one after another, until one asks to stop.
//!
//! A frame that stops half-way is given up, an answer that nobody takes is dropped; the
//! next frame is then looked for. When nothing comes for a while, what the services have
//! left over is done.

use super::memory::Region;
use crate::drivers::stream::{ByteStream, write_all};
use crate::exec::yield_now;
use crate::protocols::{self, CallId, Cpu};
use crate::services::Services;
use crate::time::{Clock, Deadline};
use alloc::vec::Vec;
use core::time::Duration;
use guestlink::frame::{self, Frame, Kind};
use guestlink::receiver::Event;
use guestlink::{Answer, Call, MAX_BODY, Receiver, Refusal, Registers};

/// How long the next byte of a frame may take.
const BYTE_LIMIT: Duration = Duration::from_secs(1);

/// How long a whole frame may take.
const FRAME_LIMIT: Duration = Duration::from_secs(20);

/// How long an answer may take to be taken.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// How long between two looks at a silent line. Each look leaves the VM, and an emulator
/// that is left all the time gets to nothing else, such as filling the line.
const POLL_INTERVAL: Duration = Duration::from_micros(30);

/// How long the line is silent until it counts as idle.
const IDLE_AFTER: Duration = Duration::from_millis(20);

/// Why nothing can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum LinkError {
    #[error("not enough memory for the guest link")]
    NoMemory,
}

/// What was served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Calls that were served, with whatever result.
    pub calls: u64,
    /// Frames that were not served.
    pub refused: u64,
    /// Answers that nobody took.
    pub lost_answers: u64,
    /// Bytes that were no part of a whole frame.
    pub skipped: u64,
}

/// Serves the frames of one line.
pub struct Server<'a> {
    services: &'a Services,
    cpu: Cpu,
    clock: &'a dyn Clock,
    receiver: Receiver,
    region: Region,
    summary: Summary,
}

/// What is sent back.
enum Reply {
    Done,
    Answer(Vec<u8>),
    Refused(Refusal),
}

/// What a frame asks for.
struct Served {
    sequence: u32,
    reply: Reply,
    /// It was the last one.
    last: bool,
}

impl<'a> Server<'a> {
    /// A server with its buffers.
    ///
    /// # Errors
    /// [`LinkError::NoMemory`].
    pub fn new(services: &'a Services, clock: &'a dyn Clock) -> Result<Self, LinkError> {
        Ok(Self {
            services,
            cpu: Cpu::new().ok_or(LinkError::NoMemory)?,
            clock,
            receiver: Receiver::new().map_err(|_| LinkError::NoMemory)?,
            region: Region::empty(),
            summary: Summary::default(),
        })
    }

    /// Serves `line` until a frame asks to stop. `idle` is called once after each call
    /// when the line is silent.
    pub async fn run(mut self, line: &mut impl ByteStream, mut idle: impl FnMut()) -> Summary {
        let mut buffer = [0; 64];
        let mut frame_end = None;
        let mut last_byte = self.clock.now();
        let mut settled = true;
        loop {
            let count = line.read_some(&mut buffer);
            if count == 0 {
                let silence = self.clock.now().saturating_sub(last_byte);
                if self.receiver.is_in_frame() {
                    let late = frame_end.is_some_and(|end: Deadline<'_>| end.passed());
                    if late || silence >= BYTE_LIMIT {
                        self.receiver.reset();
                    }
                } else if !settled && silence >= IDLE_AFTER {
                    settled = true;
                    idle();
                }
                let next_look = Deadline::after(self.clock, POLL_INTERVAL);
                while !next_look.passed() {
                    core::hint::spin_loop();
                }
                yield_now().await;
                continue;
            }
            last_byte = self.clock.now();
            if !self.receiver.is_in_frame() {
                frame_end = Some(Deadline::after(self.clock, FRAME_LIMIT));
            }
            let mut input = &buffer[..count];
            while !input.is_empty() {
                let Some(served) = self.take(&mut input) else {
                    continue;
                };
                self.answer(line, &served).await;
                settled &= !matches!(served.reply, Reply::Answer(_));
                last_byte = self.clock.now();
                if served.last {
                    self.summary.skipped = self.receiver.skipped();
                    return self.summary;
                }
            }
        }
    }

    /// Takes bytes from `input` and serves the frame that they end, if they do.
    fn take(&mut self, input: &mut &[u8]) -> Option<Served> {
        let (sequence, reply, last) = match self.receiver.take(input)? {
            Event::Damaged(sequence) => (sequence, Reply::Refused(Refusal::Damaged), false),
            Event::Frame(Frame {
                kind,
                sequence,
                body,
            }) => {
                let kind = Kind::from_number(kind);
                let reply = match kind {
                    Some(Kind::Hello | Kind::Shutdown) if body.is_empty() => Reply::Done,
                    Some(Kind::Hello | Kind::Shutdown) => Reply::Refused(Refusal::Malformed),
                    Some(Kind::Call) => call(self.services, &mut self.cpu, &mut self.region, body)
                        .map_or_else(Reply::Refused, Reply::Answer),
                    _ => Reply::Refused(Refusal::Kind),
                };
                let last = kind == Some(Kind::Shutdown) && matches!(reply, Reply::Done);
                (sequence, reply, last)
            }
        };
        match reply {
            Reply::Done => {}
            Reply::Answer(_) => self.summary.calls += 1,
            Reply::Refused(_) => self.summary.refused += 1,
        }
        Some(Served {
            sequence,
            reply,
            last,
        })
    }

    async fn answer(&mut self, line: &mut impl ByteStream, served: &Served) {
        let refusal;
        let (kind, body): (_, &[u8]) = match &served.reply {
            Reply::Done => (Kind::Done, &[]),
            Reply::Answer(body) => (Kind::Answer, body),
            Reply::Refused(reason) => {
                refusal = [*reason as u8];
                (Kind::Refused, &refusal)
            }
        };
        let mut out = Vec::new();
        let deadline = Deadline::after(self.clock, ANSWER_LIMIT);
        let sent = match frame::encode(kind, served.sequence, body, &mut out) {
            Ok(()) => write_all(line, &out, deadline).await.is_ok(),
            Err(_) => false,
        };
        self.summary.lost_answers += u64::from(!sent);
    }
}

/// Serves the call in `body` and returns the body of its answer.
fn call(
    services: &Services,
    cpu: &mut Cpu,
    region: &mut Region,
    body: &[u8],
) -> Result<Vec<u8>, Refusal> {
    let call = Call::decode(body).map_err(|_| Refusal::Malformed)?;
    region.fill(&call).ok_or(Refusal::NoMemory)?;
    let [rcx, rdx, r8, r9] = call.registers.values();
    let mut registers = protocols::Registers { rcx, rdx, r8, r9 };
    let id = CallId {
        protocol: call.protocol,
        call: call.call,
    };
    let result = protocols::dispatch(services, cpu, id, &mut registers, region);
    let protocols::Registers { rcx, rdx, r8, r9 } = registers;
    let answer = Answer {
        result,
        registers: Registers::new([rcx, rdx, r8, r9]),
        changes: region.changes().collect(),
    };
    let body = answer.encode().map_err(|_| Refusal::NoMemory)?;
    debug_assert!(body.len() <= MAX_BODY);
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::block_on;
    use crate::services::fake;
    use crate::time::fake::SteppingClock;
    use alloc::collections::VecDeque;
    use alloc::vec;

    /// A line: what the host sends, with silences, and what it was sent.
    struct Line {
        /// Each piece arrives after this many empty reads.
        incoming: VecDeque<(u32, Vec<u8>)>,
        outgoing: Vec<u8>,
        /// Nothing is taken.
        deaf: bool,
    }

    impl ByteStream for Line {
        fn read_some(&mut self, buffer: &mut [u8]) -> usize {
            let (silence, bytes) = self.incoming.front_mut().expect("a shutdown ends the line");
            if *silence > 0 {
                *silence -= 1;
                return 0;
            }
            let count = bytes.len().min(buffer.len());
            buffer[..count].copy_from_slice(&bytes[..count]);
            bytes.drain(..count);
            if bytes.is_empty() {
                self.incoming.pop_front();
            }
            count
        }

        fn write_some(&mut self, data: &[u8]) -> usize {
            if self.deaf {
                return 0;
            }
            let count = data.len().min(16);
            self.outgoing.extend_from_slice(&data[..count]);
            count
        }
    }

    /// Sequence number, kind and body of an answer.
    type Sent = (u32, u8, Vec<u8>);

    fn frame(kind: Kind, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame::encode(kind, sequence, body, &mut out).unwrap();
        out
    }

    fn tpm_request(command: &[u8]) -> Vec<u8> {
        let mut contents = vec![8, 0, 0, 0, 0];
        contents.extend((command.len() as u32).to_le_bytes());
        contents.extend(command);
        contents
    }

    fn tpm_call(sequence: u32, command: &[u8]) -> Vec<u8> {
        let contents = tpm_request(command);
        let call = Call {
            protocol: 2,
            call: 1,
            registers: Registers::new([0x1000, 0, 0, 0]),
            base: 0x1000,
            size: 4096,
            contents: &contents,
        };
        frame(Kind::Call, sequence, &call.encode().unwrap())
    }

    /// Runs a server over pieces with silences before them; the clock moves on by 10 ms
    /// at each look. Returns the summary, the answers and how often it was idle.
    fn run(pieces: Vec<(u32, Vec<u8>)>) -> (Summary, Vec<Sent>, u32) {
        let mut line = Line {
            incoming: pieces.into(),
            outgoing: Vec::new(),
            deaf: false,
        };
        let clock = SteppingClock::new(Duration::from_millis(10));
        let services = fake::services();
        let server = Server::new(&services, &clock).unwrap();
        let mut idle = 0;
        let summary = block_on(server.run(&mut line, || idle += 1));
        let mut receiver = Receiver::new().unwrap();
        let mut answers = Vec::new();
        let mut input = &line.outgoing[..];
        while !input.is_empty() {
            match receiver.take(&mut input) {
                Some(Event::Frame(frame)) => {
                    answers.push((frame.sequence, frame.kind, frame.body.to_vec()));
                }
                other => panic!("the server sent {other:?}"),
            }
        }
        (summary, answers, idle)
    }

    fn served(answer: &Sent, command: &[u8]) {
        let (_, kind, body) = answer;
        assert_eq!(*kind, Kind::Answer as u8);
        let answer = Answer::decode(body, 4096).unwrap();
        assert_eq!(answer.result, 0);
        let mut expected = ((command.len() + 1) as u32).to_le_bytes().to_vec();
        expected.push(0);
        expected.extend(command.iter().rev());
        let mut memory = tpm_request(command);
        memory.resize(4096, 0);
        for change in &answer.changes {
            memory[change.offset as usize..][..change.bytes.len()].copy_from_slice(change.bytes);
        }
        assert_eq!(memory[..expected.len()], expected);
    }

    #[test]
    fn calls_are_served_until_the_host_asks_to_stop() {
        let (summary, answers, idle) = run(vec![
            (0, frame(Kind::Hello, 1, b"")),
            (3, tpm_call(2, b"abc")),
            (20, tpm_call(3, b"defg")),
            (0, frame(Kind::Shutdown, 4, b"")),
        ]);
        assert_eq!(summary.calls, 2);
        assert_eq!((summary.refused, summary.skipped), (0, 0));
        assert_eq!((answers[0].0, answers[0].1), (1, Kind::Done as u8));
        served(&answers[1], b"abc");
        served(&answers[2], b"defg");
        assert_eq!((answers[3].0, answers[3].1), (4, Kind::Done as u8));
        assert_eq!(idle, 1);
    }

    #[test]
    fn garbage_and_half_frames_cost_only_themselves() {
        let whole = tpm_call(1, b"abc");
        let (summary, answers, _) = run(vec![
            (0, vec![0x5a; 333]),
            (5, whole[..40].to_vec()),
            // The silence gives it up.
            (120, tpm_call(2, b"found")),
            (0, frame(Kind::Shutdown, 3, b"")),
        ]);
        assert_eq!(summary.calls, 1);
        assert_eq!(summary.skipped, 333 + 40);
        assert_eq!(answers[0].0, 2);
        served(&answers[0], b"found");
    }

    #[test]
    fn a_frame_that_drips_for_ever_is_given_up() {
        let whole = tpm_call(1, &[7; 4000]);
        let mut pieces: Vec<_> = whole[..3000].iter().map(|&byte| (2, vec![byte])).collect();
        pieces.push((120, tpm_call(2, b"found")));
        pieces.push((0, frame(Kind::Shutdown, 3, b"")));
        let (summary, answers, _) = run(pieces);
        assert_eq!(summary.calls, 1);
        served(answers.iter().find(|a| a.0 == 2).unwrap(), b"found");
    }

    #[test]
    fn frames_that_are_no_calls_are_refused_by_number() {
        let mut damaged = tpm_call(2, b"abc");
        *damaged.last_mut().unwrap() ^= 1;
        let mut unknown = Vec::new();
        frame::encode(Kind::Refused, 4, b"", &mut unknown).unwrap();
        let (summary, answers, _) = run(vec![
            (0, frame(Kind::Call, 1, b"short")),
            (0, damaged),
            (0, frame(Kind::Answer, 3, b"")),
            (0, unknown),
            (0, frame(Kind::Hello, 5, b"x")),
            // With a body it is no shutdown.
            (0, frame(Kind::Shutdown, 6, b"x")),
            (0, frame(Kind::Shutdown, 7, b"")),
        ]);
        assert_eq!((summary.calls, summary.refused), (0, 6));
        let reasons: Vec<_> = answers
            .iter()
            .map(|(number, kind, body)| (*number, *kind, body.first().copied()))
            .collect();
        let refused = Kind::Refused as u8;
        assert_eq!(
            reasons,
            [
                (1, refused, Some(Refusal::Malformed as u8)),
                (2, refused, Some(Refusal::Damaged as u8)),
                (3, refused, Some(Refusal::Kind as u8)),
                (4, refused, Some(Refusal::Kind as u8)),
                (5, refused, Some(Refusal::Malformed as u8)),
                (6, refused, Some(Refusal::Malformed as u8)),
                (7, Kind::Done as u8, None),
            ]
        );
    }

    #[test]
    fn an_answer_that_nobody_takes_is_dropped() {
        let mut line = Line {
            incoming: vec![(0, tpm_call(1, b"abc")), (0, frame(Kind::Shutdown, 2, b""))].into(),
            outgoing: Vec::new(),
            deaf: true,
        };
        let clock = SteppingClock::new(Duration::from_millis(10));
        let services = fake::services();
        let server = Server::new(&services, &clock).unwrap();
        let summary = block_on(server.run(&mut line, || {}));
        assert_eq!((summary.calls, summary.lost_answers), (1, 2));
    }
}
