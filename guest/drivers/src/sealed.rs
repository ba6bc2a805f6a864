//! A baked memory that nobody can write to.
//!
//! QEMU before 8.2 opens a guest's memory file for writing even when it maps it privately, so a file on disk would have to
//! be writable for the VMM, and an escaped VMM could rewrite the memory of every later fork. A sealed memfd cannot be
//! written by anybody, whatever its mode says.
//!
//! What always holds: what a fork maps has every seal on it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::sparse;

/// Sealed memories that are kept although no VM is being started from them: one environment being built by many jobs, and
/// the next. Each takes as much host memory as its guest had in use (about 200 MB for Debian with Node.js).
const KEPT: usize = 2;

/// Copies the file into a memfd and seals it.
pub fn seal(path: &Path) -> io::Result<OwnedFd> {
    let memory = memfd_create(
        c"sourdough-memory",
        MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
    )?;
    sparse::copy_data(&File::open(path)?, memory.as_fd())?;
    fcntl(&memory, FcntlArg::F_ADD_SEALS(seals()))?;
    Ok(memory)
}

fn seals() -> SealFlag {
    SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL
}

/// The sealed memories of the snapshots used last.
#[derive(Debug, Default)]
pub struct SealedMemories {
    memories: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    by_path: HashMap<PathBuf, Arc<tokio::sync::OnceCell<Arc<OwnedFd>>>>,
    /// Least recently used first.
    order: Vec<PathBuf>,
}

impl Recent {
    /// A bake is forked where it lies until it is published, and never there again.
    fn forget_what_is_gone(&mut self) {
        self.order.retain(|path| path.exists());
        self.by_path.retain(|path, _| self.order.contains(path));
    }
}

impl SealedMemories {
    /// The sealed memory of the snapshot file at `path`; copied the first time, once however many ask.
    pub async fn get(&self, path: &Path) -> io::Result<Arc<OwnedFd>> {
        let cell = self.cell(path);
        let load = || async {
            let path = path.to_owned();
            let sealed = tokio::task::spawn_blocking(move || seal(&path)).await;
            Ok(Arc::new(sealed.map_err(io::Error::other)??))
        };
        cell.get_or_try_init(load).await.cloned()
    }

    fn cell(&self, path: &Path) -> Arc<tokio::sync::OnceCell<Arc<OwnedFd>>> {
        let mut recent = self.memories.lock().expect("no holder panics");
        recent.forget_what_is_gone();
        recent.order.retain(|known| known != path);
        recent.order.push(path.to_owned());
        if recent.order.len() > KEPT {
            let oldest = recent.order.remove(0);
            recent.by_path.remove(&oldest);
        }
        Arc::clone(recent.by_path.entry(path.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_sealed_memory_cannot_be_changed_by_anybody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory");
        std::fs::write(&path, "baked").unwrap();
        let sealed = seal(&path).unwrap();
        let again = format!("/proc/self/fd/{}", sealed.as_raw_fd());
        assert_eq!(std::fs::read_to_string(&again).unwrap(), "baked");
        // Opening it for writing is what QEMU does; writing is what nobody can.
        let writable = File::options().write(true).open(&again).unwrap();
        let written = std::os::unix::fs::FileExt::write_at(&writable, b"X", 0);
        assert_eq!(written.unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(
            writable.set_len(0).unwrap_err().raw_os_error(),
            Some(libc::EPERM)
        );
    }

    #[tokio::test]
    async fn a_memory_is_copied_once_and_the_oldest_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..=KEPT)
            .map(|n| folder.path().join(n.to_string()))
            .collect();
        for path in &paths {
            std::fs::write(path, "x").unwrap();
        }
        let memories = SealedMemories::default();
        let first = memories.get(&paths[0]).await.unwrap();
        assert!(Arc::ptr_eq(&first, &memories.get(&paths[0]).await.unwrap()));
        for path in &paths[1..] {
            memories.get(path).await.unwrap();
        }
        assert!(!Arc::ptr_eq(
            &first,
            &memories.get(&paths[0]).await.unwrap()
        ));
    }
}
