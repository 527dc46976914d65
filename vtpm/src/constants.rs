//! Numbers of the specification (TPM 2.0 Library, Part 2), under their specified names.
#![allow(missing_docs)]

/// `TPM_ALG_ID` (Part 2, 6.3).
pub mod alg {
    pub const RSA: u16 = 0x0001;
    pub const SHA1: u16 = 0x0004;
    pub const HMAC: u16 = 0x0005;
    pub const AES: u16 = 0x0006;
    pub const MGF1: u16 = 0x0007;
    pub const KEYEDHASH: u16 = 0x0008;
    pub const XOR: u16 = 0x000A;
    pub const SHA256: u16 = 0x000B;
    pub const SHA384: u16 = 0x000C;
    pub const SHA512: u16 = 0x000D;
    pub const NULL: u16 = 0x0010;
    pub const RSASSA: u16 = 0x0014;
    pub const RSAES: u16 = 0x0015;
    pub const RSAPSS: u16 = 0x0016;
    pub const OAEP: u16 = 0x0017;
    pub const ECDSA: u16 = 0x0018;
    pub const ECDH: u16 = 0x0019;
    pub const ECDAA: u16 = 0x001A;
    pub const ECSCHNORR: u16 = 0x001C;
    pub const ECMQV: u16 = 0x001D;
    pub const KDF1_SP800_56A: u16 = 0x0020;
    pub const KDF2: u16 = 0x0021;
    pub const KDF1_SP800_108: u16 = 0x0022;
    pub const ECC: u16 = 0x0023;
    pub const SYMCIPHER: u16 = 0x0025;
    pub const CTR: u16 = 0x0040;
    pub const OFB: u16 = 0x0041;
    pub const CBC: u16 = 0x0042;
    pub const CFB: u16 = 0x0043;
    pub const ECB: u16 = 0x0044;
}

/// `TPM_RH` and the first handles of each range (Part 2, 7.2 to 7.5).
pub mod rh {
    pub const OWNER: u32 = 0x4000_0001;
    pub const NULL: u32 = 0x4000_0007;
    pub const UNASSIGNED: u32 = 0x4000_0008;
    pub const PW: u32 = 0x4000_0009;
    pub const LOCKOUT: u32 = 0x4000_000A;
    pub const ENDORSEMENT: u32 = 0x4000_000B;
    pub const PLATFORM: u32 = 0x4000_000C;
    pub const PLATFORM_NV: u32 = 0x4000_000D;
    /// Authorization values of the vendor (`TPM_RH_AUTH_00` to `FF`): there are none.
    pub const VENDOR_AUTH: core::ops::RangeInclusive<u32> = 0x4000_0010..=0x4000_010F;
    pub const NV_FIRST: u32 = 0x0100_0000;
    pub const HMAC_SESSION_FIRST: u32 = 0x0200_0000;
    pub const POLICY_SESSION_FIRST: u32 = 0x0300_0000;
    pub const TRANSIENT_FIRST: u32 = 0x8000_0000;
    pub const PERSISTENT_FIRST: u32 = 0x8100_0000;
    pub const PLATFORM_PERSISTENT: u32 = 0x8180_0000;
    pub const PERSISTENT_LAST: u32 = 0x81FF_FFFF;
}

/// `TPM_HT`: the type of a handle, its first byte (Part 2, 7.2).
pub mod ht {
    pub const PCR: u8 = 0x00;
    pub const NV_INDEX: u8 = 0x01;
    pub const HMAC_SESSION: u8 = 0x02;
    pub const POLICY_SESSION: u8 = 0x03;
    pub const PERMANENT: u8 = 0x40;
    pub const TRANSIENT: u8 = 0x80;
    pub const PERSISTENT: u8 = 0x81;

    /// The type of `handle`.
    #[must_use]
    pub const fn of(handle: u32) -> u8 {
        (handle >> 24) as u8
    }
}

/// `TPM_ST`: structure tags (Part 2, 6.9).
pub mod st {
    pub const RSP_COMMAND: u16 = 0x00C4;
    pub const NO_SESSIONS: u16 = 0x8001;
    pub const SESSIONS: u16 = 0x8002;
    pub const ATTEST_NV: u16 = 0x8014;
    pub const ATTEST_COMMAND_AUDIT: u16 = 0x8015;
    pub const ATTEST_SESSION_AUDIT: u16 = 0x8016;
    pub const ATTEST_CERTIFY: u16 = 0x8017;
    pub const ATTEST_QUOTE: u16 = 0x8018;
    pub const ATTEST_TIME: u16 = 0x8019;
    pub const ATTEST_CREATION: u16 = 0x801A;
    pub const ATTEST_NV_DIGEST: u16 = 0x801C;
    pub const CREATION: u16 = 0x8021;
    pub const VERIFIED: u16 = 0x8022;
    pub const AUTH_SECRET: u16 = 0x8023;
    pub const HASHCHECK: u16 = 0x8024;
    pub const AUTH_SIGNED: u16 = 0x8025;
    pub const FU_MANIFEST: u16 = 0x8029;

    /// Is there such a structure?
    #[must_use]
    pub const fn is_known(tag: u16) -> bool {
        matches!(
            tag,
            RSP_COMMAND
                | 0x8000..=SESSIONS
                | ATTEST_NV..=ATTEST_CREATION
                | ATTEST_NV_DIGEST
                | CREATION..=AUTH_SIGNED
                | FU_MANIFEST
        )
    }
}

/// `TPMA_OBJECT` (Part 2, 8.3).
pub mod oa {
    pub const FIXED_TPM: u32 = 1 << 1;
    pub const ST_CLEAR: u32 = 1 << 2;
    pub const FIXED_PARENT: u32 = 1 << 4;
    pub const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    pub const USER_WITH_AUTH: u32 = 1 << 6;
    pub const ADMIN_WITH_POLICY: u32 = 1 << 7;
    pub const NO_DA: u32 = 1 << 10;
    pub const ENCRYPTED_DUPLICATION: u32 = 1 << 11;
    pub const RESTRICTED: u32 = 1 << 16;
    pub const DECRYPT: u32 = 1 << 17;
    pub const SIGN: u32 = 1 << 18;
    pub const X509_SIGN: u32 = 1 << 19;
    pub const ALL: u32 = FIXED_TPM
        | ST_CLEAR
        | FIXED_PARENT
        | SENSITIVE_DATA_ORIGIN
        | USER_WITH_AUTH
        | ADMIN_WITH_POLICY
        | NO_DA
        | ENCRYPTED_DUPLICATION
        | RESTRICTED
        | DECRYPT
        | SIGN
        | X509_SIGN;
}

/// `TPMA_NV` (Part 2, 13.4).
pub mod nva {
    pub const PPWRITE: u32 = 1 << 0;
    pub const OWNERWRITE: u32 = 1 << 1;
    pub const AUTHWRITE: u32 = 1 << 2;
    pub const POLICYWRITE: u32 = 1 << 3;
    pub const TYPE_SHIFT: u32 = 4;
    pub const TYPE_MASK: u32 = 0xF0;
    pub const POLICY_DELETE: u32 = 1 << 10;
    pub const WRITELOCKED: u32 = 1 << 11;
    pub const WRITEALL: u32 = 1 << 12;
    pub const WRITEDEFINE: u32 = 1 << 13;
    pub const WRITE_STCLEAR: u32 = 1 << 14;
    pub const GLOBALLOCK: u32 = 1 << 15;
    pub const PPREAD: u32 = 1 << 16;
    pub const OWNERREAD: u32 = 1 << 17;
    pub const AUTHREAD: u32 = 1 << 18;
    pub const POLICYREAD: u32 = 1 << 19;
    pub const NO_DA: u32 = 1 << 25;
    pub const ORDERLY: u32 = 1 << 26;
    pub const CLEAR_STCLEAR: u32 = 1 << 27;
    pub const READLOCKED: u32 = 1 << 28;
    pub const WRITTEN: u32 = 1 << 29;
    pub const PLATFORMCREATE: u32 = 1 << 30;
    pub const READ_STCLEAR: u32 = 1 << 31;
    pub const RESERVED: u32 = 0x01F0_0300;

    /// `TPM_NT`: types of NV index (Part 2, 13.2).
    pub const NT_ORDINARY: u32 = 0;
    pub const NT_COUNTER: u32 = 1;
    pub const NT_BITS: u32 = 2;
    pub const NT_EXTEND: u32 = 4;
    pub const NT_PIN_FAIL: u32 = 8;
    pub const NT_PIN_PASS: u32 = 9;
}

/// `TPMA_SESSION` (Part 2, 8.4).
pub mod sa {
    pub const CONTINUE: u8 = 1 << 0;
    pub const AUDIT_EXCLUSIVE: u8 = 1 << 1;
    pub const AUDIT_RESET: u8 = 1 << 2;
    pub const RESERVED: u8 = 0x18;
    pub const DECRYPT: u8 = 1 << 5;
    pub const ENCRYPT: u8 = 1 << 6;
    pub const AUDIT: u8 = 1 << 7;
}

/// Sizes and counts of this TPM; what a client sees of them is in `capabilities`.
pub mod limit {
    pub const COMMAND: usize = 4096;
    pub const RESPONSE: usize = 4096;
    pub const DIGEST: usize = 64;
    pub const BUFFER: usize = 1024;
    pub const NV_BUFFER: usize = 1024;
    pub const NV_INDEX: usize = 2048;
    pub const NV_TOTAL: usize = 176_832;
    pub const ORDERLY_TOTAL: usize = 508;
    pub const SENSITIVE_DATA: usize = 128;
    pub const SYM_KEY: usize = 32;
    pub const RSA_KEY: usize = 384;
    pub const RSA_PRIVATE: usize = RSA_KEY / 2 * 5;
    pub const ECC_KEY: usize = 80;
    pub const PRIVATE: usize = 1280;
    pub const TEMPLATE: usize = 484;
    pub const CONTEXT: usize = 0xA84;
    pub const SESSIONS: usize = 3;
    pub const LOADED_OBJECTS: usize = 3;
    pub const LOADED_SESSIONS: usize = 3;
    pub const ACTIVE_SESSIONS: usize = 64;
    pub const CONTEXT_GAP: u64 = 0xFFFF;
    pub const PCR_COUNT: usize = 24;
    pub const PCR_SELECT: usize = 3;
    pub const BANKS: usize = 4;
    pub const CAP_BUFFER: usize = 1024;
    pub const ORDERLY_BITS: u32 = 8;
    pub const RANDOM: usize = 64;
    pub const POLICY_OR: usize = 8;
    pub const LABEL: usize = 32;
    pub const PRIMARY_SEED: usize = 64;
    pub const PROOF: usize = 64;
}

/// `TPM_GENERATED_VALUE` (Part 2, 6.2).
pub const GENERATED: u32 = 0xFF54_4347;
/// Default RSA public exponent, written as 0 in a public area.
pub const RSA_EXPONENT: u32 = 65537;
