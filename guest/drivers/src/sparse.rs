//! Sparse files: copies that keep holes, and holes made of zeroes. The memory of a 1 GiB guest holds some 200 MB, its 4 GiB disk some 600 MB.
//!
//! What always holds: a copy reads the same as its original, and holes stay holes.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
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

/// 64 KiB: looked at as one. A hole smaller than that saves nothing that counts and costs an extent of its file.
const BLOCK: usize = 64 * 1024;

/// What a block is compared with.
static ZEROES: [u8; BLOCK] = [0; BLOCK];

/// Makes holes of the blocks of `path` that are zero; gives the number of bytes. The file reads the same.
pub fn dig(path: &Path) -> io::Result<u64> {
    let file = File::options().read(true).write(true).open(path)?;
    let length = i64::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut block = vec![0; BLOCK];
    let (mut dug, mut offset) = (0, 0);
    while let Some(start) = seek(&file, offset, Whence::SeekData)? {
        let end = seek(&file, start, Whence::SeekHole)?.unwrap_or(length);
        dug += dig_extent(&file, start, end, &mut block)?;
        offset = end;
    }
    Ok(dug)
}

/// Makes holes in one extent of data: one for each run of zero blocks.
fn dig_extent(file: &File, start: i64, end: i64, block: &mut [u8]) -> io::Result<u64> {
    let (mut dug, mut at, mut zero_since) = (0, start, None);
    while at < end {
        let size = usize::try_from(end - at).map_or(block.len(), |left| left.min(block.len()));
        let bytes = &mut block[..size];
        file.read_exact_at(bytes, at.cast_unsigned())?;
        match (*bytes == ZEROES[..size], zero_since) {
            (true, None) => zero_since = Some(at),
            (false, Some(since)) => {
                dug += punch(file, since, at)?;
                zero_since = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
        at += i64::try_from(size).expect("a block is small");
    }
    match zero_since {
        Some(since) => Ok(dug + punch(file, since, end)?),
        None => Ok(dug),
    }
}

fn punch(file: &File, from: i64, to: i64) -> io::Result<u64> {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(file, flags, from, to - from)?;
    Ok((to - from).cast_unsigned())
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
    fn a_copy_does_not_write_over_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::write(&from, "new").unwrap();
        std::fs::write(&to, "old").unwrap();
        assert!(copy(&from, &to).is_err());
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "old");
    }
}
