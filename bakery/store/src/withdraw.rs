//! Taking a snapshot's pointer away: since somebody wants that, or since the snapshot cannot be had.
//!
//! As long as a pointer stands, whoever asks for its key finds it, and nobody bakes it. So who finds out at a fetch that a snapshot
//! cannot be had, twice in a row, withdraws it, and the next who asks for the key has it baked anew:
//!
//! | found twice | goes |
//! | --- | --- |
//! | a chunk is damaged | the chunk's object, then the pointer |
//! | a chunk or the manifest is missing | the pointer |
//! | the manifest is damaged, or that of another key | the pointer |
//!
//! Why the damaged chunk goes, and goes first: others may have it too, the template of an environment for one, and
//! [`Store::find_whole`] compares only lengths. A chunk that is not there is a gap, which it sees in each of them, so that they are
//! baked anew too, and every publication sends it. If the object cannot be deleted the pointer stays, and the next fetch tries
//! again. Other chunks of the snapshot may be damaged as well, for a fetch ends with the first: so a publication of a key that
//! had a pointer before sends everything, and one bake is enough. A damaged manifest need not go: a publication always
//! writes its own; and what it names is not known, so it stops collections until it is older than their grace.
//!
//! Who is wrong about it, as a machine whose own memory is damaged, or who deletes what was sent again just before, makes a gap or
//! takes a pointer: that costs a bake of the key, and no job ever sees a wrong byte.

use bus::telemetry::Causes;
use schemas::{Sha256Digest, names};
use tracing::{info, warn};

use crate::Store;
use crate::error::StoreError;
use crate::manifest::Manifest;
use crate::pointers::Pointer;

impl Store {
    /// Takes the pointer of `key` away, if there is one: from now on nobody finds the snapshot. What it consists of goes with
    /// a collection.
    pub async fn unpublish(&self, key: &Sha256Digest) -> Result<(), StoreError> {
        loop {
            let pointer = self.pointer(key).await?;
            let Some(digest) = pointer.digest else {
                return Ok(());
            };
            let manifest = self.manifest_if_whole(&digest).await?;
            if self.retire(key, pointer, manifest.as_ref()).await? {
                return Ok(());
            }
        }
    }

    /// Takes the pointer of `key` away if it still is the one that led to `error`. That it cannot be taken away is only said in the
    /// log: the next fetch finds the same.
    pub(crate) async fn withdraw(&self, key: &Sha256Digest, pointer: Pointer, error: &StoreError) {
        warn!(%key, %error, "withdrawing a snapshot that cannot be had");
        let withdrawing = async {
            let manifest = match pointer.digest {
                Some(digest) => self.manifest_if_whole(&digest).await?,
                None => None,
            };
            self.retire(key, pointer, manifest.as_ref()).await
        };
        if let Err(error) = withdrawing.await {
            warn!(%key, error = %Causes(&error), "cannot withdraw a snapshot");
        }
    }

    /// Takes a pointer away if it still is what it was. The manifest of a template is written again first: to be young is what
    /// protects its chunks from now on, on which a publication may rely that began while the pointer stood.
    pub(crate) async fn retire(
        &self,
        key: &Sha256Digest,
        pointer: Pointer,
        manifest: Option<&Manifest>,
    ) -> Result<bool, StoreError> {
        if let Some(manifest) = manifest.filter(|manifest| manifest.is_template()) {
            self.put_manifest(manifest).await?;
        }
        let name = names::snapshot_pointer(key);
        let removed = self.pointers.remove(&name, pointer).await;
        let removed = removed.map_err(StoreError::pointers("take a snapshot's pointer away"))?;
        if removed {
            info!(%key, "a snapshot is published no more");
        }
        Ok(removed)
    }

    /// A manifest; none if it is damaged or not there.
    async fn manifest_if_whole(
        &self,
        digest: &Sha256Digest,
    ) -> Result<Option<Manifest>, StoreError> {
        match self.manifest(digest).await {
            Ok(manifest) => Ok(Some(manifest)),
            Err(StoreError::NoManifest { .. } | StoreError::BadManifest { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
