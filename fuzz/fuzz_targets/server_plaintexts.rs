//! What a key broker encrypts to the SVSM, and the other texts of its answers: plaintexts,
//! signed secrets, headers, tokens, keys. What is accepted keeps its limits.

#![no_main]

use libaproxy::v0_2::{Jwe, Nonce, Release, SignedSecret, SignedToken, VolumeName};
use libfuzzer_sys::fuzz_target;
use svsm::attest::ServerKey;

fuzz_target!(|input: &[u8]| {
    if let Ok(release) = Release::parse(input) {
        let json = release.to_json().expect("what was read can be written");
        assert_eq!(Release::parse(&json).expect("and read again"), release);
    }
    if let Some(Ok(signed)) = SignedSecret::recognise(input) {
        assert!(signed.signed.len() < input.len());
        let _ = signed.payload();
        let _ = ServerKey::from_coordinates(&signed.x, &signed.y);
    }
    if let Ok(key) = ServerKey::from_der(input) {
        assert_eq!(input.len(), 120);
        assert!(key.verify_message(b"message", &[1; 96]).is_err());
    }
    if let Ok(jwe) = serde_json::from_slice::<Jwe>(input) {
        let _ = jwe.parts();
    }
    if let Ok(text) = core::str::from_utf8(input) {
        let _ = SignedToken::parse(text);
        let protected = Jwe {
            protected: text.into(),
            encrypted_key: String::new(),
            iv: String::new(),
            ciphertext: String::new(),
            tag: String::new(),
        };
        let _ = protected.parts();
        if let Ok(nonce) = Nonce::new(text) {
            assert!(!nonce.contains(['"', '\\', ' ']));
        }
        if let Ok(name) = VolumeName::new(text) {
            assert!(!name.contains("..") || !name.split('/').any(|part| part == ".."));
        }
    }
});
