//! The initial RAM filesystem: the agent as `/init`, and the kernel modules that it loads in the order of their names.
//!
//! What always holds: the same agent and kernel give the same bytes (no times, no owners), so its digest can be in a key.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The modules of Debian's cloud kernel that a guest needs, in load order; everything else it needs is built in. Others
/// that a kernel has built in are simply not found as files.
const MODULES: [&str; 7] = [
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_mmio.ko",
    "drivers/char/virtio_console.ko",
    "drivers/block/virtio_blk.ko",
    "fs/jbd2/jbd2.ko",
    "fs/ext4/ext4.ko",
];

/// Writes the archive to `to`. `modules` is a kernel's module folder, `lib/modules/VERSION`.
pub fn write(agent: &Path, modules: &Path, to: &Path) -> io::Result<()> {
    let mut out = io::BufWriter::new(File::create(to)?);
    let mut inode = 0;
    let mut entry = |name: &str, mode: u32, bytes: &[u8]| -> io::Result<()> {
        inode += 1;
        let header = cpio::newc::Builder::new(name).ino(inode).mode(mode);
        let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let mut file = header.write(&mut out, size);
        file.write_all(bytes)?;
        file.finish().map(drop)
    };
    for directory in ["dev", "proc", "sys", "modules", "newroot"] {
        entry(directory, 0o040_755, &[])?;
    }
    entry("init", 0o100_755, &std::fs::read(agent)?)?;
    for (number, path) in present(modules).iter().enumerate() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        entry(
            &format!("modules/{number:02}-{name}"),
            0o100_644,
            &std::fs::read(path)?,
        )?;
    }
    cpio::newc::trailer(&mut out)?;
    out.flush()
}

fn present(modules: &Path) -> Vec<PathBuf> {
    let paths = MODULES
        .iter()
        .map(|module| modules.join("kernel").join(module));
    paths.filter(|path| path.is_file()).collect()
}
