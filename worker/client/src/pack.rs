//! The canonical archive of a tree: one tree and one commit time give the same bytes, whoever packs them.
//!
//! A tar in GNU's format, compressed with zstd. Files are sorted by the bytes of their paths; owner and group are 0; the time of each is
//! that of the commit; modes are 0644, 0755, and 0777 for symbolic links, which are kept. There are no entries for directories.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write};

use schemas::Sha256Digest;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use crate::git::{Blobs, Entry, EntryKind, GitError, Head};

/// zstd's own default: a stronger one takes longer than it saves on a local network.
const LEVEL: i32 = 3;

/// Longest target that fits into a tar header as it is.
const MAX_PLAIN_TARGET: usize = 100;

/// The name by which GNU's tar knows an entry that says more about the next one.
const LONG_LINK: &[u8] = b"././@LongLink";

/// A packed tree, in a file without a name that vanishes with it.
#[derive(Debug)]
pub(crate) struct Packed {
    /// The archive, to be read from its start.
    pub(crate) file: File,
    /// Its digest.
    pub(crate) digest: Sha256Digest,
    /// Its size.
    pub(crate) size_bytes: u64,
}

/// Why a tree cannot be packed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// It cannot be read.
    #[error(transparent)]
    Git(#[from] GitError),
    /// It cannot be written.
    #[error("write the archive")]
    Write(#[from] io::Error),
    /// There is nothing in it.
    #[error("the tree of HEAD is empty")]
    Empty,
}

/// Packs the tree of `head`.
pub(crate) fn pack(head: &Head) -> Result<Packed, PackError> {
    let entries = head.entries()?;
    if entries.is_empty() {
        return Err(PackError::Empty);
    }
    let sink = Hashing {
        inner: BufWriter::new(tempfile::tempfile()?),
        hasher: Sha256::new(),
        size_bytes: 0,
    };
    let mut archive = Builder::new(zstd::Encoder::new(sink, LEVEL)?);
    let mut blobs = head.blobs()?;
    for entry in &entries {
        append(&mut archive, &mut blobs, entry, head.time)?;
    }
    let sink = archive.into_inner()?.finish()?;
    sink.packed()
}

fn append<W: Write>(
    archive: &mut Builder<W>,
    blobs: &mut Blobs,
    entry: &Entry,
    time: u64,
) -> Result<(), PackError> {
    blobs.read(&entry.id, |size, bytes| {
        let mut header = header(entry.kind, time);
        if entry.kind == EntryKind::Symlink {
            let mut target = String::new();
            bytes.read_to_string(&mut target)?;
            return append_link(archive, &mut header, entry, &target).map_err(PackError::Write);
        }
        header.set_size(size);
        archive.append_data(&mut header, entry.path.as_str(), bytes)?;
        Ok(())
    })
}

fn append_link<W: Write>(
    archive: &mut Builder<W>,
    header: &mut Header,
    entry: &Entry,
    target: &str,
) -> io::Result<()> {
    // Byte for byte: `append_link` would tidy `./a//b`.
    if target.len() > MAX_PLAIN_TARGET {
        append_long_target(archive, target)?;
    }
    let fitting = &target.as_bytes()[..target.len().min(MAX_PLAIN_TARGET)];
    header.set_link_name_literal(fitting)?;
    archive.append_data(header, entry.path.as_str(), io::empty())
}

/// The entry that gives the next one its target: the target's bytes and a zero.
fn append_long_target<W: Write>(archive: &mut Builder<W>, target: &str) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..LONG_LINK.len()].copy_from_slice(LONG_LINK);
    header.set_entry_type(EntryType::GNULongLink);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(target.len() as u64 + 1);
    header.set_cksum();
    archive.append(&header, target.as_bytes().chain(&[0_u8][..]))
}

fn header(kind: EntryKind, time: u64) -> Header {
    let mut header = Header::new_gnu();
    let (entry_type, mode) = match kind {
        EntryKind::File => (EntryType::Regular, 0o644),
        EntryKind::Executable => (EntryType::Regular, 0o755),
        EntryKind::Symlink => (EntryType::Symlink, 0o777),
    };
    header.set_entry_type(entry_type);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(time);
    header.set_size(0);
    header
}

/// A file whose bytes are hashed and counted as they are written.
struct Hashing {
    inner: BufWriter<File>,
    hasher: Sha256,
    size_bytes: u64,
}

impl Hashing {
    fn packed(self) -> Result<Packed, PackError> {
        let mut file = self
            .inner
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        let digest = Sha256Digest::from_bytes(self.hasher.finalize().into());
        Ok(Packed {
            file,
            digest,
            size_bytes: self.size_bytes,
        })
    }
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
pub(crate) mod tests;
