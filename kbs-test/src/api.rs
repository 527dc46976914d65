//! The three endpoints of the KBS protocol 0.4.0.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use getrandom::SysRng;
use kbs_types::{Attestation, Tee};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

use crate::config::Config;
use crate::error::ApiError;
use crate::evidence::{self, EvidenceError};
use crate::jwe::{self, Jwe, SealError};
use crate::log::Log;
use crate::session::{COOKIE, Challenge, LIFETIME, SessionError, SessionId, Sessions};
use crate::tee_key::TeeKey;
use crate::token;

/// The only protocol version that is served; versions are compared as text.
pub(crate) const PROTOCOL_VERSION: &str = "0.4.0";
pub(crate) const PATH_AUTH: &str = "/kbs/v0/auth";
pub(crate) const PATH_ATTEST: &str = "/kbs/v0/attest";
pub(crate) const PATH_RESOURCE: &str = "/kbs/v0/resource";
/// The only resource: repository, type and tag.
pub(crate) const RESOURCE: &str = "default/sample/test";

/// Largest request body. An attestation request is about 2 KiB, with certificates about 8 KiB.
const MAX_BODY: usize = 64 * 1024;

/// How long a request may take to arrive and be answered.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

struct Kbs {
    config: Config,
    sessions: Mutex<Sessions>,
    log: Log,
}

impl Kbs {
    /// Sessions stay consistent between any two statements, so a panic elsewhere does not end them.
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server's routes.
pub(crate) fn router(config: Config, log: Log) -> Router {
    let kbs = Arc::new(Kbs {
        config,
        sessions: Mutex::default(),
        log,
    });
    Router::new()
        .route(PATH_AUTH, post(auth))
        .route(PATH_ATTEST, post(attest))
        .route(
            &format!("{PATH_RESOURCE}/{{repository}}/{{type}}/{{tag}}"),
            get(resource),
        )
        .fallback(|| async { ApiError::Path })
        .method_not_allowed_fallback(|| async { ApiError::Method })
        .layer(from_fn(bounded))
        .with_state(kbs)
}

/// Reads the whole body within bounds before any handler runs, so that handlers never wait.
async fn bounded(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match tokio::time::timeout(REQUEST_TIMEOUT, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(bytes)) => {
            next.run(Request::from_parts(parts, Body::from(bytes)))
                .await
        }
        Ok(Err(_)) => ApiError::TooLarge(MAX_BODY).into_response(),
        Err(_) => ApiError::Timeout.into_response(),
    }
}

async fn auth(State(kbs): State<Arc<Kbs>>, body: Bytes) -> Result<Response, ApiError> {
    let (id, challenge) = begin(&kbs, &body).inspect_err(|e| {
        kbs.log.event(&format!("challenge refused: {e}"));
    })?;
    kbs.log.event(&format!(
        "session {}: challenge sent, tee {}",
        challenge.number, challenge.tee
    ));
    let cookie = format!(
        "{COOKIE}={}; Path=/kbs/v0; Max-Age={}; HttpOnly",
        id.as_cookie(),
        LIFETIME.as_secs()
    );
    let cookie =
        HeaderValue::from_str(&cookie).map_err(|_| ApiError::Internal("session cookie"))?;
    let body = Json(kbs_types::Challenge {
        nonce: challenge.encoded(),
        extra_params: "".into(),
    });
    Ok(([(header::SET_COOKIE, cookie)], body).into_response())
}

fn begin(kbs: &Kbs, body: &[u8]) -> Result<(SessionId, Challenge), ApiError> {
    /// Read first: a client of another version deserves to be told so, whatever else it sends.
    #[derive(Deserialize)]
    struct Head {
        version: String,
    }
    let head: Head = parse(body)?;
    if head.version != PROTOCOL_VERSION {
        return Err(ApiError::Version(head.version));
    }
    let request: kbs_types::Request = parse(body)?;
    match request.tee {
        Tee::Sample | Tee::Snp => {}
        other => return Err(ApiError::Tee(other)),
    }
    let mut sessions = kbs.sessions();
    Ok(sessions.open(Instant::now(), request.tee, &mut SysRng)?)
}

async fn attest(
    State(kbs): State<Arc<Kbs>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let (id, challenge) = session_id(&headers)
        .and_then(|id| {
            let challenge = kbs.sessions().take_challenge(Instant::now(), &id)?;
            Ok((id, challenge))
        })
        .inspect_err(|e| kbs.log.event(&format!("evidence refused: {e}")))?;
    let token = appraise(&kbs, &id, &challenge, &body).inspect_err(|e| {
        kbs.sessions().close(&id);
        if let ApiError::Evidence(e @ EvidenceError::Measurement { .. }) = e {
            kbs.log.verbatim(&e.measurement_lines().unwrap_or_default());
        }
        kbs.log
            .event(&format!("session {}: refused: {e}", challenge.number));
    })?;
    Ok(Json(json!({ "token": token })).into_response())
}

fn appraise(
    kbs: &Kbs,
    id: &SessionId,
    challenge: &Challenge,
    body: &[u8],
) -> Result<String, ApiError> {
    let request: Attestation = parse(body)?;
    if request.runtime_data.nonce != challenge.encoded() {
        return Err(ApiError::Nonce);
    }
    if request.init_data.is_some() {
        return Err(ApiError::InitData);
    }
    if !request.tee_evidence.additional_evidence.is_empty() {
        return Err(ApiError::AdditionalEvidence);
    }
    let key = TeeKey::from_jwk(&request.runtime_data.tee_pubkey)?;
    let measurement = evidence::verify(
        &kbs.config.policy,
        challenge.tee,
        &request.tee_evidence.primary_evidence,
        &evidence::report_data(&key, &challenge.nonce),
    )?;
    kbs.sessions().accept(Instant::now(), id, key)?;
    kbs.log.event(&format!(
        "session {}: attested, tee {}, measurement {}",
        challenge.number,
        challenge.tee,
        measurement.map_or_else(|| "none".to_owned(), |m| m.to_string())
    ));
    Ok(token::unsecured(challenge, measurement, SystemTime::now()))
}

async fn resource(
    State(kbs): State<Arc<Kbs>>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Path((repository, kind, tag)) = path.map_err(|_| ApiError::Path)?;
    let (number, jwe) = release(&kbs, &format!("{repository}/{kind}/{tag}"), &headers)
        .inspect_err(|e| kbs.log.event(&format!("resource refused: {e}")))?;
    kbs.log
        .event(&format!("session {number}: resource {RESOURCE} released"));
    Ok(Json(jwe).into_response())
}

fn release(kbs: &Kbs, path: &str, headers: &HeaderMap) -> Result<(u64, Jwe), ApiError> {
    let id = session_id(headers)?;
    if path != RESOURCE {
        // Only who is attested learns what exists; the session remains for the right path.
        kbs.sessions().attested(Instant::now(), &id)?;
        return Err(ApiError::Resource(path.to_owned()));
    }
    let (number, key) = kbs.sessions().take_key(Instant::now(), &id)?;
    let jwe = jwe::seal(&key, kbs.config.secret.as_bytes(), &mut SysRng).map_err(|e| match e {
        SealError::Random => ApiError::Internal("the random source failed"),
        SealError::Cipher => ApiError::Internal("encryption failed"),
    })?;
    Ok((number, jwe))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|e| ApiError::Request(e.to_string()))
}

fn session_id(headers: &HeaderMap) -> Result<SessionId, SessionError> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| SessionId::from_cookie(value))
        .ok_or(SessionError::NoCookie)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        assert_eq!(session_id(&headers), Err(SessionError::NoCookie));
        headers.append(
            header::COOKIE,
            HeaderValue::from_static("a=b; x-kbs-session-id=1"),
        );
        assert_eq!(session_id(&headers), Err(SessionError::NoCookie));
        headers.append(
            header::COOKIE,
            HeaderValue::from_static("c=d;kbs-session-id=42; e=f"),
        );
        assert_eq!(session_id(&headers), Ok(SessionId::from_cookie("42")));
    }
}
