//! Namespaces and message types.

use uguid::{Guid, guid};

/// Variables that the UEFI specification defines.
pub const GLOBAL: Guid = guid!("8be4df61-93ca-11d2-aa0d-00e098032b8c");
/// db, dbx, dbt and dbr.
pub const IMAGE_SECURITY_DATABASE: Guid = guid!("d719b2cb-3d3a-4596-a3bc-dad00e67656f");
/// SecureBootEnable of edk2.
pub const SECURE_BOOT_ENABLE: Guid = guid!("f0a30bc7-af08-4556-99c4-001009c93a44");
/// CustomMode of edk2.
pub const CUSTOM_MODE: Guid = guid!("c076ec0c-7028-4399-a072-71ee5c448b9f");
/// What the service itself keeps; guests see none of it.
pub const SERVICE: Guid = guid!("9f4d8a36-0c1e-4c0b-8d0e-7d3f5a6be2c1");

/// MM: the variable functions.
pub const MM_VARIABLE: Guid = guid!("ed32d533-99e6-4209-9cc0-2d72cdd998a7");
/// MM: the variable policy commands.
pub const MM_POLICY: Guid = guid!("da1b0d11-d1a7-46c4-9dc9-f3714875c6eb");
/// MM: drivers are loaded, third-party code is next.
pub const EVENT_END_OF_DXE: Guid = guid!("02ce967a-dd7e-4ffc-9ee7-810cf0470880");
/// MM: a boot option is about to be started.
pub const EVENT_READY_TO_BOOT: Guid = guid!("7ce88fb3-4bd7-4679-87a8-a8d8dee50d2b");
/// MM: the operating system has taken over.
pub const EVENT_EXIT_BOOT_SERVICES: Guid = guid!("27abf055-b1b8-4c26-8048-748f37baa2df");

/// Payload of `EFI_VARIABLE_AUTHENTICATION_2`: a PKCS #7 SignedData.
pub const CERT_TYPE_PKCS7: Guid = guid!("4aafd29d-68df-49ee-8aa9-347d375665a7");

/// Signature list of SHA-1 hashes.
pub const CERT_SHA1: Guid = guid!("826ca512-cf10-4ac9-b187-be01496631bd");
/// Signature list of SHA-224 hashes.
pub const CERT_SHA224: Guid = guid!("0b6e5233-a65c-44c9-9407-d9ab83bfc8bd");
/// Signature list of SHA-256 hashes.
pub const CERT_SHA256: Guid = guid!("c1c41626-504c-4092-aca9-41f936934328");
/// Signature list of SHA-384 hashes.
pub const CERT_SHA384: Guid = guid!("ff3e5307-9fd0-48c9-85f1-8ad56c701e01");
/// Signature list of SHA-512 hashes.
pub const CERT_SHA512: Guid = guid!("093e0fae-a6c4-4f50-9f1b-d41e2b89c19a");
/// Signature list of RSA-2048 moduli.
pub const CERT_RSA2048: Guid = guid!("3c5766e8-269c-4e34-aa14-ed776e85b3b6");
/// Signature list of RSA-2048 signatures of SHA-1 hashes.
pub const CERT_RSA2048_SHA1: Guid = guid!("67f8444f-8743-48f1-a328-1eaab8736080");
/// Signature list of RSA-2048 signatures of SHA-256 hashes.
pub const CERT_RSA2048_SHA256: Guid = guid!("e2b36190-879b-4a3d-ad8d-f2e7bba32784");
/// Signature list of one X.509 certificate.
pub const CERT_X509: Guid = guid!("a5c059a1-94e4-4aa7-87b5-ab155c2bf072");
/// Signature list of certificates by SHA-256 hash, with a time of revocation.
pub const CERT_X509_SHA256: Guid = guid!("3bd2a492-96c0-4079-b420-fcf98ef103ed");
/// Signature list of certificates by SHA-384 hash, with a time of revocation.
pub const CERT_X509_SHA384: Guid = guid!("7076876e-80c2-4ee6-aad2-28b349a6865b");
/// Signature list of certificates by SHA-512 hash, with a time of revocation.
pub const CERT_X509_SHA512: Guid = guid!("446dbf63-2502-4cda-bcfa-2465d2b0fe9d");
/// Signature list without a key: the platform key is managed from outside (UEFI 2.11,
/// section 32.4.1).
pub const CERT_EXTERNAL_MANAGEMENT: Guid = guid!("452e8ced-dfff-4b8c-ae01-5118862e682c");
