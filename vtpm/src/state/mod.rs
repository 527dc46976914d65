//! All the TPM knows, as one value that is cheap to copy.
//!
//! Always true: the parts of [`State`] are shared (`Arc`) and copied on the first write, so a
//! copy costs a handful of reference counts, and two states share a part exactly when it is
//! unchanged. `records` uses that to find what a command must commit.

pub mod encoding;
pub mod object;
pub mod session;

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use crate::{
    constants::{limit, nva},
    crypto::{Bytes, HashAlg, ct_eq},
    encoded,
    wire::structures::NvPublic,
};
use encoding::{Encode, List};
use object::{Object, Slot};
use session::Session;

encoded! {
    /// Primary seeds and proofs of the persistent hierarchies (Part 1, 12 and 13).
    #[derive(Clone, Default)]
    pub struct Seeds {
        /// Endorsement primary seed.
        pub endorsement: Bytes,
        /// Storage primary seed.
        pub storage: Bytes,
        /// Platform primary seed.
        pub platform: Bytes,
        /// Secret behind the tickets and contexts of the endorsement hierarchy.
        pub endorsement_proof: Bytes,
        /// The same of the storage hierarchy.
        pub storage_proof: Bytes,
        /// The same of the platform hierarchy.
        pub platform_proof: Bytes,
    }

    /// Who may use a hierarchy.
    #[derive(Clone, Default)]
    pub struct Access {
        /// Authorization value.
        pub auth: Bytes,
        /// Hash of the policy, if there is one.
        pub policy_alg: Option<HashAlg>,
        /// Policy digest.
        pub policy: Vec<u8>,
    }

    /// Authorizations that survive a power cycle.
    #[derive(Clone, Default)]
    pub struct Owners {
        /// Owner (storage hierarchy).
        pub owner: Access,
        /// Privacy administrator (endorsement hierarchy).
        pub endorsement: Access,
        /// Dictionary attack lockout.
        pub lockout: Access,
        /// `TPM2_Clear` with lockout authorization is off.
        pub disable_clear: bool,
    }

    /// Counters of boots, and how the last one ended.
    #[derive(Clone, Default)]
    pub struct Boots {
        /// How the state was left, see [`Shutdown`].
        pub left: u8,
        /// TPM Resets since the last `TPM2_Clear`.
        pub resets: u32,
        /// TPM Resets over the TPM's life.
        pub total_resets: u64,
        /// Highest value of any NV counter that was ever deleted.
        pub max_counter: u64,
    }

    /// Dictionary attack protection (Part 1, 17.8).
    #[derive(Clone)]
    pub struct Da {
        /// Failures counted.
        pub failed: u32,
        /// Failures at which lockout begins.
        pub max: u32,
        /// Seconds for one failure to be forgiven.
        pub recovery: u32,
        /// Seconds until lockoutAuth may be tried again.
        pub lockout_recovery: u32,
        /// lockoutAuth may be tried.
        pub lockout_enabled: bool,
    }

    /// Choices of the platform and the owner that no other record holds.
    #[derive(Clone)]
    pub struct Settings {
        /// PCRs of each bank of [`HashAlg`]'s order, from the next reset on.
        pub allocation: [u32; limit::BANKS],
        /// Policies of the PCR groups.
        pub pcr_policy: Access,
        /// Commands that need physical presence beyond the fixed one.
        pub pp_commands: Vec<u8>,
        /// Commands that are audited, as numbers of the table.
        pub audited: List<u32>,
        /// Hash of the command audit.
        pub audit_alg: HashAlg,
        /// Number of the command audit.
        pub audit_counter: u64,
        /// Algorithm set of `TPM2_SetAlgorithmSet`.
        pub algorithm_set: u32,
    }

    /// An NV index.
    #[derive(Clone)]
    pub struct NvIndex {
        /// Public area with the current attributes.
        pub public: NvPublic,
        /// Authorization value.
        pub auth: Bytes,
        /// Data; as long as the public area says from the first write on, before that empty.
        pub data: Bytes,
    }

    /// What is lost in a power cut and kept by a shutdown (Part 1, 12.2.3.3).
    #[derive(Clone, Default)]
    pub struct Orderly {
        /// The clock in milliseconds.
        pub clock: u64,
        /// No higher clock value was reported before.
        pub clock_safe: bool,
        /// Milliseconds of forgiveness already waited for.
        pub heal_ms: u64,
        /// Milliseconds of lockout recovery already waited for.
        pub lockout_ms: u64,
    }

    /// State of the platform that `TPM2_Startup(CLEAR)` resets (state-clear group).
    #[derive(Clone)]
    pub struct StateClear {
        /// Storage hierarchy enabled.
        pub storage_enabled: bool,
        /// Endorsement hierarchy enabled.
        pub endorsement_enabled: bool,
        /// NV indices of the platform enabled.
        pub platform_nv_enabled: bool,
        /// Platform authorization.
        pub platform: Access,
        /// Authorization values of PCR that can have one.
        pub pcr_auth: Bytes,
        /// PCR contents that were saved.
        pub pcrs: Option<Pcrs>,
    }

    /// State that only a TPM Reset resets (state-reset group).
    #[derive(Clone, Default)]
    pub struct StateReset {
        /// Seed of the null hierarchy.
        pub null_seed: Bytes,
        /// Proof of the null hierarchy.
        pub null_proof: Bytes,
        /// Restarts since the reset; part of the protection of st-clear objects.
        pub clear_count: u32,
        /// Number of the next saved object.
        pub object_context: u64,
        /// Number of the next saved session.
        pub session_counter: u64,
        /// For each session handle: the number of its saved context, or less than 4.
        pub session_slots: List<u64>,
        /// Command audit digest.
        pub audit_digest: Vec<u8>,
        /// Restarts and resumes since the reset.
        pub restarts: u32,
        /// Number of PCR changes.
        pub pcr_counter: u32,
        /// Secret from which commitments are derived.
        pub commit_nonce: Bytes,
        /// Number of the next commitment.
        pub commit_counter: u64,
        /// Commitments that were not used yet.
        pub commit_open: Vec<u8>,
    }

    /// One bank of PCRs.
    #[derive(Clone)]
    pub struct Bank {
        /// Its hash.
        pub hash: HashAlg,
        /// Allocated PCRs, bit n for PCR n.
        pub pcrs: u32,
        /// Digests of all 24, allocated or not.
        pub digests: Vec<u8>,
    }

    /// All PCRs.
    #[derive(Clone, Default)]
    pub struct Pcrs {
        /// The banks, in the order of [`HashAlg`].
        pub banks: List<Bank>,
    }
}

/// Values of [`Boots::left`].
pub struct Shutdown;

impl Shutdown {
    /// `TPM2_Shutdown(CLEAR)` was the last word.
    pub const CLEAR: u8 = 0;
    /// `TPM2_Shutdown(STATE)`; the state-clear and state-reset records are there.
    pub const STATE: u8 = 1;
    /// Running, or stopped without shutdown.
    pub const NONE: u8 = 2;
    /// As [`Self::NONE`], and an entity with dictionary attack protection was used.
    pub const DA_USED: u8 = 3;
    /// As [`Self::STATE`], when the startup before had come from locality 3.
    pub const STATE_3: u8 = 4;
    /// The highest of them.
    pub const LAST: u8 = Self::STATE_3;

    /// Was there a shutdown?
    #[must_use]
    pub fn is_orderly(left: u8) -> bool {
        left == Self::CLEAR || Self::is_saved(left)
    }

    /// Was the state saved?
    #[must_use]
    pub fn is_saved(left: u8) -> bool {
        matches!(left, Self::STATE | Self::STATE_3)
    }
}

impl Default for Da {
    fn default() -> Self {
        Self {
            failed: 0,
            max: 3,
            recovery: 1000,
            lockout_recovery: 1000,
            lockout_enabled: true,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allocation: [0x00FF_FFFF; limit::BANKS],
            pcr_policy: Access::default(),
            pp_commands: Vec::new(),
            audited: List(alloc::vec![crate::table::CC_SET_COMMAND_CODE_AUDIT_STATUS]),
            audit_alg: HashAlg::Sha512,
            audit_counter: 0,
            algorithm_set: 0,
        }
    }
}

impl Default for StateClear {
    fn default() -> Self {
        Self {
            storage_enabled: true,
            endorsement_enabled: true,
            platform_nv_enabled: true,
            platform: Access::default(),
            pcr_auth: Bytes::default(),
            pcrs: None,
        }
    }
}

impl NvIndex {
    /// Does the index live in RAM between shutdowns?
    #[must_use]
    pub fn is_orderly(&self) -> bool {
        self.public.has(nva::ORDERLY)
    }
}

/// What a power cycle destroys.
#[derive(Clone, Default)]
pub struct Ram {
    /// `TPM2_Startup` was done.
    pub started: bool,
    /// PCRs.
    pub pcrs: Arc<Pcrs>,
    /// RAM copies of orderly NV indices.
    pub orderly_nv: BTreeMap<u32, Arc<NvIndex>>,
    /// Transient objects.
    pub objects: [Option<Slot>; limit::LOADED_OBJECTS],
    /// Transient slots whose object, or one above it, does not outlive a startup (stClear).
    pub st_clear: [bool; limit::LOADED_OBJECTS],
    /// Transient slots set aside for the persistent objects that the running command uses.
    pub reserved: usize,
    /// Loaded sessions, by number of the session.
    pub sessions: BTreeMap<u32, Arc<Session>>,
    /// The session whose audit is exclusive.
    pub exclusive: Option<u32>,
    /// Platform hierarchy enabled; only a startup enables it again.
    pub platform_enabled: bool,
    /// Milliseconds since power-on.
    pub time_ms: u64,
    /// Changes at each power-on and each discontinuity of the time.
    pub time_epoch: u32,
    /// Rate of the clock: its nominal period over its true one, in parts per 2^16.
    pub clock_rate: u32,
    /// The last stop was in order (`TPMA_STARTUP_CLEAR.orderly`).
    pub orderly_start: bool,
    /// What the running command changes leaves a shutdown valid.
    pub keeps_shutdown: bool,
    /// The running command makes a shutdown invalid, whatever it changes.
    pub outdates_shutdown: bool,
    /// The startup came from locality 3.
    pub locality_3: bool,
    /// A DRTM or H-CRTM event ran before startup.
    pub hcrtm: bool,
    /// `TPM_ESTABLISHED`
    pub established: bool,
    /// The PCR allocation of the next reset differs from the present one.
    pub reallocated: bool,
    /// The orderly record must be committed with this command.
    pub write_orderly: bool,
    /// The state-clear and state-reset records must be committed with this command.
    pub write_saved: bool,
}

/// The TPM.
#[derive(Clone)]
pub struct State {
    /// Seeds and proofs.
    pub seeds: Arc<Seeds>,
    /// Public area of the endorsement key, derived at manufacture.
    pub ek_public: Arc<Vec<u8>>,
    /// Authorizations.
    pub owners: Arc<Owners>,
    /// Boot counters.
    pub boots: Arc<Boots>,
    /// Dictionary attack protection.
    pub da: Arc<Da>,
    /// PCR allocation, audit.
    pub settings: Arc<Settings>,
    /// NV indices as in the records.
    pub nv: BTreeMap<u32, Arc<NvIndex>>,
    /// Persistent objects.
    pub persistent: BTreeMap<u32, Arc<Object>>,
    /// Orderly state.
    pub orderly: Arc<Orderly>,
    /// State-clear group.
    pub clear: Arc<StateClear>,
    /// State-reset group.
    pub reset: Arc<StateReset>,
    /// RAM.
    pub ram: Ram,
}

impl StateReset {
    /// Does a resume find the same in both? PCRs that a shutdown does not save are counted, too.
    fn resumes_like(&self, old: &Self) -> bool {
        let mut counted = self.clone();
        counted.pcr_counter = old.pcr_counter;
        ct_eq(&counted.encoded(), &old.encoded())
    }
}

impl State {
    /// To change the authorizations.
    pub fn owners_mut(&mut self) -> &mut Owners {
        Arc::make_mut(&mut self.owners)
    }
    /// To change the boot counters.
    pub fn boots_mut(&mut self) -> &mut Boots {
        Arc::make_mut(&mut self.boots)
    }
    /// To change the dictionary attack state.
    pub fn da_mut(&mut self) -> &mut Da {
        Arc::make_mut(&mut self.da)
    }
    /// To change the settings.
    pub fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }
    /// To change the seeds.
    pub fn seeds_mut(&mut self) -> &mut Seeds {
        Arc::make_mut(&mut self.seeds)
    }
    /// To change the orderly state.
    pub fn orderly_mut(&mut self) -> &mut Orderly {
        Arc::make_mut(&mut self.orderly)
    }
    /// To change the state-clear group.
    pub fn clear_mut(&mut self) -> &mut StateClear {
        Arc::make_mut(&mut self.clear)
    }
    /// To change the state-reset group.
    pub fn reset_mut(&mut self) -> &mut StateReset {
        Arc::make_mut(&mut self.reset)
    }
    /// Did `self` change, since `old`, anything that the last `TPM2_Shutdown` saved?
    #[must_use]
    pub fn outdates_shutdown(&self, old: &Self) -> bool {
        // Indices that came or went are in records of their own.
        let same_nv = self.ram.orderly_nv.iter().all(|(handle, index)| {
            let old = old.ram.orderly_nv.get(handle);
            old.is_none_or(|old| Arc::ptr_eq(index, old))
        });
        let same_pcrs =
            Arc::ptr_eq(&self.ram.pcrs, &old.ram.pcrs) || self.ram.pcrs.resume_like(&old.ram.pcrs);
        let same_reset =
            Arc::ptr_eq(&self.reset, &old.reset) || self.reset.resumes_like(&old.reset);
        !(Arc::ptr_eq(&self.clear, &old.clear) && same_reset && same_pcrs && same_nv)
    }

    /// To change the PCRs.
    pub fn pcrs_mut(&mut self) -> &mut Pcrs {
        Arc::make_mut(&mut self.ram.pcrs)
    }
}

const _: fn() = || {
    fn encode<T: Encode>() {}
    encode::<Object>();
    encode::<Session>();
    encode::<Slot>();
};
