//! The files of a publication, and the places in them that may hold something.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::error::StoreError;
use crate::{chunk, scan};

/// One file that is being uploaded.
pub(crate) struct Source {
    pub(crate) name: String,
    path: PathBuf,
    file: File,
    pub(crate) size: u64,
}

/// A chunk of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) source: usize,
    pub(crate) index: u32,
}

impl Source {
    /// The plain bytes of a chunk.
    pub(crate) fn read(&self, index: u32) -> Result<Vec<u8>, StoreError> {
        let mut plain = vec![0; chunk::length(self.size, index)];
        let read = self.file.read_exact_at(&mut plain, chunk::offset(index));
        read.map_err(StoreError::disk(format!("read {}", self.path.display())))?;
        Ok(plain)
    }
}

/// Opens the files and finds the chunks that may hold something, in order.
pub(crate) fn open(files: Vec<(String, PathBuf)>) -> Result<(Vec<Source>, Vec<Spot>), StoreError> {
    let (mut sources, mut spots) = (Vec::new(), Vec::new());
    for (name, path) in files {
        let doing = || StoreError::disk(format!("read {}", path.display()));
        let file = File::open(&path).map_err(doing())?;
        let size = file.metadata().map_err(doing())?.len();
        let source = sources.len();
        let occupied = scan::occupied(&file, size).map_err(doing())?.into_iter();
        spots.extend(occupied.map(|index| Spot { source, index }));
        sources.push(Source {
            name,
            path,
            file,
            size,
        });
    }
    Ok((sources, spots))
}
