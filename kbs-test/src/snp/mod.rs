//! SEV-SNP reports.

pub mod report;

pub use report::{REPORT_SIZE, Report, ReportError};
