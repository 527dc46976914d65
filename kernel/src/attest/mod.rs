//! The attestation client: evidence out, secret in.
//!
//! Everything at the other end of the line is the host's. What comes from there is
//! checked before it is used, is waited for only so long, and can make attestation
//! fail but not make it succeed with a secret that was not encrypted to this
//! exchange's key. Who encrypted it is what the [policy](trust) is about: version 0.2.0
//! of the protocol tells, version 0.1.0 does not; see `Documentation/ATTESTATION.md`.

#![forbid(unsafe_code)]

pub mod binding;
pub mod costs;
pub mod ecdh;
pub mod evidence;
pub mod jwe;
pub mod key;
#[cfg(feature = "mock-snp")]
pub mod mock_snp;
pub mod outcome;
pub mod report;
pub mod secret;
pub mod transport;
pub mod trust;
mod v0_1;
mod v0_2;

pub use costs::{Costs, Phase};
pub use evidence::{EvidenceError, EvidenceSource, ReportData, SampleEvidence};
pub use libaproxy::Version;
pub use libaproxy::v0_2::{AckBody, Identity, Ledger, ReportKind, Token, VolumeName, VolumeState};
pub use outcome::{LedgerEntry, Proof, ServerIdentity, VolumeInfo};
pub use report::{ReportError, Reporter};
pub use secret::{Secret, SecretError};
pub use transport::{LinkError, Timeouts, Traffic};
pub use trust::{Fingerprint, ServerKey, TrustError, TrustPolicy};

use crate::drivers::stream::ByteStream;
use crate::entropy::{Entropy, EntropyError};
use crate::time::Clock;
use alloc::string::String;
use alloc::vec::Vec;
use binding::BindingError;
use core::fmt;
use costs::Meter;
use jwe::JweError;
use libaproxy::v0_2::{Failure, JweFormatError, SignedSecretError, Tee};
use libaproxy::{MessageError, Text, UnsupportedVersion};
use outcome::Outcome;
use serde::Serialize;
use transport::Link;
use v0_2::Negotiated;

/// What a successful attestation brings. Words of the server in it are signed where
/// [`server`](Self::server) is there, the token excepted, which is only when the
/// [proof](Proof) is of the exchange.
pub struct Attestation<'c, S> {
    /// The version of the protocol that was spoken.
    pub version: Version,
    /// The secret the server released.
    pub secret: Secret,
    /// Which volume it opens; not told by version 0.1.0 and for a plain secret.
    pub volume: Option<VolumeInfo>,
    /// Who signed; none for a secret that nobody did.
    pub server: Option<ServerIdentity>,
    /// What the server knows of the volume; only from a server that signed the exchange.
    pub ledger: Option<LedgerEntry>,
    /// The server's statement that it accepted the evidence.
    pub token: Option<Token>,
    /// The server's challenge as text.
    pub nonce: String,
    /// For reports about the volume, where the server wants any.
    pub reporter: Option<Reporter<'c, S>>,
    /// What it took.
    pub costs: Costs,
}

impl<S> fmt::Debug for Attestation<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attestation")
            .field("version", &self.version)
            .field("volume", &self.volume)
            .field("server", &self.server)
            .field("ledger", &self.ledger)
            .field("reporter", &self.reporter.is_some())
            .finish_non_exhaustive()
    }
}

/// Why attestation failed. Each message reads on after `attestation failed: `; words
/// in it that are the proxy's are printable, short, and marked as such.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttestError {
    /// The first answer did not get through.
    #[error("negotiation: {0}")]
    Negotiation(#[source] LinkError),
    /// The proxy wants a version this SVSM does not speak.
    #[error("negotiation: {0}")]
    Version(#[from] UnsupportedVersion),
    /// The proxy speaks the older version only, and keys are pinned.
    #[error("negotiation: the proxy speaks protocol 0.1.0 only, but this image has pinned keys")]
    Downgrade,
    /// The proxy says it cannot negotiate; version 0.1.0.
    #[error("negotiation: the proxy gave up and says: {0}")]
    GivenUp(Text),
    /// The proxy says it cannot negotiate.
    #[error("negotiation: the proxy gave up and says: {0}")]
    Failed(Failure),
    /// No curve in common.
    #[error("negotiation: the server offers no curve that is known here")]
    NoCurve,
    /// The proxy asks for evidence that proves too little.
    #[error("negotiation: {0}")]
    Binding(#[from] BindingError),
    /// There is no randomness for the key.
    #[error("ephemeral key: {0}")]
    Entropy(#[from] EntropyError),
    /// There is no evidence.
    #[error("evidence: {0}")]
    Evidence(#[from] EvidenceError),
    /// The second answer did not get through.
    #[error("decision: {0}")]
    Decision(#[source] LinkError),
    /// The evidence was not accepted, and the proxy says why; version 0.1.0.
    #[error("evidence refused, the proxy says: {0}")]
    Refused(Text),
    /// The evidence was not accepted, and the proxy says why.
    #[error("evidence refused, the proxy says: {0}")]
    Denied(Failure),
    /// Something else than the evidence is the matter.
    #[error("no decision on the evidence, the proxy says: {0}")]
    Undecided(Failure),
    /// The evidence was not accepted.
    #[error("evidence refused, the proxy gives no reason")]
    RefusedSilently,
    /// The evidence was accepted, but what it takes to have a secret is missing.
    #[error("evidence accepted, but the answer has no {0}")]
    NoSecret(&'static str),
    /// The encrypted secret is not in the form it has to have.
    #[error("the encrypted secret is malformed: {0}")]
    Format(#[from] JweFormatError),
    /// The secret does not decrypt.
    #[error("the secret does not decrypt: {0}")]
    Decrypt(#[from] JweError),
    /// What was decrypted is not what an authenticated server sends.
    #[error("the decrypted answer is not valid: {0}")]
    Release(#[source] MessageError),
    /// A secret that its owner signed cannot be read.
    #[error("the signed secret is not valid: {0}")]
    SignedSecret(#[from] SignedSecretError),
    /// The secret comes from somebody this SVSM does not take it from.
    #[error("{0}")]
    Trust(#[from] TrustError),
    /// The token was swapped.
    #[error("the token is not one that the server issued in this exchange")]
    Token,
    /// Reports could not be made.
    #[error("the server wants reports about the volume, but the proxy forwards none")]
    NoSession,
    /// The secret is not one.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// The attestation client: what it takes to attest.
#[derive(Clone, Copy)]
pub struct Client<'a, 'c> {
    /// Bounds every wait.
    pub clock: &'c dyn Clock,
    /// Makes the evidence.
    pub evidence: &'a dyn EvidenceSource,
    /// Makes the key.
    pub entropy: &'a dyn Entropy,
    /// Whom to take a secret from.
    pub policy: &'a TrustPolicy,
    /// How long to wait for the proxy.
    pub timeouts: Timeouts,
}

impl<'c> Client<'_, 'c> {
    /// Attests over `stream`, and returns the secret that the server released for the
    /// evidence. Speaks version 0.2.0, and version 0.1.0 with a proxy that speaks nothing
    /// else, unless keys are pinned.
    ///
    /// Returns within the sum of the time-outs (`negotiation` counts up to twice, `message`
    /// up to six times) and what making evidence takes.
    pub async fn attest<S: ByteStream>(
        &self,
        stream: S,
    ) -> Result<Attestation<'c, S>, AttestError> {
        if self.evidence.tee() == Tee::Sample {
            log::warn!(
                "attestation evidence is a sample and proves nothing: this platform has no TEE"
            );
        }
        let costs = Meter::start(self.clock);
        let (link, stale) = Link::open(stream, self.clock, self.timeouts.message)
            .map_err(AttestError::Negotiation)?;
        if stale > 0 {
            log::warn!("threw away {stale} stale bytes on the line to the attestation proxy");
        }
        let mut run = Run {
            client: self,
            link,
            costs,
        };
        let outcome = run.exchange().await?;
        run.costs.end(Phase::Opening);
        outcome.log();
        Ok(run.finish(outcome))
    }
}

/// An attestation under way.
struct Run<'r, 'c, S> {
    client: &'r Client<'r, 'c>,
    link: Link<'c, S>,
    costs: Meter<'c>,
}

impl<'c, S: ByteStream> Run<'_, 'c, S> {
    async fn exchange(&mut self) -> Result<Outcome, AttestError> {
        let answer = match v0_2::negotiate(self).await? {
            Negotiated::Current(response) => return v0_2::exchange(self, response).await,
            Negotiated::Older(_) | Negotiated::Refused if self.client.policy.has_pins() => {
                return Err(AttestError::Downgrade);
            }
            Negotiated::Older(answer) => Some(answer),
            Negotiated::Refused => None,
        };
        log::warn!(
            "the attestation proxy speaks protocol 0.1.0 only: the server is not authenticated, the freshness of the state is not known"
        );
        v0_1::exchange(self, answer).await
    }

    /// Sends a first message and waits for the answer.
    async fn negotiate(&mut self, request: &impl Serialize) -> Result<Vec<u8>, AttestError> {
        let patience = self.client.timeouts.negotiation;
        let answer = self.link.ask(request, patience).await;
        self.costs.end(Phase::Negotiation);
        answer.map_err(AttestError::Negotiation)
    }

    /// Sends the evidence and waits for the answer.
    async fn decide(&mut self, request: &impl Serialize) -> Result<Vec<u8>, AttestError> {
        let patience = self.client.timeouts.decision;
        let answer = self.link.ask(request, patience).await;
        self.costs.end(Phase::Decision);
        answer.map_err(AttestError::Decision)
    }

    fn finish(self, outcome: Outcome) -> Attestation<'c, S> {
        let costs = self.costs.costs(self.link.traffic());
        let mode = outcome.ledger.map_or(Ledger::Off, |entry| entry.mode);
        let reporter = match outcome.session_key {
            Some(key) if mode != Ledger::Off => {
                let timeouts = &self.client.timeouts;
                Some(Reporter::new(self.link, key, mode, timeouts))
            }
            _ => None,
        };
        Attestation {
            version: outcome.version,
            secret: outcome.secret,
            volume: outcome.volume,
            server: outcome.server,
            ledger: outcome.ledger,
            token: outcome.token,
            nonce: outcome.nonce,
            reporter,
            costs,
        }
    }
}
