//! What the recorded TPM gave, and what the engine gave in its place.

use std::collections::BTreeMap;

/// Pairs of recorded and actual values.
#[derive(Default)]
pub struct Substitution {
    handles: BTreeMap<u32, u32>,
    /// Longest first, so that a whole context is replaced before a blob in it.
    values: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Substitution {
    /// Notes a handle.
    pub fn handle(&mut self, recorded: u32, actual: u32) {
        self.handles.insert(recorded, actual);
    }

    /// What stands for a recorded handle.
    pub fn actual_handle(&self, recorded: u32) -> u32 {
        self.handles.get(&recorded).copied().unwrap_or(recorded)
    }

    /// Notes a field. Short ones could match by chance and are not worth it.
    pub fn value(&mut self, recorded: &[u8], actual: &[u8]) {
        if recorded.len() >= 16 && recorded != actual {
            self.values.retain(|(old, _)| old != recorded);
            self.values.push((recorded.to_vec(), actual.to_vec()));
            self.values
                .sort_by_key(|(recorded, _)| core::cmp::Reverse(recorded.len()));
        }
    }

    /// Replaces every noted value in `bytes`.
    pub fn apply(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            match self
                .values
                .iter()
                .find(|(recorded, _)| rest.starts_with(recorded))
            {
                Some((recorded, actual)) => {
                    out.extend_from_slice(actual);
                    rest = &rest[recorded.len()..];
                }
                None => {
                    out.push(*first);
                    rest = &rest[1..];
                }
            }
        }
        out
    }
}
