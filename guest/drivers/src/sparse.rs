//! Copies of sparse files. The memory of a 1 GiB guest holds some 200 MB, its 4 GiB disk some 600 MB.
//!
//! What always holds: a copy reads the same as its original, and holes stay holes.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

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
    let length = from.metadata()?.len();
    let length = i64::try_from(length).map_err(io::Error::other)?;
    nix::unistd::ftruncate(to, length)?;
    let mut offset = 0;
    while let Some(start) = seek(from, offset, Whence::SeekData)? {
        let end = seek(from, start, Whence::SeekHole)?.unwrap_or(length);
        copy_extent(from, to, start, end)?;
        offset = end;
    }
    Ok(())
}

/// Where the next data or hole begins; `None` behind the last.
fn seek(file: &File, offset: i64, what: Whence) -> io::Result<Option<i64>> {
    match lseek(file, offset, what) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
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
    use std::os::unix::fs::{FileExt, MetadataExt};

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
    fn a_copy_does_not_write_over_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::write(&from, "new").unwrap();
        std::fs::write(&to, "old").unwrap();
        assert!(copy(&from, &to).is_err());
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "old");
    }
}
