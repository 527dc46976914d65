//! State that survives reboots.
#![forbid(unsafe_code)]
