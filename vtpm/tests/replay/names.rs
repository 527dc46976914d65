//! Names of entities, followed through the commands that make and change them.

use std::collections::BTreeMap;

use vtpm::crypto::{HashAlg, hash};

use crate::layout::{blob, u16_at, u32_at};

/// Attribute TPMA_NV_WRITTEN.
const WRITTEN: u32 = 1 << 29;

/// What one TPM has under its handles.
#[derive(Default, Clone)]
pub struct Names {
    objects: BTreeMap<u32, Vec<u8>>,
    nv: BTreeMap<u32, Vec<u8>>,
    /// Names of saved objects, by their contexts.
    saved: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Names {
    /// The name an HMAC covers for a handle.
    pub fn of(&self, handle: u32) -> Vec<u8> {
        match handle >> 24 {
            0x01 => self
                .nv
                .get(&handle)
                .map(|public| nv_name(public))
                .unwrap_or_default(),
            0x80 | 0x81 => self.objects.get(&handle).cloned().unwrap_or_default(),
            _ => handle.to_be_bytes().to_vec(),
        }
    }

    /// An object was saved as `context`.
    pub fn save(&mut self, handle: u32, context: &[u8]) {
        if let Some(name) = self.objects.get(&handle) {
            self.saved.insert(context.to_vec(), name.clone());
        }
    }

    /// What `context` held is loaded.
    pub fn load(&mut self, handle: u32, context: &[u8]) {
        if let Some(name) = self.saved.get(context) {
            self.objects.insert(handle, name.clone());
        }
    }

    /// Follows a successful exchange of this TPM.
    pub fn follow(
        &mut self,
        code: u32,
        handles: &[u32],
        parameters: &[u8],
        handle: Option<u32>,
        response: &[u8],
    ) {
        match (code, handle) {
            (0x131, Some(handle)) => {
                // outPublic, creationData, creationHash, creationTicket, name
                let mut rest = response;
                for _ in 0..3 {
                    rest = blob(rest).map(|found| found.1).unwrap_or_default();
                }
                rest = rest
                    .get(6..)
                    .and_then(blob)
                    .map(|found| found.1)
                    .unwrap_or_default();
                if let Some((name, _)) = blob(rest) {
                    self.objects.insert(handle, name.to_vec());
                }
            }
            (0x157 | 0x167, Some(handle)) => {
                if let Some((name, _)) = blob(response) {
                    self.objects.insert(handle, name.to_vec());
                }
            }
            (0x173, _) => {
                let name = blob(response).and_then(|(_, rest)| blob(rest));
                if let Some((name, _)) = name {
                    self.objects.insert(handles[0], name.to_vec());
                }
            }
            (0x120, _) => {
                if let (Some((persistent, _)), Some(name)) =
                    (u32_at(parameters), self.objects.get(&handles[1]))
                {
                    self.objects.insert(persistent, name.clone());
                }
            }
            (0x12A, _) => {
                let public = blob(parameters).and_then(|(_, rest)| blob(rest));
                if let Some((public, _)) = public {
                    let (index, _) = u32_at(public).unwrap();
                    self.nv.insert(index, public.to_vec());
                }
            }
            (0x169, _) => {
                if let Some((public, _)) = blob(response) {
                    self.nv.insert(handles[0], public.to_vec());
                }
            }
            (0x134..=0x137, _) => {
                if let Some(public) = self.nv.get_mut(&handles[1]) {
                    let (attributes, _) = u32_at(&public[6..]).unwrap();
                    public[6..10].copy_from_slice(&(attributes | WRITTEN).to_be_bytes());
                }
            }
            _ => {}
        }
    }
}

fn nv_name(public: &[u8]) -> Vec<u8> {
    let (id, _) = u16_at(&public[4..]).unwrap();
    let digest = hash(HashAlg::from_id(id).unwrap(), &[public]);
    [&id.to_be_bytes()[..], &digest].concat()
}
