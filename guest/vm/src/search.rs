//! Looks for bytes in the files of a snapshot, which are large and mostly holes.
//!
//! What always holds: what stands across the border of two blocks is found; a hole is not read, for it holds only zeroes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use memchr::memmem::Finder;

use crate::extents::extents;

/// 1 MiB: read and searched at a time.
const BLOCK: usize = 1 << 20;

/// The place in `needles` of one that the file at `path` holds; `None` if it holds none of them. An empty needle is nowhere. Blocks.
pub fn first_found(path: &Path, needles: &[&[u8]]) -> io::Result<Option<usize>> {
    let file = File::open(path)?;
    let mut search = Search::new(needles);
    for extent in extents(&file)? {
        if let Some(found) = search.extent(&file, extent?)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The needles, and what was read last.
struct Search<'a> {
    finders: Vec<Finder<'a>>,
    /// Bytes of a block that are looked at once more with the next: one less than the longest needle has.
    overlap: usize,
    buffer: Vec<u8>,
}

impl<'a> Search<'a> {
    fn new(needles: &[&'a [u8]]) -> Self {
        let longest = needles.iter().map(|needle| needle.len()).max();
        Self {
            finders: needles.iter().map(|needle| Finder::new(*needle)).collect(),
            overlap: longest.unwrap_or(0).saturating_sub(1),
            buffer: Vec::new(),
        }
    }

    /// Searches one extent of data.
    fn extent(&mut self, file: &File, extent: Range<u64>) -> io::Result<Option<usize>> {
        self.buffer.clear();
        let mut offset = extent.start;
        while offset < extent.end {
            let left = usize::try_from(extent.end - offset)
                .unwrap_or(BLOCK)
                .min(BLOCK);
            let kept = self.buffer.len().min(self.overlap);
            self.buffer.drain(..self.buffer.len() - kept);
            self.buffer.resize(kept + left, 0);
            file.read_exact_at(&mut self.buffer[kept..], offset)?;
            if let Some(found) = self.look() {
                return Ok(Some(found));
            }
            offset += left as u64;
        }
        Ok(None)
    }

    fn look(&self) -> Option<usize> {
        self.finders
            .iter()
            .position(|finder| !finder.needle().is_empty() && finder.find(&self.buffer).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDLE: &[u8] = b"canary";

    /// A sparse file of 8 MiB with the needle at `offset`.
    fn found_at(offset: u64) -> Option<usize> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(8 << 20).unwrap();
        file.as_file().write_all_at(&[1; 4096], 3 << 20).unwrap();
        file.as_file().write_all_at(NEEDLE, offset).unwrap();
        first_found(file.path(), &[b"elsewhere", b"", NEEDLE]).unwrap()
    }

    #[test]
    fn a_needle_is_found_wherever_it_stands() {
        let block = BLOCK as u64;
        let end = (8 << 20) - NEEDLE.len() as u64;
        for offset in [0, 5, block - 3, block, 3 * block + 4094, end] {
            assert_eq!(found_at(offset), Some(2), "{offset}");
        }
    }

    #[test]
    fn a_needle_across_the_border_of_two_blocks_of_one_extent_is_found() {
        for before in 1..NEEDLE.len() {
            let mut bytes = vec![7; 2 * BLOCK];
            let at = BLOCK - before;
            bytes[at..at + NEEDLE.len()].copy_from_slice(NEEDLE);
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &bytes).unwrap();
            assert_eq!(first_found(file.path(), &[NEEDLE]).unwrap(), Some(0));
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"canar").unwrap();
        assert_eq!(first_found(file.path(), &[NEEDLE]).unwrap(), None);
        assert_eq!(first_found(file.path(), &[]).unwrap(), None);
    }
}
