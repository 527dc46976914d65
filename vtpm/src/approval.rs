//! An approval that an entity gives now: what `TPM2_PolicySigned` and `TPM2_PolicySecret` share
//! (Part 3, 23.2.2).

use alloc::vec::Vec;

use crate::{
    constants::limit,
    context::Context,
    params::{Params, Reply},
    policy,
    rc::Result,
    wire::structures::Ticket,
};

/// The parameters in front.
pub struct Approval {
    /// nonceTPM
    pub nonce: Vec<u8>,
    /// cpHashA
    pub cp_hash: Vec<u8>,
    /// policyRef
    pub reference: Vec<u8>,
    /// Seconds; a negative number asks for a ticket.
    pub expiration: i32,
}

/// Who gives the approval, and how.
pub struct Approver {
    /// Code of the command.
    pub code: u32,
    /// Tag of its tickets.
    pub tag: u16,
    /// Name of the entity.
    pub name: Vec<u8>,
    /// Its hierarchy, whose proof makes the ticket.
    pub hierarchy: u32,
    /// The approval may be repeated with a ticket.
    pub gives_tickets: bool,
}

impl Approval {
    /// Reads the four parameters.
    ///
    /// # Errors
    /// `TPM_RC_SIZE`, `TPM_RC_INSUFFICIENT` about one of them.
    pub fn read(params: &mut Params<'_>) -> Result<Self> {
        Ok(Self {
            nonce: params.sized(limit::DIGEST)?,
            cp_hash: params.sized(limit::DIGEST)?,
            reference: params.sized(limit::DIGEST)?,
            expiration: params.read::<u32>()? as i32,
        })
    }

    /// Checks the approval against the session, the second handle, and says when it ends (0:
    /// never); nothing in a trial session, where nothing is checked.
    ///
    /// # Errors
    /// See [`policy::check`].
    pub fn check(&self, context: &mut Context<'_>) -> Result<Option<u64>> {
        let session = context.policy(1)?.clone();
        if session.trial {
            return Ok(None);
        }
        let timeout = policy::timeout(&session, self.expiration, &self.nonce);
        let (cp_hash, nonce) = ((&self.cp_hash[..], 2), (&self.nonce[..], 1));
        policy::check(context.state, &session, timeout, cp_hash, nonce, 4)?;
        Ok(Some(timeout))
    }

    /// Puts the approval into the session's policy, and answers.
    ///
    /// # Errors
    /// `TPM_RC_REFERENCE_H0` when the session is gone; the dispatcher has seen it.
    pub fn record(
        &self,
        context: &mut Context<'_>,
        by: &Approver,
        timeout: Option<u64>,
        reply: &mut Reply,
    ) -> Result<()> {
        let session = context.policy(1)?;
        policy::extend_authorized(session, by.code, &by.name, &self.reference);
        policy::restrict(session, &self.cp_hash, timeout.unwrap_or(0));
        match timeout.filter(|_| by.gives_tickets && self.expiration < 0) {
            None => reply.sized(&[]).put(&Ticket::null(by.tag)),
            Some(mut timeout) => {
                if self.nonce.is_empty() {
                    timeout |= policy::EXPIRES_ON_RESET;
                }
                let ticket = policy::auth_ticket(
                    context,
                    by.tag,
                    by.hierarchy,
                    timeout,
                    &self.cp_hash,
                    &self.reference,
                    &by.name,
                );
                reply.sized(&timeout.to_be_bytes()).put(&ticket)
            }
        };
        Ok(())
    }
}
