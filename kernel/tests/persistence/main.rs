//! Persistence from a block device up to files: which device is opened, what a volume
//! promises, what a failing device does to it, and that images are interchangeable
//! with the published command-line tool.
#![cfg(feature = "cocoonfs")]

mod cli;
mod faults;
mod files;
mod freshness;
mod opening;
mod support;
