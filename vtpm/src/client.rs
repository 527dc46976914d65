//! The other side: commands of a client, for tests that drive a TPM wherever it is.
//!
//! Only what these tests need, with passwords as authorization. A command that is answered
//! with `TPM_RC_RETRY` is sent again, as every client does.

use alloc::vec::Vec;

/// `TPM_RH_OWNER`.
pub const OWNER: u32 = 0x4000_0001;
/// `TPM_RH_LOCKOUT`.
pub const LOCKOUT: u32 = 0x4000_000A;
/// `TPM_PT_LOCKOUT_COUNTER`: failed authorizations that count.
pub const LOCKOUT_COUNTER: u32 = 0x020E;

/// `TPM_RC_RETRY`.
const RETRY: u32 = 0x922;
/// How often a command is repeated before that is an error like another.
const REPETITIONS: usize = 3;

/// What carries commands to a TPM.
pub trait Transport {
    /// Why there is no response.
    type Error;

    /// Sends a command; the whole response.
    ///
    /// # Errors
    /// When there is none.
    fn execute(&mut self, command: &[u8]) -> Result<Vec<u8>, Self::Error>;
}

/// Why a command did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failed<E> {
    /// The TPM says so.
    #[error("the TPM answers {0:#05x}")]
    Code(u32),
    /// The response is none.
    #[error("the TPM's response is malformed")]
    Malformed,
    /// There is no response.
    #[error("{0}")]
    Transport(E),
}

/// A client of the TPM behind `T`.
pub struct Client<T>(pub T);

type Answer<T> = Result<Vec<u8>, Failed<<T as Transport>::Error>>;

impl<T: Transport> Client<T> {
    /// `TPM2_Startup(CLEAR)`.
    ///
    /// # Errors
    /// [`Failed`], here as in all that follows.
    pub fn startup(&mut self) -> Result<(), Failed<T::Error>> {
        self.plain(0x144, &[0, 0]).map(drop)
    }

    /// `TPM2_Shutdown(CLEAR)`.
    pub fn shutdown(&mut self) -> Result<(), Failed<T::Error>> {
        self.plain(0x145, &[0, 0]).map(drop)
    }

    /// `TPM2_NV_DefineSpace`: an index of `size` bytes for the owner, with the name algorithm
    /// SHA-256.
    pub fn define(
        &mut self,
        index: u32,
        attributes: u32,
        size: u16,
        auth: &[u8],
    ) -> Result<(), Failed<T::Error>> {
        let public = [
            &index.to_be_bytes()[..],
            &[0, 0x0B],
            &attributes.to_be_bytes(),
            &[0, 0],
            &size.to_be_bytes(),
        ]
        .concat();
        let params = [sized(auth), sized(&public)].concat();
        self.authorized(0x12A, &[OWNER], b"", &params).map(drop)
    }

    /// `TPM2_NV_Write` of `data` at the beginning of an index, by its owner.
    pub fn write(&mut self, index: u32, data: &[u8]) -> Result<(), Failed<T::Error>> {
        let params = [sized(data), [0, 0].to_vec()].concat();
        self.authorized(0x137, &[OWNER, index], b"", &params)
            .map(drop)
    }

    /// `TPM2_NV_Increment` by the owner.
    pub fn increment(&mut self, index: u32) -> Result<(), Failed<T::Error>> {
        self.authorized(0x134, &[OWNER, index], b"", &[]).map(drop)
    }

    /// `TPM2_NV_Read` of `size` bytes by the owner.
    pub fn read(&mut self, index: u32, size: u16) -> Answer<T> {
        self.read_as(OWNER, b"", index, size)
    }

    /// The value of a counter.
    pub fn counter(&mut self, index: u32) -> Result<u64, Failed<T::Error>> {
        let value = self.read(index, 8)?;
        Ok(u64::from_be_bytes(
            value.try_into().map_err(|_| Failed::Malformed)?,
        ))
    }

    /// `TPM2_NV_Read` of `size` bytes with the password of `auth`, the owner or the index.
    pub fn read_as(&mut self, auth: u32, password: &[u8], index: u32, size: u16) -> Answer<T> {
        let params = [size.to_be_bytes(), [0, 0]].concat();
        let answer = self.authorized(0x14E, &[auth, index], password, &params)?;
        // parameterSize, then TPM2B_MAX_NV_BUFFER.
        let data = answer.get(6..6 + usize::from(size));
        Ok(data.ok_or(Failed::Malformed)?.to_vec())
    }

    /// `TPM2_DictionaryAttackParameters` by the lockout authorization, which is empty.
    pub fn protection(&mut self, tries: u32, seconds: u32) -> Result<(), Failed<T::Error>> {
        let params = [tries, seconds, seconds].map(u32::to_be_bytes).concat();
        self.authorized(0x13A, &[LOCKOUT], b"", &params).map(drop)
    }

    /// `TPM2_Clear` by the lockout authorization, which is empty.
    pub fn clear(&mut self) -> Result<(), Failed<T::Error>> {
        self.authorized(0x126, &[LOCKOUT], b"", &[]).map(drop)
    }

    /// `TPM2_GetCapability` of one property.
    pub fn property(&mut self, tag: u32) -> Result<u32, Failed<T::Error>> {
        let params = [6, tag, 1].map(u32::to_be_bytes).concat();
        let answer = self.plain(0x17A, &params)?;
        let found = |at: usize| answer.get(at..).and_then(|rest| rest.first_chunk());
        match (found(9), found(13)) {
            (Some(named), Some(value)) if *named == tag.to_be_bytes() => {
                Ok(u32::from_be_bytes(*value))
            }
            _ => Err(Failed::Malformed),
        }
    }

    /// A command without sessions; what follows the header of its response.
    fn plain(&mut self, code: u32, params: &[u8]) -> Answer<T> {
        self.send(0x8001, code, params)
    }

    /// A command whose first handle is authorized with a password.
    fn authorized(
        &mut self,
        code: u32,
        handles: &[u32],
        password: &[u8],
        params: &[u8],
    ) -> Answer<T> {
        // TPM_RS_PW, no nonce, continueSession.
        let session = [&[0x40, 0, 0, 9, 0, 0, 1][..], &sized(password)].concat();
        let size = u32::try_from(session.len()).map_err(|_| Failed::Malformed)?;
        let handles: Vec<u8> = handles.iter().flat_map(|h| h.to_be_bytes()).collect();
        let body = [&handles, &size.to_be_bytes()[..], &session, params].concat();
        self.send(0x8002, code, &body)
    }

    fn send(&mut self, tag: u16, code: u32, body: &[u8]) -> Answer<T> {
        let size = u32::try_from(10 + body.len()).map_err(|_| Failed::Malformed)?;
        let command = [
            &tag.to_be_bytes()[..],
            &size.to_be_bytes(),
            &code.to_be_bytes(),
            body,
        ]
        .concat();
        let mut rc = RETRY;
        for _ in 0..REPETITIONS {
            let response = self.0.execute(&command).map_err(Failed::Transport)?;
            let (header, body) = response.split_at_checked(10).ok_or(Failed::Malformed)?;
            let number = |at: usize| header.get(at..).and_then(|rest| rest.first_chunk());
            let (Some(size), Some(found)) = (number(2), number(6)) else {
                return Err(Failed::Malformed);
            };
            if u32::from_be_bytes(*size) as usize != response.len() {
                return Err(Failed::Malformed);
            }
            rc = u32::from_be_bytes(*found);
            match rc {
                0 => return Ok(body.to_vec()),
                RETRY => {}
                _ => break,
            }
        }
        Err(Failed::Code(rc))
    }
}

/// A sized buffer: two bytes of length, then the bytes.
fn sized(bytes: &[u8]) -> Vec<u8> {
    // What tests send is short.
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}
