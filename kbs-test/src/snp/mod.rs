//! SEV-SNP: reports, the certificates behind them, and whether the ones lead to the others.

pub mod cert_table;
pub mod certificate;
pub mod chain;
pub mod report;
pub mod test_root;
pub mod trustee;

pub use cert_table::{CertTable, TableError};
pub use chain::{ChainError, Roots};
pub use report::{REPORT_SIZE, Report, ReportError};
