//! A session of version 0.2.0, and the reports after it.

use libaproxy::frame::decode;
use libaproxy::v0_2::{
    AttestationRequest, AttestationResponse, Binding, NegotiationRequest, NegotiationResponse,
    Refusal, ReportRequest, ReportResponse,
};
use libaproxy::{Version, requested_version};

use super::{Event, Next, Session, SessionError};
use crate::backend::{Exchange, Released};
use crate::peer::PeerError;
use crate::transport::Stream;

/// Runs a session whose first message is here.
pub(super) fn run<S: Stream>(
    session: &mut Session<'_, S>,
    first: &[u8],
    tell: &mut dyn FnMut(Event),
) -> Next {
    let mut exchange = match negotiate(session, first) {
        Ok(exchange) => exchange,
        Err(cause) => {
            let error = cause.failure();
            return session.give_up(&Refusal { error }, cause, tell);
        }
    };
    let message = match session.second_message() {
        Ok(message) => message,
        Err(error) => return fail(session, error.into(), tell),
    };
    let request: AttestationRequest = match decode(&message) {
        Ok(request) => request,
        Err(_) if requested_version(&message).is_ok() => {
            tell(session.report(Err(SessionError::Restarted)));
            return Next::Session(Some(message));
        }
        Err(error) => return fail(session, SessionError::Message(error), tell),
    };
    let released = match attest(session, &mut *exchange, &request) {
        Ok(released) => released,
        Err(error) => return fail(session, error, tell),
    };
    // A server that signs takes reports.
    let takes_reports = released.authentication.is_some();
    let sent = session.peer.write_message(&AttestationResponse {
        success: true,
        jwe: Some(released.jwe),
        token: Some(released.token),
        authentication: released.authentication,
        session: takes_reports,
        error: None,
    });
    match sent {
        Ok(()) => tell(session.report(Ok(()))),
        Err(error) if error.is_final() => {
            tell(session.report(Err(error.into())));
            return Next::Close;
        }
        // The answer would be too long; nothing of it was sent.
        Err(error) => return fail(session, error.into(), tell),
    }
    match takes_reports {
        true => forward_reports(session, &mut *exchange, tell),
        false => Next::Session(None),
    }
}

fn fail<S: Stream>(
    session: &mut Session<'_, S>,
    cause: SessionError,
    tell: &mut dyn FnMut(Event),
) -> Next {
    let response = AttestationResponse::failure(cause.failure());
    session.give_up(&response, cause, tell)
}

fn negotiate<S: Stream>(
    session: &mut Session<'_, S>,
    first: &[u8],
) -> Result<Box<dyn Exchange>, SessionError> {
    let request: NegotiationRequest = decode(first).map_err(SessionError::Message)?;
    session.tee = Some(request.tee);
    let exchange = session.backend.begin(request.tee, Version::V0_2_0)?;
    session.peer.write_message(&NegotiationResponse {
        version: Version::V0_2_0,
        nonce: exchange.nonce().clone(),
        binding: Binding::KbsRuntimeDataSha384,
        curves: exchange.curves().clone(),
    })?;
    Ok(exchange)
}

fn attest<S: Stream>(
    session: &Session<'_, S>,
    exchange: &mut dyn Exchange,
    request: &AttestationRequest,
) -> Result<Released, SessionError> {
    session.check_tee([request.tee, request.evidence.tee()])?;
    if request.nonce != *exchange.nonce() {
        return Err(SessionError::OtherChallenge);
    }
    if !request.key.is_well_formed() || !exchange.curves().contains(&request.key.crv) {
        return Err(SessionError::Key);
    }
    Ok(exchange.attest(&request.evidence, &request.key)?)
}

/// Forwards reports until the SVSM leaves or begins again.
fn forward_reports<S: Stream>(
    session: &mut Session<'_, S>,
    exchange: &mut dyn Exchange,
    tell: &mut dyn FnMut(Event),
) -> Next {
    let mut acknowledged = 0;
    let next = loop {
        let message = match session.peer.read_message(None) {
            Ok(message) => message,
            Err(error) if error.is_final() => break Next::Close,
            Err(error) => match answer(session, Err(error.into()), tell) {
                Some(next) => break next,
                None => continue,
            },
        };
        if requested_version(&message).is_ok() {
            break Next::Session(Some(message));
        }
        let result = decode(&message)
            .map_err(SessionError::Message)
            .and_then(|ReportRequest { report }| Ok(exchange.report(&report)?));
        acknowledged += u64::from(result.is_ok());
        if let Some(next) = answer(session, result, tell) {
            break next;
        }
    };
    tell(Event::Ended { acknowledged });
    next
}

/// Answers a report; tells what the connection is good for if that is the end of the session.
fn answer<S: Stream>(
    session: &mut Session<'_, S>,
    result: Result<libaproxy::v0_2::Sealed, SessionError>,
    tell: &mut dyn FnMut(Event),
) -> Option<Next> {
    let (response, out_of_step) = match result {
        Ok(ack) => (ReportResponse::Ack(ack), false),
        Err(cause) => {
            tell(Event::ReportFailed {
                cause: cause.to_string(),
            });
            let out_of_step = matches!(cause, SessionError::Peer(PeerError::Message(_)));
            (ReportResponse::Error(cause.failure()), out_of_step)
        }
    };
    let written = session.peer.write_message(&response).is_ok();
    let in_step = !out_of_step || session.peer.resync().is_ok();
    (!written || !in_step).then_some(Next::Close)
}
