//! The bare-metal binary of the loader. On the host it is an empty program.

#![cfg_attr(target_os = "svsm", no_std, no_main)]
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(target_os = "svsm")]
mod boot;
#[cfg(target_os = "svsm")]
mod entry;
#[cfg(target_os = "svsm")]
mod machine;

#[cfg(not(target_os = "svsm"))]
fn main() {}
