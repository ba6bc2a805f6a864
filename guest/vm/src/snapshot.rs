//! A snapshot as files: one directory with fixed names.
//!
//! ```text
//! memory        the guest's RAM, byte for byte; holes where it is zero
//! state         devices and processor, in the VMM's own format
//! disk          the root disk, raw; holes where it is zero
//! machine.json  what the snapshot is bound to (Machine and HostProfile)
//! ```
//!
//! What always holds: the files never change once they are there; forks only read them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::driver::{HostProfile, VmError};

/// Size of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Virtual processors.
    pub vcpu: u32,
    /// Memory.
    pub memory_mib: u32,
}

/// What `machine.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct Binding {
    machine: Machine,
    profile: HostProfile,
}

/// The files of one snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotFiles {
    dir: PathBuf,
    machine: Machine,
    profile: HostProfile,
}

impl SnapshotFiles {
    /// Takes a directory whose `memory`, `state` and `disk` are there, and writes `machine.json` beside them.
    pub fn create(dir: &Path, machine: Machine, profile: &HostProfile) -> Result<Self, VmError> {
        let binding = Binding {
            machine,
            profile: profile.clone(),
        };
        let path = dir.join("machine.json");
        let json = serde_json::to_vec_pretty(&binding).expect("two plain structs are JSON");
        std::fs::write(&path, json).map_err(VmError::io("write", &path))?;
        Self::open(dir)
    }

    /// Opens a directory that [`SnapshotFiles::create`] made, here or on another machine.
    pub fn open(dir: &Path) -> Result<Self, VmError> {
        let path = dir.join("machine.json");
        let json = std::fs::read(&path).map_err(VmError::io("read", &path))?;
        let problem = |problem: String| VmError::Snapshot {
            dir: dir.to_owned(),
            problem,
        };
        let binding: Binding = serde_json::from_slice(&json)
            .map_err(|error| problem(format!("machine.json: {error}")))?;
        let files = Self {
            dir: dir.to_owned(),
            machine: binding.machine,
            profile: binding.profile,
        };
        for path in [files.memory(), files.state(), files.disk()] {
            std::fs::metadata(&path).map_err(VmError::io("find", &path))?;
        }
        Ok(files)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The guest's RAM.
    pub fn memory(&self) -> PathBuf {
        self.dir.join("memory")
    }

    /// Devices and processor.
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The root disk.
    pub fn disk(&self) -> PathBuf {
        self.dir.join("disk")
    }

    /// Size of its machine.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// Refuses a snapshot that was made by another VMM, accelerator or CPU than `profile`, in words.
    pub fn check(&self, profile: &HostProfile) -> Result<(), VmError> {
        if self.profile == *profile {
            return Ok(());
        }
        let problem = format!("it was made by {}, this host has {profile}", self.profile);
        Err(VmError::Snapshot {
            dir: self.dir.clone(),
            problem,
        })
    }
}
