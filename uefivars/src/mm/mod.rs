//! MM communication: how firmware and operating system reach the service.
//!
//! The buffer is `EFI_GUID`, 64-bit length of the body, body. The reply is written over
//! the body and is never longer; the header stays. All that goes wrong with a variable is
//! an EFI_STATUS in the body: an error of the transport would read as success to some
//! clients.

mod policy;
mod variable;

use uguid::Guid;

use crate::bytes::{guid_at, u64_at};
use crate::storage::Storage;
use crate::{Service, guids};

/// Size of the largest buffer, in bytes; the one that OVMF allocates.
pub const MAX_BUFFER: usize = 64 * 1024;
/// Size of GUID and length before the body, in bytes.
pub const HEADER: usize = 24;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The body holds the reply.
    Replied,
    /// A message of an unknown type; the body is as it was.
    UnknownType(Guid),
    /// The body is too short for a status; it is as it was.
    TooShort,
}

/// Why a buffer holds no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BufferError {
    #[error("an MM buffer of {0} bytes, less than its header")]
    TooSmall(usize),
    #[error("an MM buffer of {0} bytes, more than {MAX_BUFFER}")]
    TooLarge(usize),
    #[error("an MM message of {length} bytes in a buffer for {room}")]
    Length { length: u64, room: usize },
}

impl<S: Storage> Service<S> {
    /// Carries out the message in a whole buffer, header included, and writes the reply
    /// over its body.
    ///
    /// # Errors
    /// Where sizes do not fit. The buffer is as it was.
    pub fn communicate_buffer(&mut self, buffer: &mut [u8]) -> Result<Outcome, BufferError> {
        let size = buffer.len();
        if size > MAX_BUFFER {
            return Err(BufferError::TooLarge(size));
        }
        let (Some(guid), Some(length)) = (guid_at(buffer, 0), u64_at(buffer, 16)) else {
            return Err(BufferError::TooSmall(size));
        };
        let body = &mut buffer[HEADER..];
        let room = body.len();
        let body = usize::try_from(length)
            .ok()
            .and_then(|length| body.get_mut(..length))
            .ok_or(BufferError::Length { length, room })?;
        Ok(self.communicate(guid, body))
    }

    /// Carries out one message and writes the reply over its body. What is behind the
    /// reply stays as it was.
    pub fn communicate(&mut self, guid: Guid, body: &mut [u8]) -> Outcome {
        let replied = match guid {
            guids::MM_VARIABLE => variable::handle(self, body),
            guids::MM_POLICY => policy::handle(self, body),
            guids::EVENT_END_OF_DXE => {
                self.end_of_dxe();
                true
            }
            guids::EVENT_READY_TO_BOOT => {
                self.ready_to_boot();
                true
            }
            guids::EVENT_EXIT_BOOT_SERVICES => {
                self.exit_boot_services();
                true
            }
            _ => return Outcome::UnknownType(guid),
        };
        if replied {
            Outcome::Replied
        } else {
            Outcome::TooShort
        }
    }
}
