//! The services manifest (58019, section 7.1, tables 11 and 12): what a report vouches for.
//!
//! GUID of the manifest, total length and number of services; for each service its GUID,
//! offset and length of its blob; then the blobs. Numbers have 4 bytes, little endian;
//! offsets count from the manifest's first byte.

use super::CallError;
use crate::services::{Guid, KeyBroker, Services, VariableFlags};
use alloc::vec::Vec;

/// 63849ebb-3d92-4670-a1ff-58f9c94b87bb: the manifest itself.
pub const MANIFEST_GUID: Guid = [
    0xbb, 0x9e, 0x84, 0x63, 0x92, 0x3d, 0x70, 0x46, 0xa1, 0xff, 0x58, 0xf9, 0xc9, 0x4b, 0x87, 0xbb,
];

/// c476f1eb-0123-45a5-9641-b4e7dde5bfe3: the vTPM; its blob is the TPMT_PUBLIC of the
/// endorsement key.
pub const VTPM_GUID: Guid = [
    0xeb, 0xf1, 0x76, 0xc4, 0x23, 0x01, 0xa5, 0x45, 0x96, 0x41, 0xb4, 0xe7, 0xdd, 0xe5, 0xbf, 0xe3,
];

/// a4453a59-9e1b-4787-a033-1986d6adbe55: UEFI MM; its blob is version and flags.
pub const UEFI_MM_GUID: Guid = [
    0x59, 0x3a, 0x45, 0xa4, 0x1b, 0x9e, 0x87, 0x47, 0xa0, 0x33, 0x19, 0x86, 0xd6, 0xad, 0xbe, 0x55,
];

/// 98effd39-e3b3-44f0-9379-beeb470287a7, a GUID of this project's: who gave this SVSM its
/// secret, and how fresh its state is. Its blob is version and flags (bit 0: a server
/// signed the exchange or the secret, bit 1: its key is pinned in the image, bit 2: a
/// ledger vouches that the state is the newest), the SHA-384 fingerprint of the server's
/// key (48 bytes), the identity of the volume (32 bytes), the epoch of this boot (8 bytes);
/// zeros where a flag is not set.
pub const KEY_BROKER_GUID: Guid = [
    0x39, 0xfd, 0xef, 0x98, 0xb3, 0xe3, 0xf0, 0x44, 0x93, 0x79, 0xbe, 0xeb, 0x47, 0x02, 0x87, 0xa7,
];

/// The one version that every service's manifest has so far.
const VERSION: u32 = 0;

/// Length of what stands before the entries, and of an entry, in bytes.
const HEADER: usize = 24;
const ENTRY: usize = 24;

/// A service's part of the manifest.
struct Part {
    guid: Guid,
    blob: Vec<u8>,
}

/// The manifest of all services of this boot.
pub(super) fn all(services: &Services) -> Result<Vec<u8>, CallError> {
    let mut parts = Vec::new();
    for guid in [VTPM_GUID, UEFI_MM_GUID, KEY_BROKER_GUID] {
        if let Some(blob) = blob(services, &guid)? {
            parts.push(Part { guid, blob });
        }
    }
    Ok(lay_out(&parts))
}

/// The manifest of one service: its blob alone. A service or version that is not there is
/// an invalid parameter.
pub(super) fn single(services: &Services, guid: &Guid, version: u32) -> Result<Vec<u8>, CallError> {
    if version != VERSION {
        return Err(CallError::InvalidParameter);
    }
    blob(services, guid)?.ok_or(CallError::InvalidParameter)
}

fn blob(services: &Services, guid: &Guid) -> Result<Option<Vec<u8>>, CallError> {
    Ok(match *guid {
        VTPM_GUID => services.tpm.take()?.map(|tpm| tpm.ek_public().to_vec()),
        UEFI_MM_GUID => services
            .variables
            .take()?
            .map(|variables| uefi_blob(variables.flags())),
        KEY_BROKER_GUID => services.key_broker.as_ref().map(key_broker_blob),
        _ => None,
    })
}

fn uefi_blob(flags: VariableFlags) -> Vec<u8> {
    let bits = u32::from(flags.persistent)
        | u32::from(flags.secure_boot) << 1
        | u32::from(flags.database_updates) << 2;
    [VERSION.to_le_bytes(), bits.to_le_bytes()].concat()
}

fn key_broker_blob(broker: &KeyBroker) -> Vec<u8> {
    let bits = u32::from(broker.server.is_some())
        | u32::from(broker.pinned) << 1
        | u32::from(broker.standing.is_some()) << 2;
    let (identity, epoch) = broker.standing.unwrap_or_default();
    [
        &VERSION.to_le_bytes()[..],
        &bits.to_le_bytes(),
        &broker.server.unwrap_or([0; 48]),
        &identity,
        &epoch.to_le_bytes(),
    ]
    .concat()
}

fn lay_out(parts: &[Part]) -> Vec<u8> {
    // Both are far below 4 GiB: an endorsement key and a few numbers.
    let number = |value: usize| (value as u32).to_le_bytes();
    let blobs: usize = parts.iter().map(|part| part.blob.len()).sum();
    let mut offset = HEADER + ENTRY * parts.len();
    let mut manifest = Vec::with_capacity(offset + blobs);
    manifest.extend(MANIFEST_GUID);
    manifest.extend(number(offset + blobs));
    manifest.extend(number(parts.len()));
    for part in parts {
        manifest.extend(part.guid);
        manifest.extend(number(offset));
        manifest.extend(number(part.blob.len()));
        offset += part.blob.len();
    }
    for part in parts {
        manifest.extend(&part.blob);
    }
    manifest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::fake;
    use crate::services::{Service, Services};
    use alloc::boxed::Box;
    use alloc::format;

    fn text(guid: &Guid) -> alloc::string::String {
        let u32_at = |at: usize| u32::from_le_bytes(guid[at..at + 4].try_into().unwrap());
        let u16_at = |at: usize| u16::from_le_bytes(guid[at..at + 2].try_into().unwrap());
        format!(
            "{:08x}-{:04x}-{:04x}-{:02x}{:02x}-{:02x}{:02x}{:02x}{:02x}{:02x}{:02x}",
            u32_at(0),
            u16_at(4),
            u16_at(6),
            guid[8],
            guid[9],
            guid[10],
            guid[11],
            guid[12],
            guid[13],
            guid[14],
            guid[15]
        )
    }

    #[test]
    fn guids_are_the_specified_ones() {
        assert_eq!(text(&MANIFEST_GUID), "63849ebb-3d92-4670-a1ff-58f9c94b87bb");
        assert_eq!(text(&VTPM_GUID), "c476f1eb-0123-45a5-9641-b4e7dde5bfe3");
        assert_eq!(text(&UEFI_MM_GUID), "a4453a59-9e1b-4787-a033-1986d6adbe55");
    }

    #[test]
    fn offsets_lead_to_the_blobs() {
        let manifest = all(&fake::services()).unwrap();
        let number = |at: usize| u32::from_le_bytes(manifest[at..at + 4].try_into().unwrap());
        assert_eq!(manifest[..16], MANIFEST_GUID);
        assert_eq!(number(16) as usize, manifest.len());
        assert_eq!(number(20), 2);
        let blob = |entry: usize| {
            let at = 24 + 24 * entry;
            let (offset, length) = (number(at + 16) as usize, number(at + 20) as usize);
            (&manifest[at..at + 16], &manifest[offset..offset + length])
        };
        assert_eq!(
            blob(0),
            (&VTPM_GUID[..], &b"the endorsement key's public area"[..])
        );
        assert_eq!(blob(1), (&UEFI_MM_GUID[..], &[0; 8][..]));
        assert_eq!(manifest.len(), 24 + 2 * 24 + 33 + 8);
    }

    #[test]
    fn without_services_the_manifest_is_its_header() {
        let manifest = all(&Services::default()).unwrap();
        assert_eq!(manifest.len(), 24);
        assert_eq!(manifest[16..], [24, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn the_key_broker_is_named_with_what_it_vouches_for() {
        assert_eq!(
            text(&KEY_BROKER_GUID),
            "98effd39-e3b3-44f0-9379-beeb470287a7"
        );
        let blob = |server, pinned, standing| {
            key_broker_blob(&KeyBroker {
                server,
                pinned,
                standing,
            })
        };
        assert_eq!(blob(None, false, None), [0; 4 + 4 + 48 + 32 + 8]);
        let full = blob(Some([1; 48]), true, Some(([2; 32], 3)));
        let expected = [
            &[0, 0, 0, 0, 7, 0, 0, 0][..],
            &[1; 48],
            &[2; 32],
            &[3, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(full, expected.concat());
    }

    #[test]
    fn flags_of_the_variables_have_their_bits() {
        for (flags, bits) in [
            (
                VariableFlags {
                    persistent: true,
                    ..VariableFlags::default()
                },
                1,
            ),
            (
                VariableFlags {
                    secure_boot: true,
                    ..VariableFlags::default()
                },
                2,
            ),
            (
                VariableFlags {
                    database_updates: true,
                    ..VariableFlags::default()
                },
                4,
            ),
        ] {
            let services = Services {
                variables: Service::new(Box::new(fake::FakeVariables { flags })),
                ..Services::default()
            };
            let blob = single(&services, &UEFI_MM_GUID, 0).unwrap();
            assert_eq!(blob, [0, 0, 0, 0, bits, 0, 0, 0]);
        }
    }

    #[test]
    fn absent_services_and_versions_are_invalid_parameters() {
        let none = Services::default();
        let all = fake::services();
        for (services, guid, version) in [
            (&none, VTPM_GUID, 0),
            (&none, UEFI_MM_GUID, 0),
            (&all, VTPM_GUID, 1),
            (&all, MANIFEST_GUID, 0),
            (&all, [0; 16], 0),
        ] {
            assert_eq!(
                single(services, &guid, version),
                Err(CallError::InvalidParameter)
            );
        }
    }
}
