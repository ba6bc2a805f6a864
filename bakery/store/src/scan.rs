//! Which chunks of a file may hold something: a guest's memory and disk are mostly holes, and those are not read.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use crate::chunk::{self, CHUNK_BYTES};

/// The indices of the chunks of a file of `size` bytes that are not wholly a hole, ascending.
pub(crate) fn occupied(file: &File, size: u64) -> io::Result<Vec<u32>> {
    let mut indices = Vec::new();
    let mut at = 0;
    while at < size {
        let data = next(file, at, size, Whence::SeekData)?;
        if data == size {
            break;
        }
        let hole = next(file, data, size, Whence::SeekHole)?;
        let first = data / CHUNK_BYTES as u64;
        for index in first..chunk::count(hole) {
            indices.push(u32::try_from(index).map_err(io::Error::other)?);
        }
        at = (chunk::count(hole) * CHUNK_BYTES as u64).max(hole);
    }
    Ok(indices)
}

/// Where the next data or hole begins, at `at` or after it; `size` if there is none. A filesystem that knows no holes
/// gives one stretch of data.
fn next(file: &File, at: u64, size: u64, what: Whence) -> io::Result<u64> {
    let offset = i64::try_from(at).map_err(io::Error::other)?;
    let without_holes = match what {
        Whence::SeekData => at,
        _ => size,
    };
    match lseek(file, offset, what) {
        Ok(found) => Ok(u64::try_from(found).map_or(size, |found| found.min(size))),
        Err(Errno::ENXIO) => Ok(size),
        Err(Errno::EINVAL) => Ok(without_holes),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn scanned(prepare: impl FnOnce(&File)) -> Vec<u32> {
        let file = tempfile::tempfile().unwrap();
        prepare(&file);
        occupied(&file, file.metadata().unwrap().len()).unwrap()
    }

    #[test]
    fn only_what_holds_data_is_read() {
        let found = scanned(|file| {
            file.write_all_at(b"middle", 3 << 20).unwrap();
            file.write_all_at(&vec![1; CHUNK_BYTES], (7 << 20) - 5)
                .unwrap();
            file.set_len((9 << 20) + 5).unwrap();
        });
        assert_eq!(found, [6, 13, 14]);
    }

    #[test]
    fn a_hole_and_an_empty_file_have_nothing_to_read() {
        assert!(scanned(|file| file.set_len(64 << 20).unwrap()).is_empty());
        assert!(scanned(|_| ()).is_empty());
    }

    #[test]
    fn a_small_file_is_one_chunk() {
        assert_eq!(scanned(|file| file.write_all_at(b"state", 0).unwrap()), [0]);
    }
}
