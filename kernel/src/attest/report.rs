//! Reports to the server about the volume in use, over the line of the attestation.
//!
//! Always true in here: one report is under way at a time, and commits made meanwhile
//! become one; a report that got no answer is sent again as it was, under its number,
//! which the server answers as before; only an acknowledgement under the session key
//! counts, and what else the proxy says can make reporting fail but not succeed.

use super::transport::{Link, LinkError, Question, Timeouts};
use crate::drivers::stream::ByteStream;
use crate::exec::yield_now;
use crate::time::Deadline;
use core::task::Poll;
use core::time::Duration;
use hmac::{Hmac, KeyInit, Mac};
use libaproxy::v0_2::{
    ACK_MAC_PREFIX, AckBody, Code, Failure, Identity, Ledger, REPORT_MAC_PREFIX, ReportBody,
    ReportKind, ReportRequest, ReportResponse, Sealed, SessionKey, VolumeState,
};
use libaproxy::{Base64, MessageError, frame};
use sha2::Sha384;

/// How often one report is sent.
const TRIES: u32 = 3;

/// Pause before a report is sent again.
const PAUSE: Duration = Duration::from_secs(1);

/// Why there is no acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// It did not get through.
    #[error("report to the server: {0}")]
    Link(#[from] LinkError),
    /// The server, or somebody on the way, says no.
    #[error("report to the server: refused, the proxy says: {0}")]
    Refused(Failure),
    /// Not from the server of this session.
    #[error("report to the server: the acknowledgement is not authentic")]
    Mac,
    /// Authentic, but it acknowledges something else.
    #[error("report to the server: the acknowledgement is for another state")]
    Mismatch,
    /// Authentic, but it acknowledges an earlier report.
    #[error("report to the server: the acknowledgement is for an earlier report")]
    Late,
    /// A commit before the volume was reported as open.
    #[error("report to the server: the volume was not reported as open")]
    NotOpen,
}

impl ReportError {
    /// Whether the same again may succeed.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Link(_) | Self::Late => true,
            Self::Refused(failure) => matches!(
                failure.code,
                Code::ServerUnreachable | Code::ServerError | Code::Internal
            ),
            Self::Mac | Self::Mismatch | Self::NotOpen => false,
        }
    }
}

/// A report under way.
struct Flight<'c> {
    body: ReportBody,
    request: ReportRequest,
    tries: u32,
    state: FlightState<'c>,
}

enum FlightState<'c> {
    Waiting(Option<Deadline<'c>>),
    Asking(Question<'c>),
}

/// Reports of one boot.
pub struct Reporter<'c, S> {
    link: Link<'c, S>,
    patience: Duration,
    key: SessionKey,
    mode: Ledger,
    seq: u64,
    volume: Option<(Identity, u64)>,
    flight: Option<Flight<'c>>,
    /// Counter of the newest commit that no report was sent about.
    waiting: Option<u64>,
    acknowledged: Option<AckBody>,
    sent: u64,
}

impl<'c, S: ByteStream> Reporter<'c, S> {
    pub(super) fn new(
        link: Link<'c, S>,
        key: SessionKey,
        mode: Ledger,
        timeouts: &Timeouts,
    ) -> Self {
        Self {
            link,
            patience: timeouts.report,
            key,
            mode,
            seq: 0,
            volume: None,
            flight: None,
            waiting: None,
            acknowledged: None,
            sent: 0,
        }
    }

    /// Which reports the server wants.
    pub fn mode(&self) -> Ledger {
        self.mode
    }

    /// The last acknowledgement.
    pub fn acknowledged(&self) -> Option<&AckBody> {
        self.acknowledged.as_ref()
    }

    /// Reports that were made so far, repetitions not counted.
    pub fn count(&self) -> u64 {
        self.sent
    }

    /// Reports that the volume `identity` was opened and carries `epoch`, and waits for
    /// the acknowledgement. Nothing may be served before.
    pub async fn open(
        &mut self,
        identity: Identity,
        epoch: u64,
        counter: u64,
    ) -> Result<(), ReportError> {
        self.volume = Some((identity, epoch));
        self.depart(ReportKind::Open, identity, epoch, counter)?;
        self.settle().await
    }

    /// Takes note of a commit that left the volume with update counter `counter`. Returns
    /// at once: [`poll`](Self::poll) sends the report. Does nothing unless the server
    /// wants a report of every commit.
    pub fn commit(&mut self, counter: u64) -> Result<(), ReportError> {
        match self.mode {
            Ledger::Off | Ledger::Boot => return Ok(()),
            Ledger::Commit | Ledger::Strict => {}
        }
        if self.volume.is_none() {
            return Err(ReportError::NotOpen);
        }
        self.waiting = Some(self.waiting.unwrap_or(0).max(counter));
        Ok(())
    }

    /// Moves reports on as far as that goes without waiting. Ready when all of them are
    /// acknowledged. After an error the report it concerns is dropped; a later one covers
    /// it.
    pub fn poll(&mut self) -> Poll<Result<(), ReportError>> {
        loop {
            if self.flight.is_none() {
                let (Some(counter), Some((identity, epoch))) = (self.waiting.take(), self.volume)
                else {
                    return Poll::Ready(Ok(()));
                };
                self.depart(ReportKind::Commit, identity, epoch, counter)?;
            }
            match self.advance() {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(ack)) => {
                    self.flight = None;
                    self.acknowledged = Some(ack);
                }
                Poll::Ready(Err(error)) => {
                    self.flight = None;
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    /// Waits until every report is acknowledged. Ends, since every report does.
    pub async fn settle(&mut self) -> Result<(), ReportError> {
        loop {
            match self.poll() {
                Poll::Ready(result) => return result,
                Poll::Pending => yield_now().await,
            }
        }
    }

    /// Sends a new report on its way.
    fn depart(
        &mut self,
        kind: ReportKind,
        identity: Identity,
        epoch: u64,
        counter: u64,
    ) -> Result<(), ReportError> {
        self.seq += 1;
        let body = ReportBody {
            seq: self.seq,
            identity,
            state: VolumeState::Formatted,
            epoch,
            counter,
            kind,
        };
        let report = self.seal(&body)?;
        self.sent += 1;
        self.flight = Some(Flight {
            body,
            request: ReportRequest { report },
            tries: 0,
            state: FlightState::Waiting(None),
        });
        Ok(())
    }

    /// One step of the report under way; ready with its acknowledgement.
    fn advance(&mut self) -> Poll<Result<AckBody, ReportError>> {
        loop {
            let Some(flight) = &mut self.flight else {
                return Poll::Pending;
            };
            let error = match &mut flight.state {
                FlightState::Waiting(Some(until)) if !until.passed() => return Poll::Pending,
                FlightState::Waiting(_) => {
                    // What is on the line now answers an earlier try.
                    self.link.throw_away()?;
                    let question = self.link.begin(&flight.request, self.patience)?;
                    flight.tries += 1;
                    flight.state = FlightState::Asking(question);
                    continue;
                }
                FlightState::Asking(question) => match self.link.advance(question) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => error.into(),
                    Poll::Ready(Ok(answer)) => match acknowledged(&self.key, &flight.body, &answer)
                    {
                        Ok(ack) => return Poll::Ready(Ok(ack)),
                        Err(error) => error,
                    },
                },
            };
            if !error.is_passing() || flight.tries >= TRIES {
                return Poll::Ready(Err(error));
            }
            let until = Deadline::after(self.link.clock(), PAUSE);
            flight.state = FlightState::Waiting(Some(until));
        }
    }

    fn seal(&self, body: &ReportBody) -> Result<Sealed, ReportError> {
        let framed = frame::encode(body).map_err(LinkError::from)?;
        let body = framed[frame::HEADER_LEN..].to_vec();
        let mac = mac(&self.key, REPORT_MAC_PREFIX, &body).finalize();
        Ok(Sealed {
            body: Base64(body),
            mac: Base64(mac.into_bytes().to_vec()),
        })
    }
}

/// The acknowledgement in `answer`, if it is one of what was reported.
fn acknowledged(
    key: &SessionKey,
    report: &ReportBody,
    answer: &[u8],
) -> Result<AckBody, ReportError> {
    let sealed = match frame::decode(answer).map_err(LinkError::from)? {
        ReportResponse::Ack(sealed) => sealed,
        ReportResponse::Error(failure) => return Err(ReportError::Refused(failure)),
    };
    mac(key, ACK_MAC_PREFIX, &sealed.body)
        .verify_slice(&sealed.mac)
        .map_err(|_| ReportError::Mac)?;
    let ack: AckBody =
        frame::decode(&sealed.body).map_err(|error: MessageError| LinkError::from(error))?;
    if ack.seq < report.seq {
        return Err(ReportError::Late);
    }
    let told = (report.seq, report.epoch, report.counter);
    if (ack.seq, ack.epoch, ack.counter) != told {
        return Err(ReportError::Mismatch);
    }
    Ok(ack)
}

/// HMAC-SHA-384 over prefix and body.
fn mac(key: &SessionKey, prefix: &[u8], body: &[u8]) -> Hmac<Sha384> {
    let mut mac = Hmac::<Sha384>::new_from_slice(&*key.0).expect("HMAC takes a key of any length");
    mac.update(prefix);
    mac.update(body);
    mac
}
