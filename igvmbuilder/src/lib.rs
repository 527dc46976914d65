//! Boot images.
