//! TPM2_NV_Certify (Part 3, 31.16).

use super::prelude::*;
use crate::{attest, nv, signing};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let extra = params.sized(limit::DIGEST + 2)?;
    let requested: Scheme = params.read()?;
    let size: u16 = params.read()?;
    let offset: u16 = params.read()?;
    params.end()?;
    let key = context.signer(0)?;
    let scheme = signing::prepare(key.as_deref(), requested, 1, 2)?;
    let index = nv::check_read(context, context.handle(1), context.handle(2))?;
    let end = u32::from(offset) + u32::from(size);
    ensure(end <= u32::from(index.public.size), Rc::NV_RANGE)?;
    ensure(usize::from(size) <= limit::NV_BUFFER, Rc::VALUE).p(3)?;
    let name = index.public.name();
    let whole = size == 0 && offset == 0;
    let tag = if whole {
        st::ATTEST_NV_DIGEST
    } else {
        st::ATTEST_NV
    };
    let contents = if whole {
        // Without a scheme there is no hash, and the digest is empty.
        scheme
            .hash()
            .map(|hash| crypto::hash(hash, &[&index.data]))
            .unwrap_or_default()
    } else {
        nv::slice(index, offset, size)?.to_vec()
    };
    let mut info = attest::begin(context, tag, key.as_deref(), scheme, &extra);
    info.sized(&name);
    if !whole {
        info.put(&offset);
    }
    info.sized(&contents);
    attest::finish(context, key.as_deref(), scheme, &extra, &info, reply)
}
