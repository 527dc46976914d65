//! Reading the bodies of requests. They come from anyone who can reach the server.

use kbs_types::{Attestation, Tee};
use serde::{Deserialize, de::DeserializeOwned};

use crate::api::PROTOCOL_VERSION;
use crate::error::ApiError;
use crate::release::Sealed;
use crate::session::Exchange;
use crate::transcript::VERSION;

/// Reads the body of `/auth`.
pub fn auth(body: &[u8]) -> Result<(Tee, Exchange), ApiError> {
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
    let extra = request.extra_params.as_str().unwrap_or_default();
    Ok((request.tee, requested_exchange(extra)?))
}

/// Extra parameters that do not mention the SVSM's exchange are ignored, as the protocol says for
/// these kinds of evidence.
fn requested_exchange(extra_params: &str) -> Result<Exchange, ApiError> {
    #[derive(Deserialize)]
    struct Extra {
        svsm: Option<String>,
    }
    match serde_json::from_str::<Extra>(extra_params) {
        Ok(Extra { svsm: Some(v) }) if v == VERSION => Ok(Exchange::Authenticated),
        Ok(Extra { svsm: Some(v) }) => Err(ApiError::Exchange(v)),
        _ => Ok(Exchange::Plain),
    }
}

/// Reads the body of `/attest`. What would not be checked is refused.
pub fn attestation(body: &[u8]) -> Result<Attestation, ApiError> {
    let request: Attestation = parse(body)?;
    if request.init_data.is_some() {
        return Err(ApiError::InitData);
    }
    if !request.tee_evidence.additional_evidence.is_empty() {
        return Err(ApiError::AdditionalEvidence);
    }
    Ok(request)
}

/// Reads the body of a report.
pub fn report(body: &[u8]) -> Result<Sealed, ApiError> {
    parse(body)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|e| ApiError::Request(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchange_is_the_one_asked_for() {
        let ask = |text: &str| requested_exchange(text);
        assert!(matches!(ask(""), Ok(Exchange::Plain)));
        assert!(matches!(ask("{}"), Ok(Exchange::Plain)));
        assert!(matches!(ask("{\"other\":1}"), Ok(Exchange::Plain)));
        let asked = ask("{\"svsm\":\"0.2.0\",\"more\":1}");
        assert!(matches!(asked, Ok(Exchange::Authenticated)));
        for other in ["0.1.0", "0.2.1", ""] {
            let e = ask(&format!("{{\"svsm\":\"{other}\"}}")).unwrap_err();
            assert!(matches!(e, ApiError::Exchange(v) if v == other));
        }
    }
}
