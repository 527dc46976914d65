//! The bare-metal binary.
#![cfg_attr(target_os = "svsm", no_std, no_main)]
use svsm as _;
#[cfg(not(target_os = "svsm"))]
fn main() {}
