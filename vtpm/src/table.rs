//! What each command takes: one line for each of the 110 commands.
//!
//! Always true: the dispatcher enforces all of a line before the command's own code runs, so
//! that code never sees a handle of the wrong kind, an authorization that was not checked, or
//! an encrypted parameter.

use crate::{
    commands,
    context::Context,
    params::{Params, Reply},
    rc::Result,
};

/// Kinds of handle a command takes in its handle area (Part 2, 9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `TPMI_DH_OBJECT`
    Object,
    /// `TPMI_DH_OBJECT+`
    ObjectOrNull,
    /// `TPMI_DH_PARENT`: an object or a hierarchy
    Parent,
    /// `TPMI_DH_ENTITY`
    Entity,
    /// `TPMI_DH_ENTITY+`
    EntityOrNull,
    /// `TPMI_DH_CONTEXT`: a transient object or a session
    Context,
    /// `TPMI_DH_PCR`
    Pcr,
    /// `TPMI_DH_PCR+`
    PcrOrNull,
    /// `TPMI_SH_HMAC`
    HmacSession,
    /// `TPMI_SH_POLICY`
    PolicySession,
    /// `TPMI_RH_HIERARCHY`
    Hierarchy,
    /// `TPMI_RH_HIERARCHY+`
    HierarchyOrNull,
    /// `TPMI_RH_HIERARCHY_AUTH`: a hierarchy or lockout
    HierarchyAuth,
    /// `TPMI_RH_PLATFORM`
    Platform,
    /// `TPMI_RH_ENDORSEMENT`
    Endorsement,
    /// `TPMI_RH_PROVISION`: owner or platform
    Provision,
    /// `TPMI_RH_CLEAR`: lockout or platform
    Clear,
    /// `TPMI_RH_LOCKOUT`
    Lockout,
    /// `TPMI_RH_NV_AUTH`: owner, platform or an index
    NvAuth,
    /// `TPMI_RH_NV_INDEX`
    NvIndex,
}

/// How a handle is authorized (Part 1, 19.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Not at all.
    None,
    /// `USER`
    User,
    /// `ADMIN`
    Admin,
    /// `DUP`
    Dup,
}

/// The code of a command.
pub type Run = fn(&mut Context<'_>, &mut Params<'_>, &mut Reply) -> Result<()>;

/// A line of the table.
pub struct Command {
    /// `TPM_CC`
    pub code: u32,
    /// Specified name, without `TPM2_`.
    pub name: &'static str,
    /// The handle area.
    pub handles: &'static [(Kind, Role)],
    /// [`NV`] and its siblings.
    pub flags: u32,
    /// The command.
    pub run: Run,
}

/// May write persistent state (`TPMA_CC.nv`).
pub const NV: u32 = 1 << 22;
/// May flush many contexts (`TPMA_CC.extensive`).
pub const EXTENSIVE: u32 = 1 << 23;
/// Flushes the object of a handle (`TPMA_CC.flushed`).
pub const FLUSHED: u32 = 1 << 24;
/// Answers with a handle (`TPMA_CC.rHandle`).
pub const HANDLE: u32 = 1 << 28;
/// First parameter may be encrypted by the caller.
pub const DECRYPT: u32 = 1 << 0;
/// First parameter of the answer may be encrypted.
pub const ENCRYPT: u32 = 1 << 1;
/// Takes no sessions at all.
pub const NO_SESSIONS: u32 = 1 << 2;
/// A trial session may be used for its policy handle; and nothing else needs one.
pub const PP: u32 = 1 << 3;
/// Always needs physical presence.
pub const PP_REQUIRED: u32 = 1 << 4;
/// Writes an NV index: authorized by its write attributes.
pub const NV_WRITES: u32 = 1 << 5;
/// Reads an NV index: authorized by its read attributes.
pub const NV_READS: u32 = 1 << 6;

const D: u32 = DECRYPT;
const E: u32 = ENCRYPT;
const DE: u32 = DECRYPT | ENCRYPT;

impl Command {
    /// Is `flag` set?
    #[must_use]
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// `TPMA_CC`
    #[must_use]
    pub fn attributes(&self) -> u32 {
        let shown = self.flags & (NV | EXTENSIVE | FLUSHED | HANDLE);
        shown | (self.handles.len() as u32) << 25 | self.code
    }

    /// Handles that need an authorization; they come before those that need none.
    #[must_use]
    pub fn authorized(&self) -> usize {
        self.handles
            .iter()
            .filter(|(_, role)| *role != Role::None)
            .count()
    }
}

/// The line of `code`.
#[must_use]
pub fn find(code: u32) -> Option<&'static Command> {
    COMMANDS
        .binary_search_by_key(&code, |command| command.code)
        .ok()
        .and_then(|i| COMMANDS.get(i))
}

macro_rules! table {
    ($($code:literal $name:ident $module:ident [$($kind:ident $role:ident),*] $flags:expr;)*) => {
        /// The table, by rising command code.
        pub static COMMANDS: &[Command] = &[$(
            Command {
                code: $code,
                name: stringify!($name),
                handles: &[$((Kind::$kind, Role::$role)),*],
                flags: $flags,
                run: commands::$module::run,
            },
        )*];
    };
}

table! {
    0x11F NV_UndefineSpaceSpecial nv_undefine_space_special [NvIndex Admin, Platform User] NV | PP;
    0x120 EvictControl evict_control [Provision User, Object None] NV | PP;
    0x121 HierarchyControl hierarchy_control [Hierarchy User] NV | EXTENSIVE | PP;
    0x122 NV_UndefineSpace nv_undefine_space [Provision User, NvIndex None] NV | PP;
    0x124 ChangeEPS change_eps [Platform User] NV | EXTENSIVE | PP;
    0x125 ChangePPS change_pps [Platform User] NV | EXTENSIVE | PP;
    0x126 Clear clear [Clear User] NV | EXTENSIVE | PP;
    0x127 ClearControl clear_control [Clear User] NV | PP;
    0x128 ClockSet clock_set [Provision User] NV | PP;
    0x129 HierarchyChangeAuth hierarchy_change_auth [HierarchyAuth User] NV | D | PP;
    0x12A NV_DefineSpace nv_define_space [Provision User] NV | D | PP;
    0x12B PCR_Allocate pcr_allocate [Platform User] NV | PP;
    0x12C PCR_SetAuthPolicy pcr_set_auth_policy [Platform User] NV | D | PP;
    0x12D PP_Commands pp_commands [Platform User] NV | PP_REQUIRED;
    0x12E SetPrimaryPolicy set_primary_policy [HierarchyAuth User] NV | D | PP;
    0x130 ClockRateAdjust clock_rate_adjust [Provision User] PP;
    0x131 CreatePrimary create_primary [HierarchyOrNull User] HANDLE | DE | PP;
    0x132 NV_GlobalWriteLock nv_global_write_lock [Provision User] NV;
    0x133 GetCommandAuditDigest get_command_audit_digest [Endorsement User, ObjectOrNull User] NV | DE;
    0x134 NV_Increment nv_increment [NvAuth User, NvIndex None] NV | NV_WRITES;
    0x135 NV_SetBits nv_set_bits [NvAuth User, NvIndex None] NV | NV_WRITES;
    0x136 NV_Extend nv_extend [NvAuth User, NvIndex None] NV | D | NV_WRITES;
    0x137 NV_Write nv_write [NvAuth User, NvIndex None] NV | D | NV_WRITES;
    0x138 NV_WriteLock nv_write_lock [NvAuth User, NvIndex None] NV | NV_WRITES;
    0x139 DictionaryAttackLockReset da_lock_reset [Lockout User] NV;
    0x13A DictionaryAttackParameters da_parameters [Lockout User] NV;
    0x13B NV_ChangeAuth nv_change_auth [NvIndex Admin] NV | D;
    0x13C PCR_Event pcr_event [PcrOrNull User] NV | D;
    0x13D PCR_Reset pcr_reset [Pcr User] NV;
    0x13E SequenceComplete sequence_complete [Object User] FLUSHED | DE;
    0x13F SetAlgorithmSet set_algorithm_set [Platform User] NV;
    0x140 SetCommandCodeAuditStatus set_command_code_audit_status [Provision User] NV | PP;
    0x142 IncrementalSelfTest incremental_self_test [] NV;
    0x143 SelfTest self_test [] NV;
    0x144 Startup startup [] NV | NO_SESSIONS;
    0x145 Shutdown shutdown [] NV;
    0x146 StirRandom stir_random [] NV | D;
    0x147 ActivateCredential activate_credential [Object Admin, Object User] DE;
    0x148 Certify certify [Object Admin, ObjectOrNull User] DE;
    0x149 PolicyNV policy_nv [NvAuth User, NvIndex None, PolicySession None] D | NV_READS;
    0x14A CertifyCreation certify_creation [ObjectOrNull User, Object None] DE;
    0x14B Duplicate duplicate [Object Dup, ObjectOrNull None] DE;
    0x14C GetTime get_time [Endorsement User, ObjectOrNull User] DE;
    0x14D GetSessionAuditDigest get_session_audit_digest [Endorsement User, ObjectOrNull User, HmacSession None] DE;
    0x14E NV_Read nv_read [NvAuth User, NvIndex None] E | NV_READS;
    0x14F NV_ReadLock nv_read_lock [NvAuth User, NvIndex None] NV | NV_READS;
    0x150 ObjectChangeAuth object_change_auth [Object Admin, Object None] DE;
    0x151 PolicySecret policy_secret [Entity User, PolicySession None] DE;
    0x152 Rewrap rewrap [ObjectOrNull User, ObjectOrNull None] DE;
    0x153 Create create [Object User] DE;
    0x154 ECDH_ZGen ecdh_zgen [Object User] DE;
    0x155 HMAC hmac [Object User] DE;
    0x156 Import import [Object User] DE;
    0x157 Load load [Object User] HANDLE | DE;
    0x158 Quote quote [ObjectOrNull User] DE;
    0x159 RSA_Decrypt rsa_decrypt [Object User] DE;
    0x15B HMAC_Start hmac_start [Object User] HANDLE | D;
    0x15C SequenceUpdate sequence_update [Object User] D;
    0x15D Sign sign [Object User] D;
    0x15E Unseal unseal [Object User] E;
    0x160 PolicySigned policy_signed [Object None, PolicySession None] DE;
    0x161 ContextLoad context_load [] HANDLE | NO_SESSIONS;
    0x162 ContextSave context_save [Context None] NO_SESSIONS;
    0x163 ECDH_KeyGen ecdh_keygen [Object None] E;
    0x164 EncryptDecrypt encrypt_decrypt [Object User] E;
    0x165 FlushContext flush_context [] NO_SESSIONS;
    0x167 LoadExternal load_external [] HANDLE | DE;
    0x168 MakeCredential make_credential [Object None] DE;
    0x169 NV_ReadPublic nv_read_public [NvIndex None] E;
    0x16A PolicyAuthorize policy_authorize [PolicySession None] D;
    0x16B PolicyAuthValue policy_auth_value [PolicySession None] 0;
    0x16C PolicyCommandCode policy_command_code [PolicySession None] 0;
    0x16D PolicyCounterTimer policy_counter_timer [PolicySession None] D;
    0x16E PolicyCpHash policy_cp_hash [PolicySession None] D;
    0x16F PolicyLocality policy_locality [PolicySession None] 0;
    0x170 PolicyNameHash policy_name_hash [PolicySession None] D;
    0x171 PolicyOR policy_or [PolicySession None] 0;
    0x172 PolicyTicket policy_ticket [PolicySession None] D;
    0x173 ReadPublic read_public [Object None] E;
    0x174 RSA_Encrypt rsa_encrypt [Object None] DE;
    0x176 StartAuthSession start_auth_session [ObjectOrNull None, EntityOrNull None] HANDLE | DE;
    0x177 VerifySignature verify_signature [Object None] D;
    0x178 ECC_Parameters ecc_parameters [] 0;
    0x17A GetCapability get_capability [] 0;
    0x17B GetRandom get_random [] E;
    0x17C GetTestResult get_test_result [] E;
    0x17D Hash hash [] DE;
    0x17E PCR_Read pcr_read [] 0;
    0x17F PolicyPCR policy_pcr [PolicySession None] D;
    0x180 PolicyRestart policy_restart [PolicySession None] 0;
    0x181 ReadClock read_clock [] 0;
    0x182 PCR_Extend pcr_extend [PcrOrNull User] NV;
    0x183 PCR_SetAuthValue pcr_set_auth_value [Pcr User] D;
    0x184 NV_Certify nv_certify [ObjectOrNull User, NvAuth User, NvIndex None] DE | NV_READS;
    0x185 EventSequenceComplete event_sequence_complete [PcrOrNull User, Object User] NV | FLUSHED | D;
    0x186 HashSequenceStart hash_sequence_start [] HANDLE | D;
    0x187 PolicyPhysicalPresence policy_physical_presence [PolicySession None] 0;
    0x188 PolicyDuplicationSelect policy_duplication_select [PolicySession None] D;
    0x189 PolicyGetDigest policy_get_digest [PolicySession None] E;
    0x18A TestParms test_parms [] 0;
    0x18B Commit commit [Object User] DE;
    0x18C PolicyPassword policy_password [PolicySession None] 0;
    0x18D ZGen_2Phase zgen_2phase [Object User] DE;
    0x18E EC_Ephemeral ec_ephemeral [] E;
    0x18F PolicyNvWritten policy_nv_written [PolicySession None] 0;
    0x190 PolicyTemplate policy_template [PolicySession None] D;
    0x191 CreateLoaded create_loaded [Parent User] HANDLE | DE | PP;
    0x192 PolicyAuthorizeNV policy_authorize_nv [NvAuth User, NvIndex None, PolicySession None] NV_READS;
    0x193 EncryptDecrypt2 encrypt_decrypt_2 [Object User] DE;
    0x197 CertifyX509 certify_x509 [Object Admin, ObjectOrNull User] DE;
}

/// `TPM_CC_SetCommandCodeAuditStatus`, which is always audited.
pub const CC_SET_COMMAND_CODE_AUDIT_STATUS: u32 = 0x140;
/// `TPM_CC_PP_Commands`, which always needs physical presence.
pub const CC_PP_COMMANDS: u32 = 0x12D;
/// `TPM_CC_Startup`
pub const CC_STARTUP: u32 = 0x144;
/// `TPM_CC_Shutdown`
pub const CC_SHUTDOWN: u32 = 0x145;
/// `TPM_CC_PolicySecret`
pub const CC_POLICY_SECRET: u32 = 0x151;
/// `TPM_CC_Create`
pub const CC_CREATE: u32 = 0x153;
/// `TPM_CC_CreatePrimary`
pub const CC_CREATE_PRIMARY: u32 = 0x131;
/// `TPM_CC_CreateLoaded`
pub const CC_CREATE_LOADED: u32 = 0x191;
/// `TPM_CC_Duplicate`
pub const CC_DUPLICATE: u32 = 0x14B;
/// `TPM_CC_NV_UndefineSpaceSpecial`
pub const CC_NV_UNDEFINE_SPACE_SPECIAL: u32 = 0x11F;
/// `TPM_CC_NV_ChangeAuth`
pub const CC_NV_CHANGE_AUTH: u32 = 0x13B;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_complete() {
        assert_eq!(COMMANDS.len(), 110);
        assert!(COMMANDS.is_sorted_by_key(|command| command.code));
        for command in COMMANDS {
            let first_none = command
                .handles
                .iter()
                .position(|(_, role)| *role == Role::None);
            let roles = command
                .handles
                .get(first_none.unwrap_or(command.handles.len())..);
            assert!(
                roles
                    .unwrap_or_default()
                    .iter()
                    .all(|(_, role)| *role == Role::None),
                "{}",
                command.name
            );
        }
    }
}
