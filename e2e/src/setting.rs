//! A machine whose services keep their state: servers, a state image, boots.

use std::path::PathBuf;

use anyhow::Result;

use crate::guest::Guest;
use crate::link::Serving;
use crate::servers::Servers;
use crate::{KEY, image};

/// The vTPM has the state that an earlier boot, or a tool, left.
pub const LOADED: &str = "[SVSM] vTPM: loaded existing state from the volume";

/// The vTPM is new.
pub const MANUFACTURED: &str = "[SVSM] vTPM: manufactured new state, the volume had none";

/// The servers, and a state image.
pub struct Setting {
    /// What the guest talks to.
    pub servers: Servers,
    /// The image.
    pub state: PathBuf,
}

impl Setting {
    /// With an image that the first boot formats.
    pub fn new() -> Result<Self> {
        let setting = Self::without_image()?;
        image::creation_header(&setting.state)?;
        Ok(setting)
    }

    /// With an image that has a TPM on it already, made on the host: nothing has to wait
    /// for an endorsement key to be found under emulation.
    pub fn with_tpm() -> Result<Self> {
        let setting = Self::without_image()?;
        let tpm = setting.servers.path("tpm");
        image::make_tpm(&tpm)?;
        image::formatted(&setting.state, KEY)?;
        image::import_tpm(&setting.state, KEY, &tpm)?;
        Ok(setting)
    }

    /// Without an image yet.
    pub fn without_image() -> Result<Self> {
        let servers = Servers::start()?;
        let state = servers.path("state.img");
        Ok(Self { servers, state })
    }

    /// A guest with the image.
    pub fn guest(&self) -> Guest {
        self.servers.guest().image(&self.state)
    }

    /// Boots it, until it serves.
    pub fn boot(&self) -> Result<Serving> {
        Serving::start(self.guest(), self.servers.path("").as_path())
    }
}
