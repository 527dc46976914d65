//! What a server signs to prove who it is.
//!
//! Every field has its length in front of it, so no two exchanges have the same bytes.
//! Bytes are handed out piece by piece, for a hash to take.

use super::names::{Nonce, VolumeName};
use super::{Evidence, JweParts, PublicKey, Tee};
use crate::version::Version;
use alloc::string::ToString;

/// The first bytes of a transcript, its terminator included. They keep signatures for
/// this purpose apart from any other.
pub const TRANSCRIPT_LABEL: &[u8] = b"coconut-svsm kbs authentication 0.2.0\0";

/// Everything one exchange consisted of.
#[derive(Clone, Copy, Debug)]
pub struct Transcript<'a> {
    /// Kind of evidence.
    pub tee: Tee,
    /// The server's challenge.
    pub nonce: &'a Nonce,
    /// The SVSM's ephemeral key.
    pub key: &'a PublicKey,
    /// SHA-384 over [`evidence_digest_input`].
    pub evidence_digest: &'a [u8; 48],
    /// The volume whose secret was released.
    pub volume: &'a VolumeName,
    /// The encrypted secret, the server's ephemeral key in its header.
    pub jwe: &'a JweParts<'a>,
}

impl Transcript<'_> {
    /// Hands the transcript to `sink`: the label, then every field behind its length, a
    /// 32-bit big-endian number.
    pub fn feed(&self, mut sink: impl FnMut(&[u8])) {
        sink(TRANSCRIPT_LABEL);
        let mut field = |parts: &[&[u8]]| {
            let len: usize = parts.iter().map(|part| part.len()).sum();
            // Every field came in a message of at most 64 KiB.
            sink(&(len as u32).to_be_bytes());
            parts.iter().for_each(|part| sink(part));
        };
        field(&[Version::V0_2_0.to_string().as_bytes()]);
        field(&[self.tee.name().as_bytes()]);
        field(&[self.nonce.as_bytes()]);
        field(&[self.key.crv.name().as_bytes()]);
        field(&[&self.key.x, &self.key.y]);
        field(&[self.evidence_digest]);
        field(&[self.volume.as_bytes()]);
        field(&[self.jwe.protected.as_bytes()]);
        field(&[&self.jwe.encrypted_key]);
        field(&[&self.jwe.iv]);
        field(&[&self.jwe.ciphertext]);
        field(&[&self.jwe.tag]);
    }
}

/// Hands what the evidence digest covers to `sink`: an SNP report as it is; of a sample,
/// the word `sample`, a zero byte, its REPORT_DATA and its measurement in hexadecimal.
pub fn evidence_digest_input(evidence: &Evidence, mut sink: impl FnMut(&[u8])) {
    match evidence {
        Evidence::Snp { report, .. } => sink(report),
        Evidence::Sample {
            report_data,
            measurement,
            ..
        } => {
            sink(b"sample\0");
            sink(report_data);
            sink(measurement.as_deref().unwrap_or_default().as_bytes());
        }
    }
}
