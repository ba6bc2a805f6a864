//! From a commit to the tree that it stands for: what `git checkout` would write, without filters, line ends or anything else that a
//! configuration could change.
//!
//! ```text
//! commit ─▶ tree ─▶ { name, mode, id }     040000 directory      100644, 100664 file      100755 program
//!                                          120000 symbolic link  160000 submodule: an empty directory, until it is filled
//! ```

use gix_hash::ObjectId;
use gix_object::bstr::ByteSlice;
use gix_object::tree::EntryRef;
use gix_object::{CommitRef, Kind, TreeRef};
use schemas::TreePath;

use crate::error::Refusal;
use crate::git::objects::Objects;
use crate::git::problem::GitProblem;
use crate::limits::Limits;
use crate::tree::{Item, ItemKind, Tree};

/// 64 MiB: the largest commit or tree that is read. A directory of a million files has 40 MiB.
const MAX_OBJECT_BYTES: u64 = 64 << 20;

/// 80: characters of a refused name that its error repeats.
const SHOWN: usize = 80;

/// A tree on its way from objects.
#[derive(Debug)]
pub(crate) struct Checkout<'a> {
    objects: &'a Objects,
    limits: &'a Limits,
    tree: &'a mut Tree,
    /// Bytes of files so far: one object may stand for many files.
    bytes: &'a mut u64,
    mtime: i64,
}

/// A commit of another repository, pinned by a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gitlink {
    /// Where it belongs, from the root of the whole tree.
    pub(crate) path: TreePath,
    /// Where it belongs, as its own repository's `.gitmodules` says it.
    pub(crate) inner: String,
    /// The commit.
    pub(crate) commit: ObjectId,
}

/// What a commit says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Commit {
    /// Its tree.
    pub(crate) tree: ObjectId,
    /// The committer's time, in seconds since the Unix epoch; 0 for a time before that, or one that does not read as one.
    pub(crate) time: i64,
}

/// Reads the commit `id`.
pub(crate) fn commit(objects: &Objects, id: &ObjectId) -> Result<Commit, GitProblem> {
    let bytes = whole(objects, id, Kind::Commit)?;
    let malformed = |_| malformed(id, Kind::Commit);
    let commit = CommitRef::from_bytes(&bytes, gix_hash::Kind::Sha1).map_err(malformed)?;
    let time = commit.time().map_or(0, |time| time.seconds);
    Ok(Commit {
        tree: commit.tree(),
        time: time.max(0),
    })
}

impl<'a> Checkout<'a> {
    /// Entries will be added to `tree`, each with `mtime`.
    pub(crate) fn new(
        objects: &'a Objects,
        limits: &'a Limits,
        tree: &'a mut Tree,
        bytes: &'a mut u64,
        mtime: i64,
    ) -> Self {
        Self {
            objects,
            limits,
            tree,
            bytes,
            mtime,
        }
    }

    /// Adds all that the tree `id` holds, below `at`; returns the submodules in it.
    pub(crate) fn add(&mut self, id: ObjectId, at: &TreePath) -> Result<Vec<Gitlink>, GitProblem> {
        let mut gitlinks = Vec::new();
        let mut directories = vec![(id, String::new())];
        while let Some((id, inner)) = directories.pop() {
            let bytes = whole(self.objects, &id, Kind::Tree)?;
            let tree = TreeRef::from_bytes(&bytes, gix_hash::Kind::Sha1);
            let tree = tree.map_err(|_| malformed(&id, Kind::Tree))?;
            for entry in &tree.entries {
                let inner = self.inner(at, &inner, entry.filename)?;
                let path = join(at, &inner, self.limits)?;
                self.entry(entry, path, inner, &mut directories, &mut gitlinks)?;
            }
        }
        Ok(gitlinks)
    }

    fn entry(
        &mut self,
        entry: &EntryRef<'_>,
        path: TreePath,
        inner: String,
        directories: &mut Vec<(ObjectId, String)>,
        gitlinks: &mut Vec<Gitlink>,
    ) -> Result<(), GitProblem> {
        let id = entry.oid.to_owned();
        let (kind, mode) = match entry.mode.value() {
            0o040_000 => {
                directories.push((id, inner));
                (ItemKind::Directory, 0o755)
            }
            0o160_000 => {
                let path = path.clone();
                let commit = id;
                gitlinks.push(Gitlink {
                    path,
                    inner,
                    commit,
                });
                (ItemKind::Directory, 0o755)
            }
            0o100_644 | 0o100_664 => (self.file(&id)?, 0o644),
            0o100_755 => (self.file(&id)?, 0o755),
            0o120_000 => (self.symlink(&id, &path)?, 0o777),
            mode => return Err(GitProblem::Mode { path, mode }),
        };
        let mtime = self.mtime;
        Ok(self.tree.insert(path, Item { kind, mode, mtime })?)
    }

    fn file(&mut self, id: &ObjectId) -> Result<ItemKind, GitProblem> {
        let extent = self.objects.find(id, Kind::Blob)?;
        *self.bytes = self.bytes.saturating_add(extent.size);
        let limit = self.limits.max_total_bytes;
        if *self.bytes > limit {
            return Err(Refusal::TooLarge(limit).into());
        }
        Ok(ItemKind::File(extent))
    }

    fn symlink(&self, id: &ObjectId, path: &TreePath) -> Result<ItemKind, GitProblem> {
        let limit = self.limits.max_path_bytes;
        let target = self.objects.read(id, Kind::Blob, limit)?;
        let target = target.ok_or(Refusal::PathTooLong(limit))?;
        let target = String::from_utf8(target)
            .ok()
            .filter(|target| !target.is_empty() && !target.contains('\0'))
            .ok_or_else(|| Refusal::Target(path.clone()))?;
        Ok(ItemKind::Symlink { target })
    }

    /// The path of `name` within its own repository.
    fn inner(&self, at: &TreePath, directory: &str, name: &[u8]) -> Result<String, GitProblem> {
        match checked(name) {
            Ok(name) if directory.is_empty() => Ok(name.to_owned()),
            Ok(name) => Ok(format!("{directory}/{name}")),
            Err(problem) => Err(GitProblem::Name {
                directory: join(at, directory, self.limits)?,
                name: name.to_str_lossy().chars().take(SHOWN).collect(),
                problem,
            }),
        }
    }
}

/// The name of a file, if it is one that a file of a source has.
fn checked(name: &[u8]) -> Result<&str, &'static str> {
    let name = std::str::from_utf8(name).map_err(|_| "is not UTF-8")?;
    match name {
        "" => Err("is empty"),
        "." | ".." => Err("leads elsewhere"),
        _ if name.eq_ignore_ascii_case(".git") => Err("is a repository's own directory"),
        // A NUL ends a name, so there is none in it.
        _ if name.contains('/') => Err("has a `/` in it"),
        _ => Ok(name),
    }
}

/// `inner` below `at`; either may be the root.
fn join(at: &TreePath, inner: &str, limits: &Limits) -> Result<TreePath, GitProblem> {
    let text = match (at.is_root(), inner) {
        (_, "") => return Ok(at.clone()),
        (true, _) => inner.to_owned(),
        (false, _) => format!("{at}/{inner}"),
    };
    let too_long = || Refusal::PathTooLong(limits.max_path_bytes);
    if text.len() as u64 > limits.max_path_bytes {
        return Err(too_long().into());
    }
    // Every part was checked: only the length is left.
    TreePath::parse(text).map_err(|_| too_long().into())
}

/// All bytes of an object that is read as a whole.
fn whole(objects: &Objects, id: &ObjectId, kind: Kind) -> Result<Vec<u8>, GitProblem> {
    let bytes = objects.read(id, kind, MAX_OBJECT_BYTES)?;
    bytes.ok_or_else(|| Refusal::TooLarge(MAX_OBJECT_BYTES).into())
}

fn malformed(object: &ObjectId, kind: Kind) -> GitProblem {
    GitProblem::Malformed {
        object: *object,
        kind,
    }
}

#[cfg(test)]
mod tests;
