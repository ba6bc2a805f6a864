//! Where a sparse file holds data.
//!
//! What always holds: what lies outside of the extents reads as zeroes; extents come in order and do not touch. A filesystem that
//! knows no holes gives one extent, the whole file.

use std::fs::File;
use std::io;
use std::ops::Range;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

/// The extents of data of a file, as long as it is now. They are looked for one by one: whoever makes holes in one that was given changes
/// none that comes.
///
/// # Errors
/// Its length cannot be read. As an item: a place cannot be looked for, and then the places behind it are not looked for either.
pub fn extents(file: &File) -> io::Result<Extents<'_>> {
    Ok(Extents {
        file,
        offset: 0,
        length: file.metadata()?.len(),
    })
}

/// See [`extents`].
#[derive(Debug)]
pub struct Extents<'f> {
    file: &'f File,
    /// Everything before is given.
    offset: u64,
    length: u64,
}

impl Iterator for Extents<'_> {
    type Item = io::Result<Range<u64>>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.following();
        self.offset = match &next {
            Ok(extent) => extent.end,
            Err(_) => self.length,
        };
        next.map(|extent| (!extent.is_empty()).then_some(extent))
            .transpose()
    }
}

impl Extents<'_> {
    /// The next; an empty one behind the last.
    fn following(&self) -> io::Result<Range<u64>> {
        let (offset, length) = (self.offset, self.length);
        if offset == length {
            return Ok(length..length);
        }
        let start = place(seek(self.file, offset, Whence::SeekData)?, offset, length)?;
        if start == length {
            return Ok(length..length);
        }
        let end = place(seek(self.file, start, Whence::SeekHole)?, length, length)?;
        Ok(start..end)
    }
}

/// What the system answers.
fn seek(file: &File, offset: u64, what: Whence) -> io::Result<nix::Result<i64>> {
    let offset = i64::try_from(offset).map_err(io::Error::other)?;
    Ok(lseek(file, offset, what))
}

/// The place in an answer: the file's end where there is none, `without_holes` from a filesystem that knows no holes.
fn place(answer: nix::Result<i64>, without_holes: u64, length: u64) -> io::Result<u64> {
    match answer {
        // A file that has grown since is as long as it was.
        Ok(found) => Ok(found.cast_unsigned().min(length)),
        Err(Errno::ENXIO) => Ok(length),
        Err(Errno::EINVAL) => Ok(without_holes),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn found(prepare: impl FnOnce(&File)) -> Vec<Range<u64>> {
        let file = tempfile::tempfile().unwrap();
        prepare(&file);
        extents(&file).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn data_is_found_between_holes() {
        let extents = found(|file| {
            file.write_all_at(&[1; 4096], 1 << 20).unwrap();
            file.write_all_at(&[1; 4096], 3 << 20).unwrap();
            file.set_len(8 << 20).unwrap();
        });
        let starts: Vec<u64> = extents.iter().map(|extent| extent.start).collect();
        assert_eq!(starts, [1 << 20, 3 << 20]);
        for extent in extents {
            assert!(extent.end - extent.start < 1 << 20, "{extent:?}");
        }
    }

    #[test]
    fn a_hole_and_an_empty_file_hold_nothing() {
        assert!(found(|file| file.set_len(64 << 20).unwrap()).is_empty());
        assert!(found(|_| ()).is_empty());
    }

    #[test]
    fn data_up_to_the_end_of_the_file_ends_there() {
        let extents = found(|file| file.write_all_at(b"short", 0).unwrap());
        assert_eq!(extents, vec![Range { start: 0, end: 5 }]);
    }

    #[test]
    fn a_filesystem_that_knows_no_holes_gives_the_whole_file() {
        let answer = Err(Errno::EINVAL);
        assert_eq!(place(answer, 0, 9).unwrap(), 0, "where data begins");
        assert_eq!(place(answer, 9, 9).unwrap(), 9, "where data ends");
    }

    #[test]
    fn other_trouble_is_reported() {
        assert!(place(Err(Errno::EIO), 0, 9).is_err());
    }
}
