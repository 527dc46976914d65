//! TPM2_EncryptDecrypt2 (Part 3, 15.3).

use super::prelude::*;
use crate::context::cipher_mode;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let data = params.secret(limit::BUFFER)?;
    let decrypt = params.with(Reader::yes_no)?;
    let mode = params.with(structures::cipher_mode)?;
    let iv = params.sized(16)?;
    params.end()?;
    crypt(context, decrypt, mode, iv, data, (3, 4), reply)
}

/// The work of both forms; `blame` are the numbers of the mode and of the vector.
pub fn crypt(
    context: &mut Context<'_>,
    decrypt: bool,
    mode: u16,
    mut iv: Vec<u8>,
    mut data: Bytes,
    blame: (u32, u32),
    reply: &mut Reply,
) -> Result<()> {
    let key = context.object(0).map_err(|_| Rc::KEY).h(1)?;
    let Parameters::Symmetric(SymDef::Aes { mode: own, .. }) = key.public.parameters else {
        return Err(Rc::KEY.handle(1));
    };
    ensure(!key.public.has(oa::RESTRICTED), Rc::ATTRIBUTES).h(1)?;
    let allowed = key.public.has(if decrypt { oa::DECRYPT } else { oa::SIGN });
    ensure(allowed, Rc::ATTRIBUTES).h(1)?;
    let mode = match (own, mode) {
        (alg::NULL, mode) => mode,
        (own, alg::NULL) => own,
        (own, mode) if own == mode => own,
        _ => return Err(Rc::MODE.parameter(blame.0)),
    };
    ensure(mode != alg::NULL, Rc::MODE).p(blame.0)?;
    let cipher = cipher_mode(mode).p(blame.0)?;
    let block = if mode == alg::ECB { 0 } else { 16 };
    ensure(iv.len() == block, Rc::SIZE).p(blame.1)?;
    if matches!(mode, alg::CBC | alg::ECB) {
        ensure(data.len().is_multiple_of(16), Rc::SIZE).p(if blame.0 == 3 { 1 } else { 4 })?;
    }
    let secret = &objects::sensitive(&key)?.secret;
    context
        .crypto
        .aes(secret, cipher, !decrypt, &mut iv, &mut data)
        .map_err(|_| Rc::FAILURE)?;
    reply.sized(&data).sized(&iv);
    Ok(())
}
