//! Names that nearly every command uses.
#![allow(unused_imports)]

pub(crate) use alloc::vec::Vec;

pub(crate) use crate::{
    constants::{alg, ht, limit, nva, oa, rh, st},
    context::Context,
    crypto::{self, Bytes, HashAlg, ct_eq},
    objects,
    params::{Params, Reply},
    rc::{Numbered, Rc, Result, ensure},
    wire::{
        Marshal, Put, Reader, Unmarshal, algorithms,
        algorithms::{Scheme, SymDef},
        public::{Parameters, Public, Sensitive, SensitiveCreate},
        signature::Signature,
        structures::{self, PcrSelections, Ticket},
        without_trailing_zeros,
    },
};
