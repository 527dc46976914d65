//! A session of version 0.1.0.

use libaproxy::frame::decode;
use libaproxy::v0_1::{
    AttestationRequest, AttestationResponse, Decryption, EcPublicKey, Failure, NegotiationRequest,
    NegotiationResponse, Param,
};
use libaproxy::v0_2::{Curve, JweParts, PublicKey};
use libaproxy::{Base64, Text, Version, requested_version};

use super::{Event, Next, Session, SessionError};
use crate::backend::{Exchange, Released};
use crate::transport::Stream;

/// Runs a session whose first message is here.
pub(super) fn run<S: Stream>(
    session: &mut Session<'_, S>,
    first: &[u8],
    tell: &mut dyn FnMut(Event),
) -> Next {
    let (mut exchange, challenge) = match negotiate(session, first) {
        Ok(negotiated) => negotiated,
        Err(error) => return refuse(session, error, tell),
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
    match attest(session, &mut *exchange, &challenge, &request) {
        Ok(response) => {
            let sent = session.peer.write_message(&response);
            let next = match &sent {
                Err(error) if error.is_final() => Next::Close,
                _ => Next::Session(None),
            };
            tell(session.report(sent.map_err(SessionError::from)));
            next
        }
        Err(error) => fail(session, error, tell),
    }
}

/// Ends a session whose negotiation failed.
pub(super) fn refuse<S: Stream>(
    session: &mut Session<'_, S>,
    cause: SessionError,
    tell: &mut dyn FnMut(Event),
) -> Next {
    let error = Text::new(&cause.to_string());
    session.give_up(&Failure { error }, cause, tell)
}

/// Ends a session whose negotiation succeeded.
fn fail<S: Stream>(
    session: &mut Session<'_, S>,
    cause: SessionError,
    tell: &mut dyn FnMut(Event),
) -> Next {
    let response = AttestationResponse::failure(Some(Text::new(&cause.to_string())));
    session.give_up(&response, cause, tell)
}

fn negotiate<S: Stream>(
    session: &mut Session<'_, S>,
    first: &[u8],
) -> Result<(Box<dyn Exchange>, Base64), SessionError> {
    let request: NegotiationRequest = decode(first).map_err(SessionError::Message)?;
    session.tee = Some(request.tee);
    let exchange = session.backend.begin(request.tee, Version::V0_1_0)?;
    let quoted = format!("\"{}\"", exchange.nonce());
    let challenge: Base64 = serde_json::from_str(&quoted).map_err(|_| SessionError::Challenge)?;
    session.peer.write_message(&NegotiationResponse {
        challenge: challenge.clone(),
        params: vec![Param::EcPublicKeyBytes, Param::Challenge],
        version: None,
    })?;
    Ok((exchange, challenge))
}

fn attest<S: Stream>(
    session: &Session<'_, S>,
    exchange: &mut dyn Exchange,
    challenge: &Base64,
    request: &AttestationRequest,
) -> Result<AttestationResponse, SessionError> {
    session.check_tee([request.tee, request.evidence.tee()])?;
    if request.challenge != *challenge {
        return Err(SessionError::OtherChallenge);
    }
    let EcPublicKey { x, y } = request.key.clone();
    let key = PublicKey {
        crv: Curve::P521,
        x,
        y,
    };
    let released = exchange.attest(&request.evidence, &key)?;
    success(released).map_err(SessionError::Form)
}

/// The secret in the form of version 0.1.0, which has no names of curves and algorithms: they must be
/// the ones it implies.
fn success(released: Released) -> Result<AttestationResponse, String> {
    let jwe = released.jwe;
    let parts: JweParts = jwe.parts().map_err(|error| error.to_string())?;
    if parts.crv != Curve::P521 {
        return Err(format!("encrypted with {} instead of P-521", parts.crv));
    }
    Ok(AttestationResponse {
        success: true,
        secret: Some(parts.ciphertext.into()),
        decryption: Some(Decryption {
            epk: EcPublicKey {
                x: parts.x.into(),
                y: parts.y.into(),
            },
            wrapped_cek: parts.encrypted_key.into(),
            aad: parts.protected.as_bytes().into(),
            iv: parts.iv.into(),
            tag: parts.tag.into(),
        }),
        token: Some(released.token),
        error: None,
    })
}
