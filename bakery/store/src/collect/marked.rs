//! What a collection spares.

use std::collections::HashSet;

use schemas::Sha256Digest;

use crate::manifest::Manifest;
use crate::objects::Kind;

/// What is not to be swept: 32 bytes for each manifest and each chunk that stays.
#[derive(Default)]
pub(super) struct Marked {
    manifests: HashSet<Sha256Digest>,
    chunks: HashSet<Sha256Digest>,
    /// Manifests that mark nothing though a pointer leads to them.
    passed_over: HashSet<Sha256Digest>,
}

impl Marked {
    /// Spares a manifest and what it names; if it is not there, there is nothing that it names.
    pub(super) fn manifest(&mut self, digest: Sha256Digest, manifest: Option<&Manifest>) {
        self.manifests.insert(digest);
        let chunks = manifest.into_iter().flat_map(Manifest::chunks);
        self.chunks.extend(chunks.map(|(_, chunk)| chunk.sha256));
    }

    /// A manifest that a dry run would retire: its pointer still stands and must not mark it.
    pub(super) fn pass_over(&mut self, digest: Sha256Digest) {
        self.passed_over.insert(digest);
    }

    /// Whether it is decided what that manifest marks.
    pub(super) fn knows(&self, digest: &Sha256Digest) -> bool {
        self.manifests.contains(digest) || self.passed_over.contains(digest)
    }

    /// Whether that object is spared.
    pub(super) fn has(&self, kind: Kind, digest: &Sha256Digest) -> bool {
        match kind {
            Kind::Chunk => self.chunks.contains(digest),
            Kind::Manifest => self.manifests.contains(digest),
        }
    }
}
