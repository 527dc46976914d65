//! SVSM calls from the host, on the native platform: frames on COM4 into the same handlers
//! that a guest's calls reach.
//!
//! Whoever sends the frames is no more trusted than a guest, and no less: the region in a
//! frame is all the memory a call can touch, and nothing of the SVSM can be named. The
//! frames' form is checked by the crate `guestlink`, what a call may do by
//! [`crate::protocols`].
#![forbid(unsafe_code)]

mod memory;
mod server;

pub use server::{LinkError, Server, Summary};
