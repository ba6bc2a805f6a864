//! A slot: the private directory of one running VM.
//!
//! What always holds: nothing else uses the directory, and it goes with its owner.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::driver::VmError;

/// The private directory of one VM; removed, with all in it, when dropped.
#[derive(Debug)]
pub struct Slot {
    dir: tempfile::TempDir,
}

impl Slot {
    /// Makes a fresh directory below `base`, which is made if absent.
    pub fn create(base: &Path) -> Result<Self, VmError> {
        std::fs::create_dir_all(base).map_err(VmError::io("create", base))?;
        let dir = tempfile::Builder::new()
            .prefix("vm-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(base)
            .map_err(VmError::io("create a slot in", base))?;
        Ok(Self { dir })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path inside it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}
