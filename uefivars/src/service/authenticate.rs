//! Who may write an authenticated variable (UEFI 2.11, section 8.2.2).

use super::{Mode, Service};
use crate::auth::AuthError;
use crate::auth::cms::SignedData;
use crate::auth::header::Request;
use crate::auth::owner;
use crate::rules::SecureBootVariable;
use crate::storage::Storage;
use crate::variable::{Key, Owner, Variable};
use crate::{Attributes, EfiTime, Status, bytes, guids, siglist};

/// A write whose author may make it.
pub(super) struct Authorized<'a> {
    pub time: EfiTime,
    pub payload: &'a [u8],
    pub owner: Option<Owner>,
}

impl<S: Storage> Service<S> {
    /// Checks the request in `data` for the variable `key`, which is `old` now.
    ///
    /// # Errors
    /// `EFI_SECURITY_VIOLATION` where the signature does not count or the time stamp is not
    /// later, `EFI_INVALID_PARAMETER` where PK is no list of one certificate,
    /// `EFI_OUT_OF_RESOURCES`.
    pub(super) fn authorize<'a>(
        &self,
        key: &Key,
        attributes: Attributes,
        data: &'a [u8],
        old: Option<&Variable>,
    ) -> Result<Authorized<'a>, Status> {
        let request = Request::parse(data)?;
        let mut name = bytes::with_capacity(key.name.size())?;
        name.extend(key.name.le_bytes());
        let content = [
            &name[..],
            &key.guid.to_bytes(),
            &attributes.0.to_le_bytes(),
            &data[..size_of::<EfiTime>()],
            request.payload,
        ];
        let refused = |error: AuthError| {
            log::debug!("{key}: {error}");
            Status::SECURITY_VIOLATION
        };
        let mut new_owner = None;
        let mut is_verified = true;
        match SecureBootVariable::of(key) {
            Some(kind) if self.mode.has_pk() => {
                let signature = SignedData::parse(request.pkcs7).map_err(refused)?;
                match kind {
                    SecureBootVariable::Pk | SecureBootVariable::Kek => {
                        signature.verify(&content, self.pk_certificates())
                    }
                    SecureBootVariable::Database => {
                        signature.verify(&content, self.database_anchors())
                    }
                }
                .map_err(refused)?;
            }
            Some(SecureBootVariable::Pk) if self.config.self_signed_pk => {
                let signature = SignedData::parse(request.pkcs7).map_err(refused)?;
                siglist::check(SecureBootVariable::Pk, request.payload)
                    .map_err(|_| Status::INVALID_PARAMETER)?;
                signature
                    .verify(&content, siglist::certificates(request.payload))
                    .map_err(refused)?;
            }
            Some(_) => is_verified = false,
            None => {
                let signature = SignedData::parse(request.pkcs7).map_err(refused)?;
                new_owner = Some(owner::of(&signature, &content).map_err(refused)?);
            }
        }
        if let Some(old) = old {
            if old.owner != new_owner {
                return Err(Status::SECURITY_VIOLATION);
            }
            // Without a signature a time stamp is anybody's word; setup mode has none.
            let replay = is_verified && request.time.order() <= old.time.order();
            if replay && !attributes.append() {
                return Err(Status::SECURITY_VIOLATION);
            }
        }
        Ok(Authorized {
            time: request.time,
            payload: request.payload,
            owner: new_owner,
        })
    }

    /// Certificates that may sign for PK and KEK.
    fn pk_certificates(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.certificates_of("PK")
    }

    /// Certificates that may sign for the signature databases.
    pub(super) fn database_anchors(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.certificates_of("KEK")
            .chain(self.certificates_of("PK"))
    }

    fn certificates_of(&self, name: &str) -> impl Iterator<Item = &[u8]> + Clone + use<'_, S> {
        let value = self
            .find(guids::GLOBAL, name)
            .map_or(&[][..], |entry| &entry.variable.data);
        siglist::certificates(value)
    }

    /// Whether whoever comes first may enrol keys.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.mode, Mode::Setup | Mode::Audit)
    }
}
