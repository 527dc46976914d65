//! Faults on purpose: the server ends at a point that a test chooses.

/// Where the server ends, as if it had been killed there. For tests only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// A release is stored (a priming is used up), the secret is not sent.
    AfterRelease,
    /// A report is checked but not stored.
    BeforeStore,
    /// A report is stored but not acknowledged.
    AfterStore,
}

/// Exit status of a server that ended by a fault.
pub const STATUS: i32 = 86;

/// Ends the process at once, without closing anything, if `chosen` is `here`.
pub(crate) fn point(chosen: Option<Fault>, here: Fault) {
    if chosen == Some(here) {
        eprintln!("kbs-test: test fault {here:?}: ending here");
        std::process::exit(STATUS);
    }
}
