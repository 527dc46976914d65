//! Reports: what an SVSM tells the server about the volume it opened.
//!
//! The body travels as bytes, and its MAC covers those bytes, so that nobody has to
//! serialise anything twice to check it. The MAC is HMAC-SHA-384 under the session key
//! over a prefix and the body; the prefixes keep the two directions apart.

use super::failure::Failure;
use super::release::VolumeState;
use super::secret::Identity;
use crate::bytes::Base64;
use serde::{Deserialize, Serialize};

/// Length of a MAC in bytes.
pub const MAC_LEN: usize = 48;

/// What the MAC of a report covers before its body.
pub const REPORT_MAC_PREFIX: &[u8] = b"svsm report\0";

/// What the MAC of an acknowledgement covers before its body.
pub const ACK_MAC_PREFIX: &[u8] = b"svsm ack\0";

/// Why a report is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportKind {
    /// The volume was opened and carries a new epoch.
    Open,
    /// A commit was made.
    Commit,
}

/// Body of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportBody {
    /// Counts the reports of a session from 1. The same number again means the same
    /// report again, and gets the same acknowledgement.
    pub seq: u64,
    /// Identity of the volume.
    pub identity: Identity,
    /// [`VolumeState::Formatted`].
    pub state: VolumeState,
    /// Epoch of this boot.
    pub epoch: u64,
    /// Update counter of the volume.
    pub counter: u64,
    /// Why.
    pub kind: ReportKind,
}

/// Body of an acknowledgement: what the server has stored durably.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckBody {
    /// Number of the report.
    pub seq: u64,
    /// Epoch.
    pub epoch: u64,
    /// Update counter.
    pub counter: u64,
}

/// A body and its MAC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// JSON of a [`ReportBody`] or an [`AckBody`].
    pub body: Base64,
    /// [`MAC_LEN`] bytes.
    pub mac: Base64,
}

/// Fifth message, from the SVSM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportRequest {
    /// The report.
    pub report: Sealed,
}

/// Sixth message, from the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportResponse {
    /// The server's acknowledgement.
    Ack(Sealed),
    /// There is none. Nothing authenticates this: it says that something is wrong, and
    /// never that something is right.
    Error(Failure),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v0_2::Code;

    #[test]
    fn answers_have_the_documented_form() {
        let sealed = Sealed {
            body: b"{}"[..].into(),
            mac: [1, 2, 3].into(),
        };
        let json = r#"{"ack":{"body":"e30=","mac":"AQID"}}"#;
        let ack = ReportResponse::Ack(sealed.clone());
        assert_eq!(serde_json::to_string(&ack).unwrap(), json);
        assert_eq!(serde_json::from_str::<ReportResponse>(json).unwrap(), ack);
        let json = r#"{"error":{"code":"ledger","detail":"epoch 7"}}"#;
        let error = ReportResponse::Error(Failure::new(Code::Ledger, "epoch 7"));
        assert_eq!(serde_json::to_string(&error).unwrap(), json);
        assert_eq!(serde_json::from_str::<ReportResponse>(json).unwrap(), error);
        for bad in ["{}", r#"{"ack":null}"#, r#"{"ack":{},"error":{}}"#] {
            assert!(serde_json::from_str::<ReportResponse>(bad).is_err());
        }
        let request = serde_json::to_string(&ReportRequest { report: sealed }).unwrap();
        assert_eq!(request, r#"{"report":{"body":"e30=","mac":"AQID"}}"#);
    }

    #[test]
    fn bodies_have_the_documented_form() {
        let body = ReportBody {
            seq: 1,
            identity: Identity([0; 32]),
            state: VolumeState::Formatted,
            epoch: 2,
            counter: 3,
            kind: ReportKind::Open,
        };
        assert_eq!(
            serde_json::to_string(&body).unwrap(),
            r#"{"seq":1,"identity":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","state":"formatted","epoch":2,"counter":3,"kind":"open"}"#
        );
    }
}
