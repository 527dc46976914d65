//! What the evidence must carry so that it belongs to one session: REPORT_DATA.
//!
//! A binding covers the key of the TEE and the challenge, nothing else, and is computed here from
//! what the session recorded, never taken from a message.

use sha2::{Digest, Sha384, Sha512};

use crate::tee_key::{Curve, TeeKey};

/// Size of REPORT_DATA in bytes.
pub const REPORT_DATA: usize = 64;

/// Size of a SHA-384 digest in bytes.
pub const DIGEST: usize = 48;

/// How the evidence of a session is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Exchange 0.1.0: SHA-512 over x, y and the decoded challenge; P-521 only.
    KeyAndNonce,
    /// `kbs-runtime-data-sha384`: SHA-384 over the runtime data in the form of RFC 8785.
    RuntimeData,
}

/// What the evidence of one session may carry.
#[derive(Clone, Debug)]
pub struct Bound {
    key_and_nonce: Option<[u8; REPORT_DATA]>,
    runtime_data: [u8; DIGEST],
}

impl Bound {
    /// For `key` and the session's challenge. `only_runtime_data` is set in sessions of exchange
    /// 0.2.0; others may use either binding, since either covers key and challenge.
    pub fn new(key: &TeeKey, nonce: &[u8], nonce_text: &str, only_runtime_data: bool) -> Self {
        let old = !only_runtime_data && key.curve() == Curve::P521;
        Self {
            key_and_nonce: old.then(|| key_and_nonce(key, nonce)),
            runtime_data: runtime_data(key, nonce_text),
        }
    }

    /// Which binding REPORT_DATA of an SNP report follows, if any: the digest of
    /// `kbs-runtime-data-sha384` is followed by 16 zero bytes there.
    pub fn of_report(&self, report_data: &[u8; REPORT_DATA]) -> Option<Binding> {
        if self.key_and_nonce.as_ref() == Some(report_data) {
            return Some(Binding::KeyAndNonce);
        }
        let (digest, padding) = report_data.split_at(DIGEST);
        (digest == self.runtime_data && padding.iter().all(|&b| b == 0))
            .then_some(Binding::RuntimeData)
    }

    /// Which binding the `report_data` of sample evidence follows, if any; nothing is padded there.
    pub fn of_sample(&self, report_data: &[u8]) -> Option<Binding> {
        if self
            .key_and_nonce
            .as_ref()
            .is_some_and(|b| b == report_data)
        {
            return Some(Binding::KeyAndNonce);
        }
        (report_data == self.runtime_data).then_some(Binding::RuntimeData)
    }
}

/// SHA-512 over the key's coordinates x and y in fixed width and the challenge.
pub fn key_and_nonce(key: &TeeKey, nonce: &[u8]) -> [u8; REPORT_DATA] {
    Sha512::new()
        .chain_update(key.coordinates())
        .chain_update(nonce)
        .finalize()
        .into()
}

/// SHA-384 over the runtime data of KBS protocol 0.4.0 in the form of RFC 8785: members sorted, no
/// spaces. `nonce` is the challenge as text, in base64, so nothing has to be escaped.
pub fn runtime_data(key: &TeeKey, nonce: &str) -> [u8; DIGEST] {
    let canonical = format!(
        r#"{{"additional-evidence":"","nonce":"{nonce}","tee-pubkey":{}}}"#,
        key.canonical_jwk()
    );
    Sha384::digest(canonical).into()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::tee_key::tests::{key_pair, p384_pair};
    use kbs_types::TeePubKey;

    pub(crate) const NONCE: [u8; 32] = [9; 32];
    pub(crate) const NONCE_TEXT: &str = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";

    fn padded(digest: [u8; DIGEST]) -> [u8; REPORT_DATA] {
        std::array::from_fn(|i| digest.get(i).copied().unwrap_or(0))
    }

    #[test]
    fn runtime_data_of_a_real_kbs_session() {
        // Digest that a Trustee server accepted for this key and challenge.
        let key = TeeKey::from_jwk(&TeePubKey::EC {
            crv: "P-256".into(),
            alg: "ECDH-ES+A256KW".into(),
            x: "Y7HscjmP2gp4zhgTI3skHmsSimMI_latZX1YjpiHqek".into(),
            y: "AG7KlC0pKL7L9ma87c65QDH73wgx5cQQLLGEzs_dVOk".into(),
        })
        .unwrap();
        let digest = runtime_data(&key, "E0wsjT/lNhmPV6fyAsuYFO7L7w4auE7jtHOmRrr33Ys=");
        assert_eq!(
            hex::encode(digest),
            "8ac5f7a6b4c5c771a8712eb883a09c178d112ac5564cb028d3b8747dea16f4c5\
             df2dd7e43ce883145fbbf6a42301bdb8"
        );
    }

    #[test]
    fn each_binding_covers_key_and_challenge() {
        let (one, two) = (key_pair(1).1, key_pair(2).1);
        assert_ne!(key_and_nonce(&one, &NONCE), key_and_nonce(&two, &NONCE));
        assert_ne!(key_and_nonce(&one, &NONCE), key_and_nonce(&one, &[8; 32]));
        assert_ne!(
            runtime_data(&one, NONCE_TEXT),
            runtime_data(&two, NONCE_TEXT)
        );
        assert_ne!(runtime_data(&one, NONCE_TEXT), runtime_data(&one, "CAgI"));
        let whole = Sha512::digest([one.x(), one.y(), &NONCE].concat());
        assert_eq!(key_and_nonce(&one, &NONCE), *whole);
    }

    #[test]
    fn exchange_0_2_takes_one_binding_only() {
        let key = key_pair(1).1;
        let old = key_and_nonce(&key, &NONCE);
        let bound = Bound::new(&key, &NONCE, NONCE_TEXT, true);
        assert_eq!(bound.of_report(&old), None);
        assert_eq!(bound.of_sample(&old), None);
        let bound = Bound::new(&key, &NONCE, NONCE_TEXT, false);
        assert_eq!(bound.of_report(&old), Some(Binding::KeyAndNonce));
        assert_eq!(bound.of_sample(&old), Some(Binding::KeyAndNonce));
    }

    #[test]
    fn padding_is_zero_in_a_report_and_absent_in_a_sample() {
        let (key, other) = (p384_pair(1).1, p384_pair(2).1);
        let bound = Bound::new(&key, &NONCE, NONCE_TEXT, true);
        let digest = runtime_data(&key, NONCE_TEXT);
        assert_eq!(bound.of_report(&padded(digest)), Some(Binding::RuntimeData));
        assert_eq!(bound.of_sample(&digest), Some(Binding::RuntimeData));
        let mut dirty = padded(digest);
        dirty[63] = 1;
        assert_eq!(bound.of_report(&dirty), None);
        assert_eq!(bound.of_sample(&padded(digest)), None);
        assert_eq!(bound.of_sample(&digest[..47]), None);
        let foreign = runtime_data(&other, NONCE_TEXT);
        assert_eq!(bound.of_report(&padded(foreign)), None);
        assert_eq!(bound.of_sample(&foreign), None);
    }
}
