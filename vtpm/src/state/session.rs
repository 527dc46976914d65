//! Authorization sessions (Part 1, 19).

use alloc::vec::Vec;

use crate::{
    constants::{ht, limit},
    crypto::{Bytes, HashAlg},
    encoded,
    wire::algorithms::SymDef,
};

encoded! {
    /// A session.
    #[derive(Clone)]
    pub struct Session {
        /// Its handle.
        pub handle: u32,
        /// A trial session only computes a policy digest.
        pub trial: bool,
        /// Hash of HMACs, audit digest and policy digest.
        pub hash: HashAlg,
        /// Algorithm of parameter encryption.
        pub symmetric: SymDef,
        /// The newest nonce of this TPM.
        pub nonce: Vec<u8>,
        /// Session key from salt and bind.
        pub key: Bytes,
        /// Name and authorization of the entity it was bound to; empty when unbound or no
        /// longer bound.
        pub bound: Bytes,
        /// Bound to an entity with dictionary attack protection.
        pub da_bound: bool,
        /// Bound to lockoutAuth.
        pub lockout_bound: bool,
        /// An audit session: `digest` is then the audit digest, for the rest of its life.
        pub audit: bool,
        /// Policy digest or audit digest.
        pub digest: Vec<u8>,
        /// Policy state.
        pub policy: Policy,
    }

    /// What the policy commands recorded.
    #[derive(Clone, Default)]
    pub struct Policy {
        /// Time when the nonce last changed, in milliseconds.
        pub start_ms: u64,
        /// Time when the policy ends; 0 for never.
        pub timeout_ms: u64,
        /// `time_epoch` at the start.
        pub epoch: u32,
        /// Only this command; 0 for any.
        pub command: u32,
        /// Which of the digests `bound` is.
        pub binding: u8,
        /// Command parameter, name or template hash.
        pub bound: Vec<u8>,
        /// Allowed localities; 0 for all.
        pub locality: u8,
        /// The entity's password must be given.
        pub password: bool,
        /// The entity's authorization value goes into the HMAC.
        pub auth_value: bool,
        /// Physical presence is required.
        pub presence: bool,
        /// The NV index's written state must be [`Self::nv_written`].
        pub check_nv: bool,
        /// Wanted written state.
        pub nv_written: bool,
        /// PCRs were checked at this value of the PCR counter.
        pub pcr_counter: Option<u32>,
    }
}

/// Values of [`Policy::binding`].
pub struct Binding;

impl Binding {
    /// Nothing recorded.
    pub const NONE: u8 = 0;
    /// `TPM2_PolicyCpHash`
    pub const COMMAND: u8 = 1;
    /// `TPM2_PolicyNameHash`, `TPM2_PolicyDuplicationSelect`
    pub const NAMES: u8 = 2;
    /// `TPM2_PolicyTemplate`
    pub const TEMPLATE: u8 = 3;
}

impl Session {
    /// Is it a policy or trial session?
    #[must_use]
    pub fn is_policy(&self) -> bool {
        ht::of(self.handle) == ht::POLICY_SESSION
    }

    /// Number of the session, the same for all types of session handle.
    #[must_use]
    pub fn number(&self) -> u32 {
        number(self.handle)
    }

    /// Forgets all the policy commands recorded, as a new nonce does.
    pub fn restart_policy(&mut self, now_ms: u64, epoch: u32) {
        self.policy = Policy {
            start_ms: now_ms,
            epoch,
            ..Policy::default()
        };
        self.digest = alloc::vec![0; self.hash.size()];
    }
}

/// Number of the session with `handle`.
#[must_use]
pub fn number(handle: u32) -> u32 {
    handle & 0x00FF_FFFF
}

/// Can `handle` name a session (`TPM_RS_PW` does not)?
#[must_use]
pub fn is_session(handle: u32) -> bool {
    matches!(ht::of(handle), ht::HMAC_SESSION | ht::POLICY_SESSION)
        && number(handle) < limit::ACTIVE_SESSIONS as u32
}
