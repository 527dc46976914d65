//! The endpoints of the KBS protocol 0.4.0, and one more for reports.
//!
//! A handler reads a request and writes the log; the work is done in [`work`], on a thread that may
//! wait for the disk.

mod work;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::log::MAX_TEXT;
use crate::server::Setup;
use crate::session::{COOKIE, LIFETIME, SessionError, SessionId, Sessions};
use crate::tee_key::Curve;
use crate::transcript::VERSION;

/// The only protocol version that is served; versions are compared as text.
pub(crate) const PROTOCOL_VERSION: &str = "0.4.0";
pub(crate) const PATH_AUTH: &str = "/kbs/v0/auth";
pub(crate) const PATH_ATTEST: &str = "/kbs/v0/attest";
pub(crate) const PATH_RESOURCE: &str = "/kbs/v0/resource";
pub(crate) const PATH_REPORT: &str = "/kbs/v0/svsm/report";

/// Largest request body. An attestation request is about 2 KiB, with certificates about 8 KiB.
const MAX_BODY: usize = 64 * 1024;

/// How long a request may take to arrive.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

struct Kbs {
    setup: Setup,
    sessions: Mutex<Sessions>,
}

impl Kbs {
    /// Sessions stay consistent between any two statements, so a panic elsewhere does not end them.
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event for people and for the audit log. Where the audit line cannot be written, the event
    /// must not happen.
    fn event(&self, line: &str, event: &str, facts: Value) -> Result<(), ApiError> {
        self.setup.audit.record(event, facts).map_err(|e| {
            self.setup
                .log
                .event(&format!("cannot write the audit log: {e}"));
            ApiError::Internal("the audit log cannot be written")
        })?;
        self.setup.log.event(line);
        Ok(())
    }

    /// A refusal, which happens whether or not it can be logged. Texts may be a client's and are cut.
    fn refused(&self, line: &str, mut facts: Value) {
        for fact in facts
            .as_object_mut()
            .into_iter()
            .flat_map(|f| f.values_mut())
        {
            if let Value::String(text) = fact {
                *text = text.chars().take(MAX_TEXT).collect();
            }
        }
        // The failure has its own line; there is nothing else to stop.
        if self.event(line, "refused", facts).is_err() {
            self.setup.log.event(line);
        }
    }
}

/// The server's routes.
pub(crate) fn router(setup: Setup) -> Router {
    let kbs = Arc::new(Kbs {
        setup,
        sessions: Mutex::default(),
    });
    Router::new()
        .route(PATH_AUTH, post(auth))
        .route(PATH_ATTEST, post(attest))
        .route(
            &format!("{PATH_RESOURCE}/{{repository}}/{{type}}/{{tag}}"),
            get(resource),
        )
        .route(PATH_REPORT, post(report))
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

/// Runs `work` where it may wait for the disk or compute for long.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(ApiError::Internal("the request was not carried out")))
}

async fn auth(State(kbs): State<Arc<Kbs>>, body: Bytes) -> Result<Response, ApiError> {
    let (id, challenge) = work::begin(&kbs, &body)?;
    let cookie = format!(
        "{COOKIE}={}; Path=/kbs/v0; Max-Age={}; HttpOnly",
        id.as_cookie(),
        LIFETIME.as_secs()
    );
    let cookie =
        HeaderValue::from_str(&cookie).map_err(|_| ApiError::Internal("session cookie"))?;
    let extra_params = match challenge.exchange {
        crate::session::Exchange::Plain => String::new(),
        crate::session::Exchange::Authenticated => {
            json!({"svsm": VERSION, "curves": Curve::OFFERED.map(Curve::name)}).to_string()
        }
    };
    let body = Json(kbs_types::Challenge {
        nonce: challenge.encoded(),
        extra_params: extra_params.into(),
    });
    Ok(([(header::SET_COOKIE, cookie)], body).into_response())
}

async fn attest(
    State(kbs): State<Arc<Kbs>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let id = session_id(&headers);
    let token = blocking(move || work::attest(&kbs, id, &body)).await?;
    Ok(Json(json!({ "token": token })).into_response())
}

async fn resource(
    State(kbs): State<Arc<Kbs>>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Path((repository, kind, tag)) = path.map_err(|_| ApiError::Path)?;
    let id = session_id(&headers);
    let path = format!("{repository}/{kind}/{tag}");
    let answer = blocking(move || work::release(&kbs, id, &path)).await?;
    Ok(Json(answer).into_response())
}

async fn report(
    State(kbs): State<Arc<Kbs>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let id = session_id(&headers);
    let ack = blocking(move || work::report(&kbs, id, &body)).await?;
    Ok(Json(ack).into_response())
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
