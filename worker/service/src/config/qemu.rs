//! `[qemu]`: how QEMU is run.

use std::path::PathBuf;

use serde::Deserialize;

/// How QEMU is run.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Qemu {
    /// The program.
    pub program: PathBuf,
    /// What executes guest code.
    pub accelerator: Accelerator,
}

/// What executes guest code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// Software emulation, which works everywhere.
    #[default]
    Tcg,
    /// The processor, where its KVM runs stock kernels.
    Kvm,
}

impl Accelerator {
    /// QEMU's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        }
    }
}

impl Default for Qemu {
    fn default() -> Self {
        Self {
            program: "qemu-system-x86_64".into(),
            accelerator: Accelerator::default(),
        }
    }
}
