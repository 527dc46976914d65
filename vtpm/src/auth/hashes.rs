//! Hashes of commands and answers, which HMACs and audits cover (Part 1, 18.7 and 18.8).

use alloc::vec::Vec;

use super::SessionUse;
use crate::{
    constants::sa,
    context::Context,
    crypto::{self, HashAlg},
    table::{self, Command},
};

/// Command parameter hashes, computed while the names of the handles are still known.
#[derive(Default)]
pub struct CpHashes {
    hashes: Vec<(HashAlg, Vec<u8>)>,
    pub(super) command_audit: Option<HashAlg>,
}

impl CpHashes {
    /// All hashes that the answer to this command may need.
    #[must_use]
    pub fn new(
        context: &Context<'_>,
        command: &Command,
        sessions: &[SessionUse],
        params: &[u8],
    ) -> Self {
        let mut this = Self::default();
        let settings = &context.state.settings;
        if settings.audited.0.contains(&command.code) {
            this.command_audit = Some(settings.audit_alg);
        }
        let audits = sessions
            .iter()
            .filter(|used| used.has(sa::AUDIT))
            .filter_map(|used| context.state.session(used.handle))
            .map(|session| session.hash);
        for hash in audits.chain(this.command_audit) {
            this.hashes
                .push((hash, cp_hash(context, command.code, params, hash)));
        }
        this
    }

    pub(super) fn of(&self, hash: HashAlg) -> &[u8] {
        self.hashes
            .iter()
            .find(|(known, _)| *known == hash)
            .map_or(&[], |(_, digest)| digest)
    }
}

/// cpHash: command code, names of the handles, parameters as sent (Part 1, 18.7).
#[must_use]
pub fn cp_hash(context: &Context<'_>, code: u32, params: &[u8], hash: HashAlg) -> Vec<u8> {
    let names = names(context, code);
    crypto::hash(hash, &[&code.to_be_bytes(), &names, params])
}

/// The names of all handles of the command, one after the other.
#[must_use]
pub fn names(context: &Context<'_>, code: u32) -> Vec<u8> {
    let count = table::find(code).map_or(0, |command| command.handles.len());
    context
        .handles
        .iter()
        .take(count)
        .flat_map(|handle| context.state.name(*handle))
        .collect()
}

/// rpHash of a success: response code, command code, parameters (Part 1, 18.8).
pub(super) fn rp_hash(code: u32, reply: &[u8], hash: HashAlg) -> Vec<u8> {
    crypto::hash(hash, &[&0u32.to_be_bytes(), &code.to_be_bytes(), reply])
}
