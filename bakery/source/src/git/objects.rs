//! Git objects that have been received: each under the id that its own bytes hash to, with its bytes in a spool.
//!
//! What always holds: no object is here whose id was not computed from its bytes on this host, with git's own detection of collision
//! attacks on SHA-1. So whatever is reached from a commit's id is what whoever made that commit saw.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use gix_hash::{Hasher, ObjectId};
use gix_object::Kind;

use crate::error::Refusal;
use crate::git::problem::GitProblem;
use crate::limits::Limits;
use crate::tree::Extent;

/// 4: objects for each entry that a tree may have. A tree and its file are two; submodules share no commit.
const OBJECTS_PER_ENTRY: u64 = 4;

/// Objects by id.
#[derive(Debug)]
pub(crate) struct Objects {
    spool: File,
    /// Bytes in the spool.
    end: u64,
    index: HashMap<ObjectId, Stored>,
    /// Most objects.
    max_count: u64,
    /// Most bytes in the spool.
    max_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    kind: Kind,
    extent: Extent,
}

/// An object whose bytes are on their way.
pub(crate) struct Incoming {
    /// The id that it is said to have.
    claimed: ObjectId,
    kind: Kind,
    hasher: Hasher,
    extent: Extent,
    /// Bytes that are still to come.
    pub(crate) left: u64,
}

impl Objects {
    /// No objects yet; `spool` is an empty file.
    pub(crate) fn new(spool: File, limits: &Limits) -> Self {
        Self {
            spool,
            end: 0,
            index: HashMap::new(),
            max_count: limits.max_entries.saturating_mul(OBJECTS_PER_ENTRY),
            max_bytes: limits.max_total_bytes,
        }
    }

    /// Makes room for an object of `size` bytes that is said to be `claimed`.
    pub(crate) fn begin(
        &mut self,
        claimed: ObjectId,
        kind: Kind,
        size: u64,
    ) -> Result<Incoming, GitProblem> {
        if self.index.len() as u64 >= self.max_count {
            return Err(Refusal::TooManyEntries(self.max_count).into());
        }
        if size > self.max_bytes.saturating_sub(self.end) {
            return Err(Refusal::TooLarge(self.max_bytes).into());
        }
        let mut hasher = gix_hash::hasher(gix_hash::Kind::Sha1);
        hasher.update(&gix_object::encode::loose_header(kind, size));
        let extent = Extent {
            offset: self.end,
            size,
        };
        Ok(Incoming {
            claimed,
            kind,
            hasher,
            extent,
            left: size,
        })
    }

    /// Takes the next bytes of an object, no more than it has left.
    pub(crate) fn take(&mut self, object: &mut Incoming, bytes: &[u8]) -> Result<(), GitProblem> {
        object.hasher.update(bytes);
        object.left -= bytes.len() as u64;
        self.end += bytes.len() as u64;
        self.spool.write_all(bytes).map_err(GitProblem::Spool)
    }

    /// Files an object whose bytes are all there under the id that they hash to, if that is the one it was said to have.
    pub(crate) fn complete(&mut self, object: Incoming) -> Result<(), GitProblem> {
        let claimed = object.claimed;
        let found = object.hasher.try_finalize();
        let found = found.map_err(|_attack| GitProblem::Collision(claimed))?;
        if found != claimed {
            return Err(GitProblem::Id {
                object: claimed,
                found,
            });
        }
        let (kind, extent) = (object.kind, object.extent);
        // Repositories share files: the first copy serves for all.
        self.index.entry(found).or_insert(Stored { kind, extent });
        Ok(())
    }

    /// Whether the object has been received.
    pub(crate) fn has(&self, id: &ObjectId) -> bool {
        self.index.contains_key(id)
    }

    /// Where the bytes of an object are, which must be of the kind `wanted`.
    pub(crate) fn find(&self, id: &ObjectId, wanted: Kind) -> Result<Extent, GitProblem> {
        let stored = self.index.get(id).ok_or(GitProblem::Missing(*id))?;
        if stored.kind == wanted {
            return Ok(stored.extent);
        }
        Err(GitProblem::Kind {
            object: *id,
            found: stored.kind,
            wanted,
        })
    }

    /// All bytes of an object of the kind `wanted`; `None` if they are more than `limit`.
    pub(crate) fn read(
        &self,
        id: &ObjectId,
        wanted: Kind,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, GitProblem> {
        let extent = self.find(id, wanted)?;
        if extent.size > limit {
            return Ok(None);
        }
        self.at(extent).map(Some)
    }

    /// The bytes of an object that is small enough to be held in memory.
    pub(crate) fn at(&self, extent: Extent) -> Result<Vec<u8>, GitProblem> {
        let length = usize::try_from(extent.size).expect("the caller has looked at its size");
        let mut bytes = vec![0; length];
        let read = self.spool.read_exact_at(&mut bytes, extent.offset);
        read.map_err(GitProblem::Spool)?;
        Ok(bytes)
    }

    /// The file that every [`Extent`] points into.
    pub(crate) fn spool(&self) -> &File {
        &self.spool
    }
}
