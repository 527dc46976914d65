//! Releasing a secret, and recording what its SVSM reports: the two changes that sessions make.
//!
//! What a release costs (a priming) and what it allows (reports) is stored before the secret leaves.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use getrandom::SysRng;
use rand_core::TryRng;
use serde::{Deserialize, Serialize};
use serde_json::json;
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::config::Secret;
use crate::fault::{self, Fault};
use crate::jwe::{self, Jwe, SealError};
use crate::ledger::{self, Kind, Last, MAX_BODY, Refusal, Report, ReportSession, SessionKey};
use crate::session::{Attested, Exchange, SessionId};
use crate::store::{Store, StoreError};
use crate::transcript::{Transcript, VERSION};
use crate::volume::{Ledger, LedgerMode, PolicyError, Volume, VolumeName};

/// How many boots of one volume may wait to report; the oldest gives way.
const MAX_PENDING: usize = 64;

/// Why a secret is not released or a report not recorded.
#[derive(Debug, Error)]
pub enum ReleaseError {
    /// No volume of this name.
    #[error("resource {0} is not registered")]
    NoVolume(String),
    /// The evidence does not earn this volume's secret.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Clone protection.
    #[error(
        "volume {0} is not primed: its owner allows one boot at a time with kbs-test prime {0}"
    )]
    NotPrimed(VolumeName),
    /// A volume with a ledger, asked for by a session that cannot report.
    #[error("volume {0} keeps a ledger: it is released by exchange {VERSION} only")]
    NeedsExchange(VolumeName),
    /// The cookie names no boot that may report.
    #[error("no boot that may report: its session is unknown, or a newer boot has reported")]
    NoReportSession,
    /// The code of a report is wrong.
    #[error("the report is not authenticated by the key of its session")]
    Mac,
    /// The body of an authenticated report is not a report.
    #[error("the report is not valid: {0}")]
    Body(String),
    /// The rules of the ledger.
    #[error(transparent)]
    Ledger(#[from] Refusal),
    /// The state could not be read or stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Encryption failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Something that cannot be.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

/// The answer to a resource request.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// The encrypted secret.
    #[serde(flatten)]
    pub jwe: Jwe,
    /// Proof of the server's identity, in exchange 0.2.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub svsm: Option<Authentication>,
}

/// By whom an answer is.
#[derive(Debug, Serialize)]
pub struct Authentication {
    /// The server's public key, SubjectPublicKeyInfo in DER; standard base64.
    pub key: String,
    /// Over the transcript, r and s; standard base64.
    pub signature: String,
}

/// What was released.
#[derive(Debug)]
pub struct Released {
    /// To send.
    pub answer: Answer,
    /// The volume as it was.
    pub volume: Volume,
}

struct Opened {
    volume: Volume,
    secret: Secret,
    key: SessionKey,
}

/// Releases the secret of `name` to an attested session.
pub fn release(
    store: &Store,
    id: &SessionId,
    name: &VolumeName,
    attested: &Attested,
    fault: Option<Fault>,
) -> Result<Released, ReleaseError> {
    let opened = store.write(|tables| -> Result<Opened, ReleaseError> {
        let missing = || ReleaseError::NoVolume(name.to_string());
        let mut volume = tables.volume(name)?.ok_or_else(missing)?;
        volume.policy.appraise(&attested.claims)?;
        if volume.mode != LedgerMode::Off && attested.challenge.exchange == Exchange::Plain {
            return Err(ReleaseError::NeedsExchange(name.clone()));
        }
        if volume.prime && !std::mem::take(&mut volume.primed) {
            return Err(ReleaseError::NotPrimed(name.clone()));
        }
        volume.releases += 1;
        let secret = tables.secret(name)?.ok_or_else(missing)?;
        tables.put_volume(name, &volume)?;
        let key = fresh_key()?;
        if volume.mode != LedgerMode::Off {
            make_room(tables, name, &volume)?;
            let session = ReportSession {
                volume: name.clone(),
                number: attested.challenge.number,
                since: unix_now(),
                key: key.clone(),
                told_epoch: volume.told().epoch,
                own_epoch: None,
                last: None,
            };
            tables.put_session(&id.digest(), &session)?;
        }
        Ok(Opened {
            volume,
            secret,
            key,
        })
    })?;
    fault::point(fault, Fault::AfterRelease);

    let answer = match attested.challenge.exchange {
        Exchange::Plain => Answer {
            jwe: jwe::seal(&attested.key, opened.secret.as_bytes(), &mut SysRng)?,
            svsm: None,
        },
        Exchange::Authenticated => authenticated(store, name, attested, &opened)?,
    };
    Ok(Released {
        answer,
        volume: opened.volume,
    })
}

fn authenticated(
    store: &Store,
    name: &VolumeName,
    attested: &Attested,
    opened: &Opened,
) -> Result<Answer, ReleaseError> {
    let plaintext = plaintext(name, &opened.volume, &opened.secret, &opened.key)?;
    let jwe = jwe::seal(&attested.key, &plaintext, &mut SysRng)?;
    let transcript = Transcript {
        tee: attested.challenge.tee.as_ref(),
        nonce: &attested.challenge.encoded(),
        key: &attested.key,
        evidence_digest: &attested.claims.evidence_digest,
        volume: name.as_str(),
        jwe: &jwe,
    }
    .to_bytes()
    .ok_or(ReleaseError::Internal("transcript"))?;
    let svsm = Some(Authentication {
        key: BASE64_STANDARD.encode(store.key().spki()),
        signature: BASE64_STANDARD.encode(store.key().sign(&transcript)),
    });
    Ok(Answer { jwe, svsm })
}

/// What the SVSM decrypts in exchange 0.2.0: JSON, in a buffer that is overwritten when dropped.
fn plaintext(
    name: &VolumeName,
    volume: &Volume,
    secret: &Secret,
    key: &SessionKey,
) -> Result<Zeroizing<Vec<u8>>, ReleaseError> {
    #[derive(Serialize, Zeroize)]
    struct Plaintext {
        secret: String,
        volume: String,
        generation: u64,
        state: String,
        identity: Option<String>,
        epoch: u64,
        counter: u64,
        ledger: String,
        session_key: String,
    }
    let told: Ledger = volume.told();
    let plaintext = Zeroizing::new(Plaintext {
        secret: BASE64_STANDARD.encode(secret.as_bytes()),
        volume: name.to_string(),
        generation: volume.generation,
        state: told.state.name().to_owned(),
        identity: told.identity.map(|i| BASE64_STANDARD.encode(i.0)),
        epoch: told.epoch,
        counter: told.counter,
        ledger: volume.mode.name().to_owned(),
        session_key: BASE64_STANDARD.encode(key.as_bytes()),
    });
    // Large enough that no copy is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(16 * 1024));
    serde_json::to_writer(&mut *bytes, &*plaintext)
        .map_err(|_| ReleaseError::Internal("plaintext"))?;
    Ok(bytes)
}

/// Lets go of the boots that have waited longest to report, but never of the one recorded last.
fn make_room(
    tables: &crate::store::Writing,
    name: &VolumeName,
    volume: &Volume,
) -> Result<(), ReleaseError> {
    let mut waiting: Vec<_> = tables
        .sessions_of(name)?
        .into_iter()
        .filter(|(_, s)| s.own_epoch != Some(volume.ledger.epoch))
        .collect();
    waiting.sort_by_key(|(_, s)| (s.since, s.number));
    let surplus = (waiting.len() + 1).saturating_sub(MAX_PENDING);
    for (id, _) in waiting.into_iter().take(surplus) {
        tables.remove_session(&id)?;
    }
    Ok(())
}

fn fresh_key() -> Result<SessionKey, ReleaseError> {
    let mut bytes = Zeroizing::new([0; 32]);
    SysRng
        .try_fill_bytes(&mut *bytes)
        .map_err(|_| ReleaseError::Seal(SealError::Random))?;
    Ok(SessionKey::new(*bytes))
}

fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// A report or an acknowledgement as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// JSON; standard base64.
    pub body: String,
    /// Its code; standard base64.
    pub mac: String,
}

/// What became of a report.
#[derive(Debug)]
pub struct Recorded {
    /// To send.
    pub ack: Sealed,
    /// What was reported.
    pub report: Report,
    /// The boot it is from.
    pub session: ReportSession,
    /// It had been recorded before; only the answer is given again.
    pub repeated: bool,
}

/// Records a report of the boot that `id` belongs to.
pub fn record(
    store: &Store,
    id: &SessionId,
    sealed: &Sealed,
    fault: Option<Fault>,
) -> Result<Recorded, ReleaseError> {
    let decode = |text: &str, part: &str| {
        BASE64_STANDARD
            .decode(text)
            .map_err(|_| ReleaseError::Body(format!("{part} is not standard padded base64")))
    };
    let body = decode(&sealed.body, "body")?;
    let mac = decode(&sealed.mac, "mac")?;
    if body.len() > MAX_BODY {
        return Err(ReleaseError::Body(format!(
            "a body of {} bytes, at most {MAX_BODY} are read",
            body.len()
        )));
    }
    let digest = id.digest();
    let recorded = store.write(|tables| -> Result<Recorded, ReleaseError> {
        let mut session = tables
            .session(&digest)?
            .ok_or(ReleaseError::NoReportSession)?;
        if !session.key.verifies_report(&body, &mac) {
            return Err(ReleaseError::Mac);
        }
        let report: Report =
            serde_json::from_slice(&body).map_err(|e| ReleaseError::Body(e.to_string()))?;
        let text = String::from_utf8(body.clone())
            .map_err(|_| ReleaseError::Body("not UTF-8".to_owned()))?;
        if let Some(last) = session.last.as_ref().filter(|last| last.body == text) {
            let ack = acknowledge(&session.key, &last.ack);
            return Ok(Recorded {
                ack,
                report,
                session,
                repeated: true,
            });
        }
        let mut volume = tables
            .volume(&session.volume)?
            .ok_or(ReleaseError::NoReportSession)?;
        volume.ledger = ledger::record(&volume, &session, &report)?;
        let ack = json!({"seq": report.seq, "epoch": report.epoch, "counter": report.counter});
        let ack = ack.to_string();
        let sealed = acknowledge(&session.key, &ack);
        if report.kind == Kind::Open {
            session.own_epoch = Some(report.epoch);
            tables.end_sessions(&session.volume, Some(&digest))?;
        }
        session.last = Some(Last {
            seq: report.seq,
            body: text,
            ack,
        });
        tables.put_volume(&session.volume, &volume)?;
        tables.put_session(&digest, &session)?;
        fault::point(fault, Fault::BeforeStore);
        Ok(Recorded {
            ack: sealed,
            report,
            session,
            repeated: false,
        })
    })?;
    if !recorded.repeated {
        fault::point(fault, Fault::AfterStore);
    }
    Ok(recorded)
}

fn acknowledge(key: &SessionKey, body: &str) -> Sealed {
    Sealed {
        body: BASE64_STANDARD.encode(body),
        mac: BASE64_STANDARD.encode(key.authenticate_ack(body.as_bytes())),
    }
}
