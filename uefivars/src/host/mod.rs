//! What only a host needs: recorded boots, and the formats of other tools.

pub mod fd;
pub mod json;
pub mod replay;
