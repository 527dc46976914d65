//! What only a host needs: recorded boots, the formats of other tools, stores in files.

pub mod replay;
