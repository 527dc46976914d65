//! Microsoft's Secure Boot keys, for those who want to boot what everybody boots.
//!
//! The certificates and the revocation lists are data of the crate `virtfw-libefi`, which
//! has them as Microsoft publishes them.

use alloc::vec::Vec;

use uguid::{Guid, guid};
use virtfw_libefi::sb::{certs, dbx};

use crate::auth::header::Request;
use crate::rules::SecureBootVariable;
use crate::{EfiTime, InitialSet, Status, bytes, guids, siglist};

/// The owner that Microsoft gives its signatures.
pub const OWNER: Guid = guid!("77fa9abd-0359-4d32-bd60-28f4e78f784b");

/// Time stamp of all that Microsoft publishes, so that its updates are never too old.
pub const TIME: EfiTime = EfiTime::new(2010, 3, 6, 19, 17, 21);

/// Values for the Secure Boot variables.
#[derive(Clone, Debug, Default)]
pub struct Set {
    pub pk: Vec<u8>,
    pub kek: Vec<u8>,
    pub db: Vec<u8>,
    pub dbx: Vec<u8>,
    /// Time stamp of all of them.
    pub time: EfiTime,
}

impl Set {
    /// The set as an initial one.
    pub fn initial(&self) -> InitialSet<'_> {
        InitialSet {
            pk: &self.pk,
            kek: &self.kek,
            db: &self.db,
            dbx: &self.dbx,
            time: self.time,
            ..InitialSet::default()
        }
    }
}

/// Microsoft's keys below a PK that has no key: nobody in the guest changes KEK, Microsoft
/// changes db and dbx.
///
/// # Errors
/// `EFI_OUT_OF_RESOURCES`.
pub fn set() -> Result<Set, Status> {
    let mut revoked = Vec::new();
    for update in [dbx::DBX_2011_X86_64, dbx::DBX_2023_X86_64] {
        let payload = Request::parse(update)?.payload;
        siglist::check(SecureBootVariable::Database, payload)
            .map_err(|_| Status::INVALID_PARAMETER)?;
        revoked = siglist::merge(&revoked, payload)?;
    }
    Ok(Set {
        pk: siglist::single(guids::CERT_EXTERNAL_MANAGEMENT, guids::SERVICE, &[0])?,
        kek: list(&[certs::MICROSOFT_KEK_2011, certs::MICROSOFT_KEK_2023])?,
        db: list(&[
            certs::MICROSOFT_DB_WINDOWS_2011,
            certs::MICROSOFT_DB_WINDOWS_2023,
            certs::MICROSOFT_DB_UEFI_2011,
            certs::MICROSOFT_DB_UEFI_2023,
            certs::MICROSOFT_DB_UEFI_ROM_2023,
        ])?,
        dbx: revoked,
        time: TIME,
    })
}

fn list(certificates: &[&[u8]]) -> Result<Vec<u8>, Status> {
    let mut lists = Vec::new();
    for certificate in certificates {
        let single = siglist::single(guids::CERT_X509, OWNER, certificate)?;
        bytes::extend(&mut lists, &single)?;
    }
    Ok(lists)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;
    use crate::{Config, Enrolled, Service};

    #[test]
    fn the_set_is_enrolled_and_switches_secure_boot_on() {
        let mut service = Service::new(Memory::default(), Config::default()).unwrap();
        let set = set().unwrap();
        assert_eq!(service.enroll(&set.initial()), Ok(Enrolled::Yes));
        assert_eq!(service.flags().bits(), 0b111);
        assert_eq!(siglist::certificates(&set.db).count(), 5);
        assert!(set.dbx.len() > 20_000);
    }
}
