//! Authentication of writes: the header that a guest sends, the PKCS #7 signature in it,
//! and the certificates that make it count.
//!
//! Everything in here reads bytes that a guest chose. Nothing allocates, nothing is
//! trusted before its signature is verified, and each refusal has a cause.

mod asn1;
mod chain;
pub mod cms;
mod ec;
pub mod header;
mod names;
pub mod owner;
mod rsa;
pub mod x509;

/// Why a signature is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("not DER, or not what the standard has in this place")]
    Malformed,
    #[error("bytes after the end of the signature")]
    TrailingBytes,
    #[error("the content is inside the signature")]
    EmbeddedContent,
    #[error("not exactly one signer")]
    SignerCount,
    #[error("more certificates than a signature needs")]
    TooManyCertificates,
    #[error("a digest other than SHA-256, SHA-384 or SHA-512")]
    Digest,
    #[error("a signature algorithm that is not supported")]
    SignatureAlgorithm,
    #[error("a public key that is not supported")]
    PublicKey,
    #[error("the signer's certificate is not there")]
    NoSignerCertificate,
    #[error("the signed attributes do not name the content")]
    SignedAttributes,
    #[error("the signature does not verify")]
    BadSignature,
    #[error("the signer's certificate does not lead to a trusted one")]
    Untrusted,
    #[error("a certificate that may not sign another, or says more than can be checked")]
    CertificateUse,
}

impl From<der::Error> for AuthError {
    fn from(_: der::Error) -> Self {
        Self::Malformed
    }
}
