//! What each request does.

use std::time::{Instant, SystemTime};

use getrandom::SysRng;
use serde_json::json;

use super::Kbs;
use crate::binding::Bound;
use crate::claims::Claims;
use crate::error::ApiError;
use crate::evidence;
use crate::ledger::Kind;
use crate::release::{self, Answer, Sealed};
use crate::requests;
use crate::session::{Challenge, Exchange, SessionError, SessionId};
use crate::tee_key::TeeKey;
use crate::token;
use crate::transcript::VERSION;
use crate::volume::{PolicyError, Volume, VolumeName};

pub(super) fn begin(kbs: &Kbs, body: &[u8]) -> Result<(SessionId, Challenge), ApiError> {
    let opened = open_session(kbs, body).inspect_err(|e| {
        kbs.refused(
            &format!("challenge refused: {e}"),
            json!({"request": "auth", "cause": e.to_string()}),
        );
    })?;
    let challenge = &opened.1;
    kbs.event(
        &format!(
            "session {}: challenge sent, tee {}",
            challenge.number, challenge.tee
        ),
        "challenge",
        json!({"session": challenge.number, "tee": challenge.tee.to_string(),
            "exchange": exchange_name(challenge.exchange)}),
    )?;
    Ok(opened)
}

fn exchange_name(exchange: Exchange) -> &'static str {
    match exchange {
        Exchange::Plain => "plain",
        Exchange::Authenticated => VERSION,
    }
}

fn open_session(kbs: &Kbs, body: &[u8]) -> Result<(SessionId, Challenge), ApiError> {
    let (tee, exchange) = requests::auth(body)?;
    let mut sessions = kbs.sessions();
    Ok(sessions.open(Instant::now(), tee, exchange, &mut SysRng)?)
}

pub(super) fn attest(
    kbs: &Kbs,
    id: Result<SessionId, SessionError>,
    body: &[u8],
) -> Result<String, ApiError> {
    let begun = id.and_then(|id| {
        let challenge = kbs.sessions().take_challenge(Instant::now(), &id)?;
        Ok((id, challenge))
    });
    let (id, challenge) = begun.inspect_err(|e| {
        kbs.refused(
            &format!("evidence refused: {e}"),
            json!({"request": "attest", "cause": e.to_string()}),
        );
    })?;
    appraise(kbs, &id, &challenge, body).inspect_err(|e| {
        kbs.sessions().close(&id);
        let number = challenge.number;
        if let ApiError::Policy(e) = e
            && let Some(lines) = e.measurement_lines()
        {
            kbs.setup.log.verbatim(&lines);
        }
        kbs.refused(
            &format!("session {number}: refused: {e}"),
            json!({"request": "attest", "session": number, "code": e.code(),
                "cause": e.to_string()}),
        );
    })
}

fn appraise(
    kbs: &Kbs,
    id: &SessionId,
    challenge: &Challenge,
    body: &[u8],
) -> Result<String, ApiError> {
    let request = requests::attestation(body)?;
    if request.runtime_data.nonce != challenge.encoded() {
        return Err(ApiError::Nonce);
    }
    let key = TeeKey::from_jwk(&request.runtime_data.tee_pubkey)?;
    let authenticated = challenge.exchange == Exchange::Authenticated;
    let bound = Bound::new(&key, &challenge.nonce, &challenge.encoded(), authenticated);
    let (claims, _) = evidence::verify(
        &kbs.setup.roots,
        challenge.tee,
        &request.tee_evidence.primary_evidence,
        &bound,
        SystemTime::now(),
    )?;
    earns_something(&kbs.setup.store.volumes()?, &claims)?;
    let token = token::signed(
        kbs.setup.store.key(),
        challenge,
        &key,
        &claims,
        SystemTime::now(),
    );
    let measurement = claims
        .measurement
        .map_or_else(|| "none".to_owned(), |m| m.to_string());
    kbs.event(
        &format!(
            "session {}: attested, tee {}, measurement {measurement}",
            challenge.number, challenge.tee
        ),
        "attested",
        json!({"session": challenge.number, "tee": challenge.tee.to_string(),
            "measurement": claims.measurement.map(|m| m.to_string()),
            "curve": key.curve().name(),
            "chip-id": claims.snp.as_ref().map(|s| hex::encode(s.chip_id)),
            "tcb": claims.snp.as_ref().map(|s| s.tcb)}),
    )?;
    kbs.sessions().accept(Instant::now(), id, key, claims)?;
    Ok(token)
}

/// Evidence that earns no volume's secret is refused at once, in the words of the volume that is
/// nearest: one that refuses nothing but the measurement.
fn earns_something(volumes: &[(VolumeName, Volume)], claims: &Claims) -> Result<(), ApiError> {
    let mut nearest: Option<PolicyError> = None;
    for (_, volume) in volumes {
        match (volume.policy.appraise(claims), &mut nearest) {
            (Ok(()), _) => return Ok(()),
            (
                Err(PolicyError::Measurement { expected, .. }),
                Some(PolicyError::Measurement { expected: all, .. }),
            ) => all.extend(expected),
            (Err(e @ PolicyError::Measurement { .. }), nearest) => *nearest = Some(e),
            (Err(e), nearest @ None) => *nearest = Some(e),
            (Err(_), Some(_)) => {}
        }
    }
    Err(nearest.map_or(ApiError::NoVolumes, ApiError::Policy))
}

pub(super) fn release(
    kbs: &Kbs,
    id: Result<SessionId, SessionError>,
    path: &str,
) -> Result<Answer, ApiError> {
    let mut number = None;
    release_to(kbs, id, path, &mut number).inspect_err(|e| {
        if let ApiError::Policy(e) = e
            && let Some(lines) = e.measurement_lines()
        {
            kbs.setup.log.verbatim(&lines);
        }
        let session = number.map_or_else(String::new, |n| format!("session {n}: "));
        kbs.refused(
            &format!("{session}resource refused: {e}"),
            json!({"request": "resource", "session": number, "volume": path, "code": e.code(),
                "cause": e.to_string()}),
        );
    })
}

fn release_to(
    kbs: &Kbs,
    id: Result<SessionId, SessionError>,
    path: &str,
    number: &mut Option<u64>,
) -> Result<Answer, ApiError> {
    let id = id?;
    // Only who is attested learns what exists; the session remains for the right path.
    kbs.sessions().attested(Instant::now(), &id)?;
    let missing = || ApiError::Resource(path.to_owned());
    let name: VolumeName = path.parse().map_err(|_| missing())?;
    kbs.setup.store.volume(&name)?.ok_or_else(missing)?;
    let attested = kbs.sessions().take(Instant::now(), &id)?;
    *number = Some(attested.challenge.number);
    let store = &kbs.setup.store;
    let released = release::release(store, &id, &name, &attested, kbs.setup.fault)?;
    let told = released.volume.told();
    kbs.event(
        &format!(
            "session {}: resource {name} released",
            attested.challenge.number
        ),
        "released",
        json!({"session": attested.challenge.number, "volume": name,
            "generation": released.volume.generation,
            "exchange": exchange_name(attested.challenge.exchange),
            "ledger": released.volume.mode.name(), "state": told.state.name(),
            "identity": told.identity.map(|i| i.to_string()),
            "epoch": told.epoch, "counter": told.counter}),
    )?;
    Ok(released.answer)
}

pub(super) fn report(
    kbs: &Kbs,
    id: Result<SessionId, SessionError>,
    body: &[u8],
) -> Result<Sealed, ApiError> {
    let recorded = id
        .map_err(ApiError::from)
        .and_then(|id| {
            let sealed = requests::report(body)?;
            Ok(release::record(
                &kbs.setup.store,
                &id,
                &sealed,
                kbs.setup.fault,
            )?)
        })
        .inspect_err(|e| {
            kbs.refused(
                &format!("report refused: {e}"),
                json!({"request": "report", "code": e.code(), "cause": e.to_string()}),
            );
        })?;
    let (report, session) = (&recorded.report, &recorded.session);
    let kind = match report.kind {
        Kind::Open => "open",
        Kind::Commit => "commit",
    };
    let again = if recorded.repeated { " again" } else { "" };
    let line = format!(
        "volume {}: {kind} reported{again}: epoch {}, counter {}",
        session.volume, report.epoch, report.counter
    );
    let facts = json!({"session": session.number, "volume": session.volume, "kind": kind,
        "repeated": recorded.repeated, "identity": report.identity.to_string(),
        "epoch": report.epoch, "counter": report.counter});
    // It is recorded already; an acknowledgement that is held back would change nothing.
    if kbs.event(&line, "reported", facts).is_err() {
        kbs.setup.log.event(&line);
    }
    Ok(recorded.ack)
}
