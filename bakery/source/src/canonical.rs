//! The canonical archive of a commit: one commit gives the same bytes, whoever packs it, and the same as `sourdough submit` packs of it.
//!
//! A tar in GNU's format, compressed with zstd. Entries are sorted by the bytes of their paths; owner and group are 0; the time of each is
//! that of the commit; modes are 0644, 0755, and 0777 for symbolic links, which are kept. Directories have an entry only where nothing
//! lies in them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use schemas::{Sha256Digest, TreePath};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::tree::{Extent, Item, ItemKind, Tree};

/// zstd's own default: a stronger one takes longer than it saves on a local network.
const LEVEL: i32 = 3;

/// Longest target that fits into a tar header as it is.
const MAX_PLAIN_TARGET: usize = 100;

/// The name by which GNU's tar knows an entry that says more about the next one.
const LONG_LINK: &[u8] = b"././@LongLink";

/// Writes the archive of `tree`, whose files are in `spool`, into an unnamed file in the directory `into`; returns its digest as well.
pub(crate) fn write(tree: &Tree, spool: &File, into: &Path) -> io::Result<(File, Sha256Digest)> {
    let sink = Hashing {
        inner: BufWriter::new(tempfile::tempfile_in(into)?),
        hasher: Sha256::new(),
    };
    let mut archive = Builder::new(zstd::Encoder::new(sink, LEVEL)?);
    let filled: HashSet<_> = tree.items().keys().filter_map(TreePath::parent).collect();
    for (path, item) in tree.items() {
        append(&mut archive, path, item, spool, filled.contains(path))?;
    }
    let sink = archive.into_inner()?.finish()?;
    let file = sink
        .inner
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    Ok((
        file,
        Sha256Digest::from_bytes(sink.hasher.finalize().into()),
    ))
}

fn append<W: Write>(
    archive: &mut Builder<W>,
    path: &TreePath,
    item: &Item,
    spool: &File,
    filled: bool,
) -> io::Result<()> {
    let mut header = header(item);
    match &item.kind {
        ItemKind::Directory | ItemKind::Implied if filled => Ok(()),
        ItemKind::Directory | ItemKind::Implied => {
            header.set_entry_type(EntryType::Directory);
            archive.append_data(&mut header, format!("{path}/"), io::empty())
        }
        ItemKind::File(extent) => {
            header.set_size(extent.size);
            archive.append_data(&mut header, path.as_str(), Bytes::of(spool, *extent))
        }
        ItemKind::Symlink { target } => {
            header.set_entry_type(EntryType::Symlink);
            append_link(archive, &mut header, path, target)
        }
    }
}

fn append_link<W: Write>(
    archive: &mut Builder<W>,
    header: &mut Header,
    path: &TreePath,
    target: &str,
) -> io::Result<()> {
    // Byte for byte: `append_link` would tidy `./a//b`.
    if target.len() > MAX_PLAIN_TARGET {
        append_long_target(archive, target)?;
    }
    let fitting = &target.as_bytes()[..target.len().min(MAX_PLAIN_TARGET)];
    header.set_link_name_literal(fitting)?;
    archive.append_data(header, path.as_str(), io::empty())
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

/// The header of a file of no bytes.
fn header(item: &Item) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(item.mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(item.mtime.cast_unsigned());
    header.set_size(0);
    header
}

/// The bytes of one file of the spool.
struct Bytes<'a> {
    spool: &'a File,
    at: u64,
    end: u64,
}

impl<'a> Bytes<'a> {
    fn of(spool: &'a File, extent: Extent) -> Self {
        Self {
            spool,
            at: extent.offset,
            end: extent.offset + extent.size,
        }
    }
}

impl Read for Bytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let room = buffer.len().min(left);
        let count = self.spool.read_at(&mut buffer[..room], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// A file whose bytes are hashed as they are written.
struct Hashing {
    inner: BufWriter<File>,
    hasher: Sha256,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests;
