//! Sparse files: copies that keep holes, and holes made of zeroes. The memory of a 1 GiB guest holds some 200 MB, its 4 GiB disk some 600 MB.
//!
//! What always holds: a copy reads the same as its original, and holes stay holes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Whence, lseek};
use tracing::warn;
use vm::extents::extents;

/// `FICLONE` of linux/fs.h: `_IOW(0x94, 9, int)`.
const FICLONE: libc::Ioctl = 0x4004_9409;

/// Copies `from` to the new file `to`: shares the blocks where the filesystem can (XFS, btrfs), else copies the data and
/// leaves the holes.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let from = File::open(from)?;
    let to = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(to)?;
    // SAFETY: the request takes a descriptor as its argument and touches no memory of ours.
    #[expect(unsafe_code, reason = "FICLONE has no wrapper")]
    let cloned = unsafe { libc::ioctl(to.as_raw_fd(), FICLONE, from.as_raw_fd()) };
    if cloned == 0 {
        Ok(())
    } else {
        copy_data(&from, to.as_fd())
    }
}

/// Gives `to` the length and the data of `from`; where `from` has holes, `to` is left as it is.
pub fn copy_data(from: &File, to: BorrowedFd<'_>) -> io::Result<()> {
    nix::unistd::ftruncate(to, place(from.metadata()?.len())?)?;
    for extent in extents(from)? {
        let extent = extent?;
        copy_extent(from, to, place(extent.start)?, place(extent.end)?)?;
    }
    Ok(())
}

/// 64 KiB: looked at as one. A hole smaller than that saves nothing that counts and costs an extent of its file.
const BLOCK: usize = 64 * 1024;

/// What a block is compared with.
static ZEROES: [u8; BLOCK] = [0; BLOCK];

/// Makes holes of the blocks of `path` that are zero; gives the number of bytes. The file reads the same. On a filesystem that makes no
/// holes it stays as it is: what is stored of it is no larger for that.
pub fn dig(path: &Path) -> io::Result<u64> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut block = vec![0; BLOCK];
    let mut dug = 0;
    for extent in extents(&file)? {
        match dig_extent(&file, extent?, &mut block) {
            Ok(bytes) => dug += bytes,
            Err(error) if makes_no_holes(&error) => {
                warn!(path = %path.display(), %error, "this filesystem makes no holes");
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(dug)
}

/// Whether that is the answer of a filesystem that cannot make holes at all.
fn makes_no_holes(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32)
}

/// Makes holes in one extent of data: one for each run of zero blocks.
fn dig_extent(file: &File, extent: Range<u64>, block: &mut [u8]) -> io::Result<u64> {
    let (mut dug, mut at, mut zero_since) = (0, extent.start, None);
    while at < extent.end {
        let left = extent.end - at;
        let size = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
        let bytes = &mut block[..size];
        file.read_exact_at(bytes, at)?;
        match (*bytes == ZEROES[..size], zero_since) {
            (true, None) => zero_since = Some(at),
            (false, Some(since)) => {
                dug += punch(file, since, at)?;
                zero_since = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
        at += size as u64;
    }
    match zero_since {
        Some(since) => Ok(dug + punch(file, since, extent.end)?),
        None => Ok(dug),
    }
}

fn punch(file: &File, from: u64, to: u64) -> io::Result<u64> {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(file, flags, place(from)?, place(to - from)?)?;
    Ok(to - from)
}

/// A place in a file as the system calls want it.
fn place(offset: u64) -> io::Result<i64> {
    i64::try_from(offset).map_err(io::Error::other)
}

/// `sendfile` copies inside the kernel, also between filesystems and into a memfd.
fn copy_extent(from: &File, to: BorrowedFd<'_>, start: i64, end: i64) -> io::Result<()> {
    lseek(to, start, Whence::SeekSet)?;
    let mut offset = start;
    while offset < end {
        let left = usize::try_from(end - offset).map_err(io::Error::other)?;
        if nix::sys::sendfile::sendfile(to, from, Some(&mut offset), left)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_copy_reads_the_same_and_keeps_its_holes() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let file = File::create(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"start", 0).unwrap();
        file.write_all_at(&vec![7; 100_000], 10 << 20).unwrap();
        copy(&from, &to).unwrap();
        assert!(std::fs::read(&from).unwrap() == std::fs::read(&to).unwrap());
        let blocks = std::fs::metadata(&to).unwrap().blocks();
        assert!(blocks * 512 < 1 << 20, "{blocks} blocks for 100 kB of data");
    }

    #[test]
    fn zeroes_become_holes_and_the_file_reads_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory");
        let mut bytes = vec![0; 8 << 20];
        bytes[3 << 20] = 1;
        bytes.extend(b"the last block is no whole one\0\0");
        std::fs::write(&path, &bytes).unwrap();
        let dug = dig(&path).unwrap();
        assert_eq!(dug, (8 << 20) - BLOCK as u64);
        assert!(std::fs::read(&path).unwrap() == bytes);
        let blocks = std::fs::metadata(&path).unwrap().blocks();
        assert!(blocks * 512 < 1 << 20, "{blocks} blocks");
        assert_eq!(dig(&path).unwrap(), 0, "what is a hole is one already");
    }

    #[test]
    fn only_a_filesystem_that_makes_no_holes_is_let_off() {
        let error = |errno: Errno| io::Error::from(errno);
        assert!(makes_no_holes(&error(Errno::EOPNOTSUPP)));
        assert!(!makes_no_holes(&error(Errno::ENOSPC)));
        assert!(!makes_no_holes(&io::ErrorKind::UnexpectedEof.into()));
    }

    #[test]
    fn a_copy_does_not_write_over_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::write(&from, "new").unwrap();
        std::fs::write(&to, "old").unwrap();
        assert!(copy(&from, &to).is_err());
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "old");
    }
}
