//! From the bytes of a command to the bytes of its answer.
//!
//! Always true: the order of the checks is that of Part 3, 5, so that a command wrong in two
//! ways gets the same code from every TPM.

use alloc::vec::Vec;

use crate::{
    auth::{Authorization, CpHashes, Trace},
    constants::{ht, limit, rh, st},
    context::Context,
    crypto::{Bytes, Crypto},
    entity,
    environment::Environment,
    params::{Params, Reply},
    rc::{Numbered, Rc, Result, ensure},
    state::State,
    table::{self, Command},
    wire::{Put, Reader},
};

/// A command that ended with a code, and what stays of it nevertheless.
pub struct Failed {
    /// The code.
    pub rc: Rc,
    /// Traces to leave in the state as it was before the command.
    pub traces: Vec<Trace>,
}

impl From<Rc> for Failed {
    fn from(rc: Rc) -> Self {
        Self {
            rc,
            traces: Vec::new(),
        }
    }
}

struct Header {
    tag: u16,
    command: &'static Command,
}

fn header(reader: &mut Reader<'_>, size: usize, started: bool) -> Result<Header> {
    let tag = reader.u16()?;
    // The specification has TPM_RC_BAD_TAG for this; clients know the reference's answer.
    ensure(matches!(tag, st::SESSIONS | st::NO_SESSIONS), Rc::VALUE)?;
    ensure(reader.u32()? as usize == size, Rc::COMMAND_SIZE)?;
    let command = table::find(reader.u32()?).ok_or(Rc::COMMAND_CODE)?;
    ensure(
        started != (command.code == table::CC_STARTUP),
        Rc::INITIALIZE,
    )?;
    Ok(Header { tag, command })
}

fn handles(reader: &mut Reader<'_>, command: &Command, state: &mut State) -> Result<[u32; 3]> {
    let mut handles = [rh::UNASSIGNED; 3];
    for (n, ((kind, _), handle)) in (1..).zip(command.handles.iter().zip(&mut handles)) {
        *handle = reader.u32().h(n)?;
        entity::check_kind(*kind, *handle).h(n)?;
    }
    for (n, handle) in (0..).zip(handles.iter().take(command.handles.len())) {
        let persistent = ht::of(*handle) == ht::PERSISTENT;
        if persistent {
            // As in the reference, a persistent object is used through a transient slot.
            ensure(state.is_persistent_enabled(*handle), Rc::HANDLE).h(n + 1)?;
            state.need_slot()?;
        }
        state.check_present(*handle).map_err(|rc| {
            if rc == Rc::REFERENCE_H0 {
                Rc(rc.0 + n)
            } else {
                rc.handle(n + 1)
            }
        })?;
        state.ram.reserved += usize::from(persistent);
    }
    Ok(handles)
}

/// Runs a command on `state` and appends its answer to `out`.
///
/// # Errors
/// The code to answer; `state` is then to be thrown away.
pub fn run(
    state: &mut State,
    environment: &mut dyn Environment,
    crypto: &dyn Crypto,
    locality: u8,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Failed> {
    let mut reader = Reader::new(bytes);
    let Header { tag, command } = header(&mut reader, bytes.len(), state.ram.started)?;
    let handles = handles(&mut reader, command, state)?;
    let mut authorization = Authorization::default();
    if tag == st::SESSIONS {
        let size = reader.u32()? as usize;
        ensure(size >= 9 && size <= reader.left().len(), Rc::SIZE)?;
        ensure(!command.has(table::NO_SESSIONS), Rc::AUTH_CONTEXT)?;
        let area = reader.take(size)?;
        authorization = Authorization::parse(area, command, &handles, state)?;
    } else {
        ensure(command.authorized() == 0, Rc::AUTH_MISSING)?;
    }
    let mut params = Bytes::new(reader.left().to_vec());
    let mut context = Context {
        state,
        environment,
        crypto,
        locality,
        handles,
        sessions: &[],
        code: command.code,
    };
    let checked = authorization.check(&context, command, &params);
    if let Err(rc) = checked {
        return Err(Failed {
            rc,
            traces: authorization.traces,
        });
    }
    let traces = authorization.traces.clone();
    let failed = |rc| Failed {
        rc,
        traces: traces.clone(),
    };
    for trace in &traces {
        trace.apply(context.state);
    }
    authorization.keep_values(context.state, command);
    let cp_hashes = CpHashes::new(&context, command, &authorization.sessions, &params);
    authorization
        .decrypt(&context, &mut params)
        .map_err(failed)?;
    let mut reply = Reply::default();
    let mut inner = Context {
        sessions: &authorization.sessions,
        ..context
    };
    (command.run)(&mut inner, &mut Params::new(&params), &mut reply).map_err(failed)?;
    context = Context {
        sessions: &[],
        ..inner
    };

    out.put(&tag);
    out.put(&0u32);
    out.put(&0u32);
    if let Some(handle) = reply.handle {
        out.put(&handle);
    }
    if tag == st::SESSIONS {
        authorization
            .answer(&mut context, command, &cp_hashes, &mut reply.params, out)
            .map_err(failed)?;
    } else {
        if !command.has(table::NO_SESSIONS) {
            authorization.audit_unauthorized(&mut context, command, &cp_hashes, &reply.params);
        }
        out.raw(&reply.params);
    }
    ensure(out.len() <= limit::RESPONSE, Rc::FAILURE).map_err(failed)?;
    let size = out.len() as u32;
    if let Some(field) = out.get_mut(2..6) {
        field.copy_from_slice(&size.to_be_bytes());
    }
    Ok(())
}

/// The answer of a command that failed.
pub fn error(rc: Rc, out: &mut Vec<u8>) {
    out.clear();
    out.put(&st::NO_SESSIONS);
    out.put(&10u32);
    out.put(&rc.0);
}
