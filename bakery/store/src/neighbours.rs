//! What a download need not bring: chunks that other snapshots in the cache have. An environment has most of its template's.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use schemas::Sha256Digest;

use crate::cache::Cache;
use crate::chunk;
use crate::error::StoreError;
use crate::manifest::{MANIFEST_FILE, Manifest};
use crate::target::{Target, Wanted};

/// 8: a template and the last few environments of it; more manifests cost more to read than they save.
const MOST: usize = 8;

/// Where chunks can be copied from.
#[derive(Default)]
pub(crate) struct Neighbours {
    /// By digest, the file and the place in it. One that leaves the cache meanwhile is read to its end: it is open.
    chunks: HashMap<Sha256Digest, (Arc<File>, u64)>,
}

impl Neighbours {
    /// Looks for `wanted` in the snapshots that were used last.
    pub(crate) fn look(cache: &Cache, wanted: &[Wanted]) -> Result<Self, StoreError> {
        let wanted: HashSet<_> = wanted.iter().map(|wanted| wanted.digest).collect();
        let mut found = Self::default();
        for neighbour in cache.latest(MOST)? {
            // One that cannot be read is no help, and no harm: whoever fetches it finds out.
            found.add(&neighbour, &wanted);
        }
        Ok(found)
    }

    fn add(&mut self, neighbour: &Path, wanted: &HashSet<Sha256Digest>) -> Option<()> {
        let bytes = fs::read(neighbour.join(MANIFEST_FILE)).ok()?;
        let manifest = Manifest::parse(&bytes).ok()?;
        for stored in &manifest.files {
            let file = Arc::new(File::open(neighbour.join(&stored.name)).ok()?);
            let useful = stored.chunks.iter();
            for chunk in useful.filter(|chunk| wanted.contains(&chunk.sha256)) {
                let place = || (file.clone(), chunk::offset(chunk.index));
                self.chunks.entry(chunk.sha256).or_insert_with(place);
            }
        }
        Some(())
    }

    /// Whether that chunk can be copied.
    pub(crate) fn have(&self, digest: &Sha256Digest) -> bool {
        self.chunks.contains_key(digest)
    }

    /// Copies a chunk to where it is wanted; `false` if nobody has it.
    pub(crate) fn give(&self, wanted: &Wanted, target: &Target) -> std::io::Result<bool> {
        let Some((file, at)) = self.chunks.get(&wanted.digest) else {
            return Ok(false);
        };
        target.copy(wanted, file, *at)
    }
}
