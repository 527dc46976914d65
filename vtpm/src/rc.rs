//! Response codes (TPM 2.0 Library, Part 2, 6.6).
//!
//! Always true: a code carries at most one number (parameter, handle or session), given
//! where the number is known; [`Rc::parameter`] and its siblings leave codes alone that
//! cannot carry one or already do.

/// A response code other than success, as it goes into the response header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rc(pub u32);

/// The result of everything that can end a command.
pub type Result<T, E = Rc> = core::result::Result<T, E>;

const FORMAT_ONE: u32 = 0x080;
const NUMBERED: u32 = 0xF40;

macro_rules! codes {
    ($($name:ident = $value:expr;)*) => {
        impl Rc {
            $(
                #[doc = concat!("`TPM_RC_", stringify!($name), "`")]
                pub const $name: Self = Self($value);
            )*
            /// The specified name of the code without its number.
            #[must_use]
            pub fn name(self) -> &'static str {
                let base = if self.0 & FORMAT_ONE != 0 { self.0 & 0x0BF } else { self.0 };
                match base {
                    $($value => stringify!($name),)*
                    0 => "SUCCESS",
                    _ => "?",
                }
            }
        }
    };
}

codes! {
    BAD_TAG = 0x01E;
    INITIALIZE = 0x100;
    FAILURE = 0x101;
    SEQUENCE = 0x103;
    PRIVATE = 0x10B;
    HMAC = 0x119;
    DISABLED = 0x120;
    EXCLUSIVE = 0x121;
    AUTH_TYPE = 0x124;
    AUTH_MISSING = 0x125;
    POLICY = 0x126;
    PCR = 0x127;
    PCR_CHANGED = 0x128;
    UPGRADE = 0x12D;
    TOO_MANY_CONTEXTS = 0x12E;
    AUTH_UNAVAILABLE = 0x12F;
    REBOOT = 0x130;
    UNBALANCED = 0x131;
    COMMAND_SIZE = 0x142;
    COMMAND_CODE = 0x143;
    AUTHSIZE = 0x144;
    AUTH_CONTEXT = 0x145;
    NV_RANGE = 0x146;
    NV_SIZE = 0x147;
    NV_LOCKED = 0x148;
    NV_AUTHORIZATION = 0x149;
    NV_UNINITIALIZED = 0x14A;
    NV_SPACE = 0x14B;
    NV_DEFINED = 0x14C;
    BAD_CONTEXT = 0x150;
    CPHASH = 0x151;
    PARENT = 0x152;
    NEEDS_TEST = 0x153;
    NO_RESULT = 0x154;
    SENSITIVE = 0x155;
    ASYMMETRIC = 0x081;
    ATTRIBUTES = 0x082;
    HASH = 0x083;
    VALUE = 0x084;
    HIERARCHY = 0x085;
    KEY_SIZE = 0x087;
    MGF = 0x088;
    MODE = 0x089;
    TYPE = 0x08A;
    HANDLE = 0x08B;
    KDF = 0x08C;
    RANGE = 0x08D;
    AUTH_FAIL = 0x08E;
    NONCE = 0x08F;
    PP = 0x090;
    SCHEME = 0x092;
    SIZE = 0x095;
    SYMMETRIC = 0x096;
    TAG = 0x097;
    SELECTOR = 0x098;
    INSUFFICIENT = 0x09A;
    SIGNATURE = 0x09B;
    KEY = 0x09C;
    POLICY_FAIL = 0x09D;
    INTEGRITY = 0x09F;
    TICKET = 0x0A0;
    RESERVED_BITS = 0x0A1;
    BAD_AUTH = 0x0A2;
    EXPIRED = 0x0A3;
    POLICY_CC = 0x0A4;
    BINDING = 0x0A5;
    CURVE = 0x0A6;
    ECC_POINT = 0x0A7;
    CONTEXT_GAP = 0x901;
    OBJECT_MEMORY = 0x902;
    SESSION_MEMORY = 0x903;
    MEMORY = 0x904;
    SESSION_HANDLES = 0x905;
    OBJECT_HANDLES = 0x906;
    LOCALITY = 0x907;
    CANCELED = 0x909;
    TESTING = 0x90A;
    REFERENCE_H0 = 0x910;
    REFERENCE_S0 = 0x918;
    NV_RATE = 0x920;
    LOCKOUT = 0x921;
    RETRY = 0x922;
    NV_UNAVAILABLE = 0x923;
}

impl Rc {
    fn numbered(self, bits: u32) -> Self {
        if self.0 & FORMAT_ONE != 0 && self.0 & NUMBERED == 0 {
            Self(self.0 | bits)
        } else {
            self
        }
    }

    /// The same code about parameter `n`, counted from 1.
    #[must_use]
    pub fn parameter(self, n: u32) -> Self {
        self.numbered(0x040 | ((n & 0xF) << 8))
    }

    /// The same code about handle `n`, counted from 1.
    #[must_use]
    pub fn handle(self, n: u32) -> Self {
        self.numbered((n & 0x7) << 8)
    }

    /// The same code about session `n`, counted from 1.
    #[must_use]
    pub fn session(self, n: u32) -> Self {
        self.numbered(0x800 | ((n & 0x7) << 8))
    }
}

impl core::fmt::Debug for Rc {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "TPM_RC_{} ({:#05x})", self.name(), self.0)
    }
}

/// Numbers an error of a result; written `.p(2)?`, `.h(1)?`, `.s(1)?` where it is raised.
pub trait Numbered<T> {
    /// About parameter `n`.
    fn p(self, n: u32) -> Result<T>;
    /// About handle `n`.
    fn h(self, n: u32) -> Result<T>;
    /// About session `n`.
    fn s(self, n: u32) -> Result<T>;
}

impl<T> Numbered<T> for Result<T> {
    fn p(self, n: u32) -> Result<T> {
        self.map_err(|rc| rc.parameter(n))
    }
    fn h(self, n: u32) -> Result<T> {
        self.map_err(|rc| rc.handle(n))
    }
    fn s(self, n: u32) -> Result<T> {
        self.map_err(|rc| rc.session(n))
    }
}

/// Fails with `rc` unless `condition` holds.
///
/// # Errors
/// `rc` when it does not.
pub fn ensure(condition: bool, rc: Rc) -> Result<()> {
    if condition { Ok(()) } else { Err(rc) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_format_one_codes_take_a_number_and_only_once() {
        assert_eq!(Rc::VALUE.parameter(2), Rc(0x2C4));
        assert_eq!(Rc::VALUE.handle(1), Rc(0x184));
        assert_eq!(Rc::BAD_AUTH.session(1), Rc(0x9A2));
        assert_eq!(Rc::VALUE.parameter(2).handle(1), Rc(0x2C4));
        assert_eq!(Rc::RETRY.session(1), Rc::RETRY);
        assert_eq!(Rc::VALUE.parameter(2).name(), "VALUE");
    }
}
