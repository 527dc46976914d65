//! TPM2_StartAuthSession (Part 3, 11.1).

use super::prelude::*;
use crate::{
    auth,
    objects::secret,
    state::session::{Policy, Session},
};

const HMAC: u8 = 0;
const POLICY: u8 = 1;
const TRIAL: u8 = 3;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let nonce = params.sized(limit::DIGEST)?;
    let salt = params.sized(secret::MAX)?;
    let kind = params.with(|reader| match reader.u8()? {
        kind @ (HMAC | POLICY | TRIAL) => Ok(kind),
        _ => Err(Rc::VALUE),
    })?;
    let symmetric: SymDef = params.read()?;
    let hash: HashAlg = params.read()?;
    params.end()?;
    ensure((16..=hash.size()).contains(&nonce.len()), Rc::SIZE).p(1)?;
    let key = context.object_or_null(0).map_err(|_| Rc::KEY).h(1)?;
    let bind = context.handle(1);
    match &key {
        None => ensure(salt.is_empty(), Rc::VALUE).p(2)?,
        Some(key) => {
            ensure(key.is_asymmetric(), Rc::KEY).h(1)?;
            ensure(!salt.is_empty(), Rc::VALUE).p(2)?;
            ensure(key.sensitive.is_some(), Rc::HANDLE).h(1)?;
            ensure(key.public.has(oa::DECRYPT), Rc::ATTRIBUTES).h(1)?;
        }
    }
    if bind != rh::NULL && matches!(ht::of(bind), ht::TRANSIENT | ht::PERSISTENT) {
        let known = match context.state.object(bind) {
            Ok(object) => object.sensitive.is_some(),
            Err(rc) => rc == Rc::SEQUENCE,
        };
        ensure(known, Rc::HANDLE).h(2)?;
    }
    let auth_value = if bind == rh::NULL {
        Bytes::default()
    } else {
        context.state.auth_value(bind)
    };
    let salt = match &key {
        Some(key) => {
            let salt = secret::decrypt(context, key, "SECRET", &salt);
            salt.map_err(|_| Rc::VALUE).p(2)?
        }
        None => Bytes::default(),
    };
    let secret_key = crypto::concat(&[&auth_value, &salt]);
    if let Some(index) = context.state.nv_index(bind)
        && matches!(index.public.kind(), nva::NT_PIN_FAIL | nva::NT_PIN_PASS)
    {
        return Err(Rc::HANDLE.handle(2));
    }
    if let SymDef::Aes { mode, .. } = symmetric {
        ensure(mode == alg::CFB, Rc::MODE).p(4)?;
    }
    let number = context.state.free_session()?;
    let own = context.random(nonce.len())?;
    let bound = bind != rh::NULL && kind == HMAC;
    let session_key = if secret_key.is_empty() && bind == rh::NULL {
        Bytes::default()
    } else {
        crypto::kdfa(
            hash,
            &secret_key,
            "ATH",
            &own,
            &nonce,
            hash.size() as u32 * 8,
        )
    };
    let first = if kind == HMAC {
        rh::HMAC_SESSION_FIRST
    } else {
        rh::POLICY_SESSION_FIRST
    };
    let mut session = Session {
        handle: first | number,
        trial: kind == TRIAL,
        hash,
        symmetric,
        nonce: own.to_vec(),
        key: session_key,
        bound: if bound {
            auth::bound_entity(context.state, bind)
        } else {
            Bytes::default()
        },
        da_bound: bind != rh::NULL && !context.state.is_da_exempt(bind),
        lockout_bound: bind == rh::LOCKOUT,
        audit: false,
        digest: Vec::new(),
        policy: Policy::default(),
    };
    session.restart_policy(context.state.ram.time_ms, context.state.ram.time_epoch);
    reply.handle = Some(session.handle);
    reply.sized(&session.nonce);
    context.state.add_session(session);
    Ok(())
}
