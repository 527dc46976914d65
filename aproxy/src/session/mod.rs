//! The conversation with one SVSM.
//!
//! A session is one negotiation and one attestation, in the version of the protocol that the SVSM
//! asks for, and from version 0.2.0 on the reports that follow. A connection carries any number of
//! sessions, one after the other, because a serial line stays connected when the VM is reset; a session
//! that a reset interrupts ends where the next negotiation request arrives. Every message gets an
//! answer, unless there is nobody to read it, and every session ends with one [`Report`].

mod v0_1;
mod v0_2;

use std::fmt;
use std::time::{Duration, Instant};

use libaproxy::v0_2::{Code, Failure, Tee};
use libaproxy::{MessageError, UnsupportedVersion, Version, requested_version};
use serde::Serialize;
use thiserror::Error;

use crate::backend::{Backend, BackendError};
use crate::peer::{Peer, PeerError, Traffic};
use crate::transport::Stream;

/// Why a session gave no secret.
#[derive(Debug, Error)]
pub enum SessionError {
    /// Trouble with the connection.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// A message that is not what the protocol has at this place.
    #[error("the SVSM sent an {0}")]
    Message(MessageError),
    /// A version of the protocol that is not spoken here.
    #[error(transparent)]
    Version(#[from] UnsupportedVersion),
    /// The evidence is of another kind than was negotiated.
    #[error("the SVSM announced evidence of tee {announced} but sent {sent}")]
    OtherTee {
        /// In the negotiation.
        announced: Tee,
        /// In the attestation request.
        sent: Tee,
    },
    /// The evidence answers another challenge.
    #[error("the SVSM answered another challenge than it was sent")]
    OtherChallenge,
    /// The key is not one to encrypt to.
    #[error("the SVSM sent a key on a curve that was not offered, or of another length")]
    Key,
    /// The server's challenge does not fit version 0.1.0, which has it as bytes.
    #[error("the challenge of the attestation server is not standard base64")]
    Challenge,
    /// The secret is not in the one form that version 0.1.0 has.
    #[error("the answer of the attestation server does not fit protocol 0.1.0: {0}")]
    Form(String),
    /// The VM was reset.
    #[error("the SVSM began again before it sent evidence")]
    Restarted,
    /// No secret from the attestation server.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl SessionError {
    /// The error in the terms of protocol 0.2.0.
    fn failure(&self) -> Failure {
        let code = match self {
            Self::Backend(error) => error.code(),
            Self::Challenge | Self::Form(_) => Code::ServerError,
            _ => Code::BadRequest,
        };
        Failure::new(code, &self.to_string())
    }
}

/// What became of a session; as text, its line in the log.
#[derive(Debug)]
pub struct Report {
    /// As announced, if it got that far.
    pub tee: Option<Tee>,
    /// As asked for, if it got that far.
    pub version: Option<Version>,
    /// Success, or the cause.
    pub outcome: Result<(), SessionError>,
    /// From the first message to the last.
    pub duration: Duration,
    /// Bytes on the line.
    pub traffic: Traffic,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tee = self.tee.map_or("unknown", Tee::name);
        let ms = self.duration.as_millis();
        match &self.outcome {
            Ok(()) => write!(f, "tee {tee}: secret delivered after {ms} ms"),
            Err(e) => write!(f, "tee {tee}: failed after {ms} ms: {e}"),
        }?;
        let Traffic { received, sent } = self.traffic;
        match self.version {
            None => write!(f, " ({received} bytes from the SVSM, {sent} to it)"),
            Some(version) => write!(
                f,
                " (protocol {version}, {received} bytes from the SVSM, {sent} to it)"
            ),
        }
    }
}

/// What happens while a connection is served.
#[derive(Debug)]
pub enum Event {
    /// A session gave its secret, or failed.
    Session(Report),
    /// A report about a volume was not acknowledged.
    ReportFailed {
        /// Why.
        cause: String,
    },
    /// The SVSM whose session gave a secret is gone or began again.
    Ended {
        /// Reports that the server acknowledged.
        acknowledged: u64,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(report) => report.fmt(f),
            Self::ReportFailed { cause } => write!(f, "report about the volume failed: {cause}"),
            Self::Ended { acknowledged } => {
                write!(
                    f,
                    "ended, {acknowledged} reports about the volume acknowledged"
                )
            }
        }
    }
}

/// What a connection is for after a session.
enum Next {
    /// Another session, whose first message may be here already.
    Session(Option<Vec<u8>>),
    /// Nothing.
    Close,
}

/// Serves one connection until its end, and tells what happens: the number of the session on this
/// connection, from 0, and the event.
pub fn serve<S: Stream>(
    mut peer: Peer<S>,
    backend: &dyn Backend,
    mut tell: impl FnMut(u64, Event),
) {
    let mut first = None;
    for number in 0.. {
        let first_message = match first.take() {
            Some(message) => Ok(message),
            None => peer.read_message(None),
        };
        if let Err(PeerError::Closed) = first_message {
            return;
        }
        let mut session = Session::new(&mut peer, backend);
        match session.run(first_message, &mut |event| tell(number, event)) {
            Next::Session(message) => first = message,
            Next::Close => return,
        }
    }
}

/// One session under way.
struct Session<'s, S> {
    peer: &'s mut Peer<S>,
    backend: &'s dyn Backend,
    begun: Instant,
    tee: Option<Tee>,
    version: Option<Version>,
}

impl<'s, S: Stream> Session<'s, S> {
    fn new(peer: &'s mut Peer<S>, backend: &'s dyn Backend) -> Self {
        Self {
            peer,
            backend,
            begun: Instant::now(),
            tee: None,
            version: None,
        }
    }

    fn run(&mut self, first: Result<Vec<u8>, PeerError>, tell: &mut dyn FnMut(Event)) -> Next {
        match self.version_of(first) {
            Ok((message, Version::V0_2_0)) => v0_2::run(self, &message, tell),
            Ok((message, _)) => v0_1::run(self, &message, tell),
            // Every version has an error with words in answer to the first message.
            Err(error) => v0_1::refuse(self, error, tell),
        }
    }

    fn version_of(
        &mut self,
        first: Result<Vec<u8>, PeerError>,
    ) -> Result<(Vec<u8>, Version), SessionError> {
        let message = first?;
        let version = requested_version(&message)
            .map_err(SessionError::Message)?
            .supported()?;
        self.version = Some(version);
        Ok((message, version))
    }

    /// The message with the evidence, or that of the next session: then the VM was reset.
    fn second_message(&mut self) -> Result<Vec<u8>, PeerError> {
        let patience = self.peer.limits().evidence;
        self.peer.read_message(Some(patience))
    }

    /// Refuses evidence that was not what was negotiated.
    fn check_tee(&self, sent: [Tee; 2]) -> Result<(), SessionError> {
        for sent in sent {
            if let Some(announced) = self.tee.filter(|announced| *announced != sent) {
                return Err(SessionError::OtherTee { announced, sent });
            }
        }
        Ok(())
    }

    /// What became of the session.
    fn report(&mut self, outcome: Result<(), SessionError>) -> Event {
        Event::Session(Report {
            tee: self.tee,
            version: self.version,
            outcome,
            duration: self.begun.elapsed(),
            traffic: self.peer.take_traffic(),
        })
    }

    /// Tells the SVSM that `cause` ended its session, if it can still read, and decides what the
    /// connection is good for after that.
    fn give_up<M: Serialize>(
        &mut self,
        message: &M,
        cause: SessionError,
        tell: &mut dyn FnMut(Event),
    ) -> Next {
        let told = self.peer.write_message(message);
        let next = match &cause {
            SessionError::Peer(e) if e.is_final() => Next::Close,
            _ if told.is_err() => Next::Close,
            // The length was nonsense, so the line is out of step.
            SessionError::Peer(PeerError::Message(_)) => match self.peer.resync() {
                Ok(()) => Next::Session(None),
                Err(_) => Next::Close,
            },
            _ => Next::Session(None),
        };
        tell(self.report(Err(cause)));
        next
    }
}
