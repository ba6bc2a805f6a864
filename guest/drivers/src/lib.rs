//! Drivers of real VMMs, and what they share.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`qemu`] | QEMU's machine type `microvm`, with any accelerator |
//! | [`initramfs`] | the initial RAM filesystem: the agent and the kernel modules it loads |
//! | [`sealed`] | a baked memory in a file that nobody can write to any more |
//! | [`sparse`] | copies that keep holes, and holes made of zeroes |

pub mod initramfs;
pub mod qemu;
pub mod sealed;
pub mod sparse;

pub use qemu::{Qemu, QemuConfig};

/// Which measures confine a VMM here, for a log line: as root it has a user and namespaces of its own.
pub fn jail_measures() -> &'static str {
    jail::Jail::describe()
}
