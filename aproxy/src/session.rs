//! The conversation with one SVSM, version 0.1.0.
//!
//! A session is one negotiation and one attestation. A connection carries any number of them, one
//! after the other, because a serial line stays connected when the VM is reset; a session that a reset
//! interrupts ends where the next negotiation request arrives. Every session ends with an answer to the
//! SVSM, unless there is nobody to read it, and with one [`Report`].

use std::fmt;
use std::time::{Duration, Instant};

use libaproxy::frame::decode;
use libaproxy::v0_1::{
    AttestationRequest, AttestationResponse, Failure, NegotiationRequest, NegotiationResponse, Tee,
};
use libaproxy::{MessageError, Text, UnsupportedVersion, requested_version};
use thiserror::Error;

use crate::backend::{Backend, BackendError, Exchange, Released};
use crate::peer::{Peer, PeerError};
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
    /// The VM was reset.
    #[error("the SVSM began again before it sent evidence")]
    Restarted,
    /// No secret from the attestation server.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// What became of a session; as text, its line in the log.
#[derive(Debug)]
pub struct Report {
    /// As announced, if it got that far.
    pub tee: Option<Tee>,
    /// Success, or the cause.
    pub outcome: Result<(), SessionError>,
    /// From the first message to the last.
    pub duration: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tee = self.tee.map_or("unknown", Tee::name);
        let ms = self.duration.as_millis();
        match &self.outcome {
            Ok(()) => write!(f, "tee {tee}: secret delivered after {ms} ms"),
            Err(e) => write!(f, "tee {tee}: failed after {ms} ms: {e}"),
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

/// Serves one connection until its end, and hands out a report after each session.
pub fn serve<S: Stream>(mut peer: Peer<S>, backend: &dyn Backend, mut report: impl FnMut(Report)) {
    let mut first = None;
    loop {
        let first_message = match first.take() {
            Some(message) => Ok(message),
            None => peer.read_message(None),
        };
        if let Err(PeerError::Closed) = first_message {
            return;
        }
        let mut session = Session::new();
        let next = session.run(&mut peer, backend, first_message);
        report(session.report);
        match next {
            Next::Session(message) => first = message,
            Next::Close => return,
        }
    }
}

struct Session {
    begun: Instant,
    report: Report,
}

impl Session {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            report: Report {
                tee: None,
                outcome: Ok(()),
                duration: Duration::ZERO,
            },
        }
    }

    fn run<S: Stream>(
        &mut self,
        peer: &mut Peer<S>,
        backend: &dyn Backend,
        first: Result<Vec<u8>, PeerError>,
    ) -> Next {
        let exchange = match self.negotiate(peer, backend, first) {
            Ok(exchange) => exchange,
            Err(e) => {
                let failure = Failure {
                    error: Text::new(&e.to_string()),
                };
                let next = answer(peer, &failure, &e);
                return self.end(Err(e), next);
            }
        };
        let message = match peer.read_message(Some(peer.limits().evidence)) {
            Ok(message) => message,
            Err(e) => return self.fail(peer, e.into()),
        };
        // A first message in place of the second: the VM was reset.
        let request: AttestationRequest = match decode(&message) {
            Ok(request) => request,
            Err(_) if requested_version(&message).is_ok() => {
                return self.end(Err(SessionError::Restarted), Next::Session(Some(message)));
            }
            Err(e) => return self.fail(peer, SessionError::Message(e)),
        };
        match self.attest(exchange, &request) {
            Ok(released) => {
                let sent = peer.write_message(&success(released));
                let next = match &sent {
                    Err(e) if e.is_final() => Next::Close,
                    _ => Next::Session(None),
                };
                self.end(sent.map_err(SessionError::from), next)
            }
            Err(e) => self.fail(peer, e),
        }
    }

    fn negotiate<S: Stream>(
        &mut self,
        peer: &mut Peer<S>,
        backend: &dyn Backend,
        first: Result<Vec<u8>, PeerError>,
    ) -> Result<Box<dyn Exchange>, SessionError> {
        let message = first?;
        requested_version(&message)
            .map_err(SessionError::Message)?
            .supported()?;
        let request: NegotiationRequest = decode(&message).map_err(SessionError::Message)?;
        self.report.tee = Some(request.tee);
        let exchange = backend.negotiate(request.tee)?;
        peer.write_message(&NegotiationResponse {
            challenge: exchange.challenge().into(),
            params: exchange.params(),
            version: None,
        })?;
        Ok(exchange)
    }

    fn attest(
        &self,
        exchange: Box<dyn Exchange>,
        request: &AttestationRequest,
    ) -> Result<Released, SessionError> {
        for sent in [request.tee, request.evidence.tee()] {
            if let Some(announced) = self.report.tee.filter(|announced| *announced != sent) {
                return Err(SessionError::OtherTee { announced, sent });
            }
        }
        if *request.challenge != *exchange.challenge() {
            return Err(SessionError::OtherChallenge);
        }
        Ok(exchange.attest(request)?)
    }

    /// Ends a session whose negotiation succeeded.
    fn fail<S: Stream>(&mut self, peer: &mut Peer<S>, e: SessionError) -> Next {
        let response = AttestationResponse::failure(Some(Text::new(&e.to_string())));
        let next = answer(peer, &response, &e);
        self.end(Err(e), next)
    }

    fn end(&mut self, outcome: Result<(), SessionError>, next: Next) -> Next {
        self.report.outcome = outcome;
        self.report.duration = self.begun.elapsed();
        next
    }
}

/// Tells the SVSM that `cause` ended its session, if it can still read, and decides what the
/// connection is good for after that.
fn answer<S: Stream, M: serde::Serialize>(
    peer: &mut Peer<S>,
    message: &M,
    cause: &SessionError,
) -> Next {
    let told = peer.write_message(message);
    match cause {
        SessionError::Peer(e) if e.is_final() => Next::Close,
        _ if told.is_err() => Next::Close,
        // The length was nonsense, so the line is out of step.
        SessionError::Peer(PeerError::Message(_)) => match peer.resync() {
            Ok(()) => Next::Session(None),
            Err(_) => Next::Close,
        },
        _ => Next::Session(None),
    }
}

fn success(released: Released) -> AttestationResponse {
    AttestationResponse {
        success: true,
        secret: Some(released.ciphertext),
        decryption: Some(released.decryption),
        token: Some(released.token),
        error: None,
    }
}
