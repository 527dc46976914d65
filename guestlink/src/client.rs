//! The client's end of the line: asks, waits no longer than told, believes nothing.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::frame::{self, FrameError, Kind};
use crate::message::{Answer, Call, MessageError, Refusal, Registers};
use crate::receiver::{Event, Receiver};

/// How long the SVSM may take for the answer to a call. Making an RSA key under emulation
/// takes longest.
pub const CALL_LIMIT: Duration = Duration::from_secs(120);

/// How long the other end may take to be there.
pub const HELLO_LIMIT: Duration = Duration::from_secs(10);

/// How long until a hello is sent again. Longer than the SVSM waits for the rest of a
/// frame: what an earlier client left half sent is given up by then.
const HELLO_INTERVAL: Duration = Duration::from_millis(1500);

/// Why a call was not answered.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The socket.
    #[error("the link failed: {0}")]
    Io(#[from] io::Error),
    /// Nobody is at the other end, or somebody else has the line.
    #[error(
        "nobody answers on the link; is the SVSM up, built with the feature `guestlink`, and no other client on the link?"
    )]
    NobodyThere,
    /// The SVSM was there and did not answer.
    #[error("no answer from the SVSM within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The SVSM did not serve the frame.
    #[error("{0}")]
    Refused(Refusal),
    /// The answer breaks the rules of the link.
    #[error("the SVSM's answer is malformed: {0}")]
    Malformed(&'static str),
    /// The SVSM served the call and did not do what was asked.
    #[error("the SVSM answers {result:#x}, {name}", result = .0, name = result_name(*.0))]
    Failed(u64),
    /// A message breaks the rules of the link.
    #[error("malformed message: {0}")]
    Message(#[from] MessageError),
    /// A frame breaks the rules of the link.
    #[error("malformed frame: {0}")]
    Frame(#[from] FrameError),
}

/// A region of guest memory as a client fills it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its guest-physical address.
    pub base: u64,
    /// Its contents.
    pub bytes: Vec<u8>,
}

/// Result code and registers after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// RAX.
    pub result: u64,
    /// RCX, RDX, R8, R9.
    pub registers: [u64; 4],
}

/// The name of a result code (AMD 58019, section 3.3).
pub fn result_name(result: u64) -> &'static str {
    match result {
        0 => "success",
        0x8000_0000 => "incomplete",
        0x8000_0001 => "unsupported protocol",
        0x8000_0002 => "unsupported call",
        0x8000_0003 => "invalid address",
        0x8000_0004 => "invalid format",
        0x8000_0005 => "invalid parameter",
        0x8000_0006 => "invalid request",
        0x8000_0007 => "busy",
        0x8000_1000.. => "specific to the protocol",
        _ => "unknown",
    }
}

impl Outcome {
    /// The registers, of a call that has to succeed.
    ///
    /// # Errors
    /// [`LinkError::Failed`].
    pub fn success(self) -> Result<[u64; 4], LinkError> {
        match self.result {
            0 => Ok(self.registers),
            result => Err(LinkError::Failed(result)),
        }
    }
}

/// A link to an SVSM over a stream whose reads end after a short time-out.
pub struct Link<S> {
    stream: S,
    receiver: Receiver,
    /// Bytes that were read and not looked at yet.
    pending: Vec<u8>,
    sequence: u32,
    call_limit: Duration,
}

impl Link<UnixStream> {
    /// Connects to the socket that QEMU's serial port COM4 listens on, and makes sure that
    /// an SVSM serves there.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn connect(socket: &Path) -> Result<Self, LinkError> {
        let stream = UnixStream::connect(socket)?;
        let short = Some(Duration::from_millis(100));
        stream.set_read_timeout(short)?;
        stream.set_write_timeout(Some(HELLO_LIMIT))?;
        Self::over(stream)
    }
}

impl<S: Read + Write> Link<S> {
    /// A link over `stream`, when an SVSM serves there. A read of `stream` must end within
    /// a fraction of a second.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn over(stream: S) -> Result<Self, LinkError> {
        // Answers to an earlier client may still come; the numbers tell them apart.
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |time| time.subsec_nanos());
        let mut link = Self {
            stream,
            receiver: Receiver::new()?,
            pending: Vec::new(),
            sequence: now ^ std::process::id().rotate_left(16),
            call_limit: CALL_LIMIT,
        };
        link.hello()?;
        Ok(link)
    }

    /// Waits up to `limit` for the answer to a call.
    pub fn set_call_limit(&mut self, limit: Duration) {
        self.call_limit = limit;
    }

    /// Makes an SVSM call; what it writes into memory is in `region` afterwards.
    ///
    /// # Errors
    /// [`LinkError`]; a result code of the SVSM is none.
    pub fn call(
        &mut self,
        protocol: u32,
        call: u32,
        registers: [u64; 4],
        region: &mut Region,
    ) -> Result<Outcome, LinkError> {
        let size = u32::try_from(region.bytes.len()).unwrap_or(u32::MAX);
        // Zeros at the end need not be sent.
        let used = region.bytes.iter().rposition(|&byte| byte != 0);
        let body = Call {
            protocol,
            call,
            registers: Registers::new(registers),
            base: region.base,
            size,
            contents: &region.bytes[..used.map_or(0, |last| last + 1)],
        }
        .encode()?;
        let (kind, body) = self.exchange(Kind::Call, &body, self.call_limit)?;
        if kind != Kind::Answer {
            return Err(LinkError::Malformed("no answer to a call"));
        }
        let answer = Answer::decode(&body, size)?;
        for change in &answer.changes {
            let at = change.offset as usize;
            region.bytes[at..at + change.bytes.len()].copy_from_slice(change.bytes);
        }
        Ok(Outcome {
            result: answer.result,
            registers: answer.registers.values(),
        })
    }

    /// Asks the SVSM to stop serving.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn shutdown(&mut self) -> Result<(), LinkError> {
        match self.exchange(Kind::Shutdown, &[], self.call_limit)? {
            (Kind::Done, _) => Ok(()),
            _ => Err(LinkError::Malformed("no answer to a shutdown")),
        }
    }

    /// Makes sure that the other end listens at a frame's beginning.
    fn hello(&mut self) -> Result<(), LinkError> {
        let end = Instant::now() + HELLO_LIMIT;
        while Instant::now() < end {
            match self.exchange(Kind::Hello, &[], HELLO_INTERVAL) {
                Ok((Kind::Done, _)) => return Ok(()),
                // The end of what an earlier client began.
                Ok(_) | Err(LinkError::TimedOut(_) | LinkError::Refused(_)) => {}
                Err(LinkError::Io(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Err(LinkError::NobodyThere);
                }
                Err(error) => return Err(error),
            }
        }
        Err(LinkError::NobodyThere)
    }

    /// Sends a frame and waits for the one that answers it; others are dropped.
    fn exchange(
        &mut self,
        kind: Kind,
        body: &[u8],
        limit: Duration,
    ) -> Result<(Kind, Vec<u8>), LinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut frame = Vec::new();
        frame::encode(kind, self.sequence, body, &mut frame)?;
        self.stream.write_all(&frame)?;
        self.stream.flush()?;
        let end = Instant::now() + limit;
        loop {
            let mut input = &self.pending[..];
            let mut found = None;
            while !input.is_empty() && found.is_none() {
                found = match self.receiver.take(&mut input) {
                    Some(Event::Frame(frame)) if frame.sequence == self.sequence => {
                        Some((frame.kind, frame.body.to_vec()))
                    }
                    _ => None,
                };
            }
            let used = self.pending.len() - input.len();
            self.pending.drain(..used);
            if let Some((kind, body)) = found {
                return understood(kind, body);
            }
            if Instant::now() >= end {
                return Err(LinkError::TimedOut(limit));
            }
            self.read_more()?;
        }
    }

    fn read_more(&mut self) -> Result<(), LinkError> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
            Ok(count) => {
                self.pending.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The kind of an answer and its body.
fn understood(kind: u8, body: Vec<u8>) -> Result<(Kind, Vec<u8>), LinkError> {
    match Kind::from_number(kind) {
        Some(Kind::Refused) => Err(match body[..] {
            [number] => Refusal::from_number(number).map_or(
                LinkError::Malformed("refused for an unknown reason"),
                LinkError::Refused,
            ),
            _ => LinkError::Malformed("refused without a reason"),
        }),
        Some(kind) => Ok((kind, body)),
        None => Err(LinkError::Malformed("an unknown kind of frame")),
    }
}
