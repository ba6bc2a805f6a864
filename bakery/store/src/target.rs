//! A snapshot's files while they are being written.
//!
//! There is no record of what was written before an interruption: a chunk's digest says whether it is there, and a torn one
//! does not have it. So nothing counts as written that is not, and a download that continues reads what it has once.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use schemas::Sha256Digest;

use crate::cache::Downloading;
use crate::chunk;
use crate::manifest::{Chunk, MANIFEST_FILE, Manifest};

/// 0444: a fork maps the file privately; nothing may ever write it again.
const READ_ONLY: u32 = 0o444;

/// A chunk and every place where it belongs: a page cache has much of the disk in memory too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) digest: Sha256Digest,
    pub(crate) length: usize,
    pub(crate) places: Vec<Place>,
}

/// A place in a snapshot's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which of the manifest's files.
    pub(crate) file: usize,
    /// Where in it.
    pub(crate) offset: u64,
}

impl Wanted {
    /// The chunks of a snapshot, each once, in the order of their first places.
    pub(crate) fn all(manifest: &Manifest) -> Vec<Self> {
        let mut wanted: Vec<Self> = Vec::new();
        let mut positions = HashMap::new();
        for (file, stored) in manifest.files.iter().enumerate() {
            for chunk in &stored.chunks {
                let place = Place::of(file, chunk);
                let length = chunk::length(stored.size_bytes, chunk.index);
                let position = *positions
                    .entry((chunk.sha256, length))
                    .or_insert(wanted.len());
                match wanted.get_mut(position) {
                    Some(known) => known.places.push(place),
                    None => wanted.push(Self {
                        digest: chunk.sha256,
                        length,
                        places: vec![place],
                    }),
                }
            }
        }
        wanted
    }

    /// The plain bytes of all its places.
    pub(crate) fn bytes(&self) -> u64 {
        self.length as u64 * self.places.len() as u64
    }
}

impl Place {
    fn of(file: usize, chunk: &Chunk) -> Self {
        Self {
            file,
            offset: chunk::offset(chunk.index),
        }
    }
}

/// The files of a snapshot that is being downloaded, and the right to write them.
pub(crate) struct Target {
    downloading: Downloading,
    files: Vec<File>,
    /// Whether another download left something here.
    continued: bool,
}

impl Target {
    /// Opens the files at their lengths, as an interrupted download left them or new.
    pub(crate) fn open(downloading: Downloading, manifest: &Manifest) -> io::Result<Self> {
        let continued = downloading.directory.exists();
        fs::create_dir_all(&downloading.directory)?;
        let open = |name: &str, size| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let path = downloading.directory.join(name);
            // A download that was interrupted at its very end left them read-only.
            if let Ok(metadata) = path.symlink_metadata()
                && metadata.permissions().readonly()
            {
                fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            }
            let file = options.mode(0o600).open(path)?;
            file.set_len(size)?;
            io::Result::Ok(file)
        };
        let files = manifest.files.iter();
        let files = files.map(|file| open(&file.name, file.size_bytes));
        Ok(Self {
            files: files.collect::<io::Result<_>>()?,
            downloading,
            continued,
        })
    }

    /// Where it is.
    pub(crate) fn directory(&self) -> &Path {
        &self.downloading.directory
    }

    /// Whether another download left something here.
    pub(crate) fn continued(&self) -> bool {
        self.continued
    }

    /// Writes a chunk, which was verified, to each of its places.
    pub(crate) fn write(&self, wanted: &Wanted, plain: &[u8]) -> io::Result<()> {
        wanted
            .places
            .iter()
            .try_for_each(|place| self.files[place.file].write_all_at(plain, place.offset))
    }

    /// Whether a chunk is in one of its places already; then it is in all of them afterwards.
    pub(crate) fn complete(&self, wanted: &Wanted) -> io::Result<bool> {
        let mut plain = vec![0; wanted.length];
        for place in &wanted.places {
            self.files[place.file].read_exact_at(&mut plain, place.offset)?;
            // Zeros are no chunk: nothing was written there.
            if !chunk::is_zero(&plain) && Sha256Digest::of(&plain) == wanted.digest {
                let missing = wanted.places.iter().filter(|other| *other != place);
                let mut missing = missing.peekable();
                if missing.peek().is_some() {
                    self.write(wanted, &plain)?;
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Copies a chunk from another file, after verifying it, to each of its places; the kernel shares the blocks where the
    /// filesystem can. `false` if it is not there.
    pub(crate) fn copy(&self, wanted: &Wanted, from: &File, at: u64) -> io::Result<bool> {
        let mut plain = vec![0; wanted.length];
        if from.read_exact_at(&mut plain, at).is_err() || Sha256Digest::of(&plain) != wanted.digest
        {
            return Ok(false);
        }
        for place in &wanted.places {
            let to = &self.files[place.file];
            if !shared(from, at, to, place.offset, wanted.length) {
                to.write_all_at(&plain, place.offset)?;
            }
        }
        Ok(true)
    }

    /// Everything is written: makes the files read-only, writes the manifest, and brings all of it to the disk and not only
    /// to the page cache: the directory's rename must not outlive it.
    pub(crate) fn finish(&self, manifest: &[u8]) -> io::Result<PathBuf> {
        for file in &self.files {
            file.set_permissions(Permissions::from_mode(READ_ONLY))?;
            file.sync_data()?;
        }
        let path = self.directory().join(MANIFEST_FILE);
        // What an interrupted download left.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) | Ok(()) => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(READ_ONLY);
        let mut file = options.open(path)?;
        file.write_all(manifest)?;
        file.sync_data()?;
        Ok(self.directory().to_owned())
    }

    /// The lock of the download.
    pub(crate) fn downloading(&self) -> &Downloading {
        &self.downloading
    }
}

/// Lets the kernel copy a stretch from file to file; `false` if it did not copy all of it.
fn shared(from: &File, at: u64, to: &File, offset: u64, length: usize) -> bool {
    let (Ok(mut at), Ok(mut offset)) = (i64::try_from(at), i64::try_from(offset)) else {
        return false;
    };
    let copied = nix::fcntl::copy_file_range(from, Some(&mut at), to, Some(&mut offset), length);
    copied == Ok(length)
}
