//! The one reader of source archives: a `.tar.zst`, read once from front to back as a bounded stream.
//!
//! ```text
//! archive = { extension* entry } end      extension: pax header (x, g), GNU long name (L), GNU long link (K)
//! ```
//!
//! The `tar` crate gives raw headers; which extensions count, and for how many bytes, is decided here, since a length
//! that a stranger wrote must not become an allocation. Everything that two readers could understand differently is
//! refused. No entry is written to a path of the host: contents stay in the spool, found again by offset.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use schemas::TreePath;
use tar::{Entry, EntryType};

use crate::error::{Refusal, SourceError};
use crate::limits::Limits;
use crate::pax::Pax;
use crate::stream::{Spooling, Trouble};
use crate::tree::{Extent, Item, ItemKind, Tree};

/// 64 KiB: a pax header with a path and a target of 4 KiB each, and room for extended attributes that are ignored.
const MAX_PAX_BYTES: u64 = 64 * 1024;

/// Setuid, setgid and sticky bits do not reach a build.
const PERMISSIONS: u32 = 0o777;

/// 200: characters of a refused path that its error repeats.
const SHOWN: usize = 200;

/// Reads all of `archive`, writes its decompressed bytes to `spool`, and returns what it describes.
pub(crate) fn inspect(
    mut archive: &File,
    spool: &File,
    limits: &Limits,
) -> Result<Tree, SourceError> {
    let archive_bytes = archive.seek(SeekFrom::End(0)).map_err(SourceError::Spool)?;
    archive.rewind().map_err(SourceError::Spool)?;
    let trouble = Trouble::default();
    let stream = Spooling::new(archive, archive_bytes, spool, limits, &trouble)
        .map_err(|error| trouble.explain(error))?;
    let mut tar = tar::Archive::new(stream);
    let tree = read_entries(&mut tar, limits, &trouble)?;
    tar.into_inner().finish()?;
    Ok(tree)
}

fn read_entries<R: Read>(
    tar: &mut tar::Archive<R>,
    limits: &Limits,
    trouble: &Trouble,
) -> Result<Tree, SourceError> {
    let mut tree = Tree::new(limits);
    let mut extensions = Extensions::default();
    let entries = tar.entries().map_err(|error| trouble.explain(error))?;
    for entry in entries.raw(true) {
        let mut entry = entry.map_err(|error| trouble.explain(error))?;
        if extensions.absorb(&mut entry, limits, trouble)? {
            continue;
        }
        let described = std::mem::take(&mut extensions).describe(&entry, limits)?;
        if let Some((path, item)) = described {
            tree.insert(path, item)?;
        }
    }
    if extensions == Extensions::default() {
        Ok(tree)
    } else {
        Err(Refusal::StrayHeader.into())
    }
}

/// What extension headers said of the entry that comes next.
#[derive(Debug, Default, PartialEq, Eq)]
struct Extensions {
    pax: Option<Pax>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Extensions {
    /// Takes `entry` if it is an extension header; `false` if it is a real one.
    fn absorb<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        limits: &Limits,
        trouble: &Trouble,
    ) -> Result<bool, SourceError> {
        match entry.header().entry_type() {
            EntryType::XHeader => {
                let body = small_body(entry, MAX_PAX_BYTES, trouble)?
                    .ok_or(Refusal::Pax("is larger than 64 KiB"))?;
                once(&mut self.pax, Pax::parse(&body)?)?;
            }
            EntryType::XGlobalHeader => {
                let body = small_body(entry, MAX_PAX_BYTES, trouble)?
                    .ok_or(Refusal::Pax("is larger than 64 KiB"))?;
                Pax::check_global(&body)?;
            }
            EntryType::GNULongName => once(&mut self.long_name, long(entry, limits, trouble)?)?,
            EntryType::GNULongLink => once(&mut self.long_link, long(entry, limits, trouble)?)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What `entry` puts into the tree; `None` for the entry of the root itself.
    fn describe<R: Read>(
        self,
        entry: &Entry<'_, R>,
        limits: &Limits,
    ) -> Result<Option<(TreePath, Item)>, Refusal> {
        let header = entry.header();
        let pax = self.pax.unwrap_or_default();
        let name =
            one_of(pax.path, self.long_name)?.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = one_of(pax.link, self.long_link)?
            .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        if pax.size.is_some_and(|size| size != entry.size()) {
            return Err(Refusal::Pax(
                "gives another size than the entry's own header",
            ));
        }
        let is_directory = header.entry_type() == EntryType::Directory;
        let Some(path) = tree_path(&name, is_directory, limits)? else {
            return Ok(None);
        };
        let kind = kind(&path, entry, link, limits)?;
        Ok(Some((
            path,
            Item {
                kind,
                mode: header.mode().unwrap_or(0o644) & PERMISSIONS,
                mtime: pax.mtime.unwrap_or_else(|| mtime(header)),
            },
        )))
    }
}

/// What an entry is: one of the three kinds that are taken, or a refusal.
fn kind<R: Read>(
    path: &TreePath,
    entry: &Entry<'_, R>,
    link: Option<Vec<u8>>,
    limits: &Limits,
) -> Result<ItemKind, Refusal> {
    let refused = |kind| {
        Err(Refusal::Kind {
            path: path.clone(),
            kind,
        })
    };
    match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous => Ok(ItemKind::File(Extent {
            offset: entry.raw_file_position(),
            size: entry.size(),
        })),
        EntryType::Directory | EntryType::Symlink if entry.size() != 0 => {
            Err(Refusal::Content(path.clone()))
        }
        EntryType::Directory => Ok(ItemKind::Directory),
        EntryType::Symlink => Ok(ItemKind::Symlink {
            target: link_target(path, link.unwrap_or_default(), limits)?,
        }),
        EntryType::Link => refused("a hard link"),
        EntryType::Char => refused("a character device"),
        EntryType::Block => refused("a block device"),
        EntryType::Fifo => refused("a fifo"),
        EntryType::GNUSparse => refused("a sparse file"),
        _ => refused("of an unknown kind"),
    }
}

/// The path that a tar name stands for; `None` for the root. A leading `./` and a directory's last `/` are customary;
/// nothing else is normalised away.
fn tree_path(
    name: &[u8],
    is_directory: bool,
    limits: &Limits,
) -> Result<Option<TreePath>, Refusal> {
    if name.len() as u64 > limits.max_path_bytes {
        return Err(Refusal::PathTooLong(limits.max_path_bytes));
    }
    let text = std::str::from_utf8(name).map_err(|_| {
        let shown = String::from_utf8_lossy(name);
        refused_path(&format!("must be UTF-8, is {shown:?}"))
    })?;
    let text = text.strip_prefix("./").unwrap_or(text);
    let text = match text.strip_suffix('/') {
        Some(stripped) if is_directory => stripped,
        Some(_) | None => text,
    };
    let text = if name.starts_with(b".") && text.is_empty() {
        "."
    } else {
        text
    };
    let path = TreePath::parse(text).map_err(|error| refused_path(&error.to_string()))?;
    match (path.is_root(), is_directory) {
        (false, _) => Ok(Some(path)),
        (true, true) => Ok(None),
        (true, false) => Err(refused_path("is the tree itself, but it is no directory")),
    }
}

fn refused_path(problem: &str) -> Refusal {
    Refusal::Path(problem.chars().take(SHOWN).collect())
}

fn link_target(path: &TreePath, target: Vec<u8>, limits: &Limits) -> Result<String, Refusal> {
    if target.len() as u64 > limits.max_path_bytes {
        return Err(Refusal::PathTooLong(limits.max_path_bytes));
    }
    String::from_utf8(target)
        .ok()
        .filter(|target| !target.is_empty() && !target.contains('\0'))
        .ok_or_else(|| Refusal::Target(path.clone()))
}

fn mtime(header: &tar::Header) -> i64 {
    header
        .mtime()
        .ok()
        .and_then(|seconds| i64::try_from(seconds).ok())
        .unwrap_or(0)
}

/// The body of a GNU long name or long link: the text up to its first NUL.
fn long<R: Read>(
    entry: &mut Entry<'_, R>,
    limits: &Limits,
    trouble: &Trouble,
) -> Result<Vec<u8>, SourceError> {
    let mut body = small_body(entry, limits.max_path_bytes + 1, trouble)?
        .ok_or(Refusal::PathTooLong(limits.max_path_bytes))?;
    if body.last() == Some(&0) {
        body.pop();
    }
    Ok(body)
}

/// All of an extension header's body, unless it is longer than `limit`.
fn small_body<R: Read>(
    entry: &mut Entry<'_, R>,
    limit: u64,
    trouble: &Trouble,
) -> Result<Option<Vec<u8>>, SourceError> {
    let size = entry.size();
    if size > limit {
        return Ok(None);
    }
    let mut body = Vec::new();
    entry
        .read_to_end(&mut body)
        .map_err(|error| trouble.explain(error))?;
    Ok(Some(body))
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Refusal> {
    if slot.replace(value).is_some() {
        return Err(Refusal::StrayHeader);
    }
    Ok(())
}

/// The value that one of two extensions gave; both together could be read in two ways.
fn one_of<T>(pax: Option<T>, gnu: Option<T>) -> Result<Option<T>, Refusal> {
    if pax.is_some() && gnu.is_some() {
        return Err(Refusal::StrayHeader);
    }
    Ok(pax.or(gnu))
}

#[cfg(test)]
mod tests;
