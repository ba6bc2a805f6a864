//! Whether a published snapshot is whole, as far as that can be told without reading its chunks.

use std::collections::HashMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use schemas::Sha256Digest;
use tracing::warn;

use crate::error::StoreError;
use crate::fetch::check_key;
use crate::manifest::Manifest;
use crate::presence::Presence;
use crate::{IN_FLIGHT, Store};

impl Store {
    /// The manifest that `key` leads to, if its snapshot can be fetched: the manifest can be read, and every chunk that it
    /// names is there with its length. `None` if nothing is published, or something of it is gone; publishing it again
    /// sends what is not there. The chunks themselves are not read: [`Store::fetch`] takes those away that are damaged.
    pub async fn find_whole(&self, key: &Sha256Digest) -> Result<Option<Manifest>, StoreError> {
        let Some(digest) = self.find(key).await? else {
            return Ok(None);
        };
        let manifest = match self.manifest(&digest).await {
            Ok(manifest) => manifest,
            Err(error @ (StoreError::NoManifest { .. } | StoreError::BadManifest { .. })) => {
                warn!(%key, %error, "a published snapshot is not whole");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if let Err(error) = check_key(&manifest, key) {
            warn!(%error, "a published snapshot is another's");
            return Ok(None);
        }
        let gap = self.gap(&manifest).await?;
        if let Some(file) = &gap {
            warn!(%key, %digest, file, "a published snapshot is not whole");
        }
        Ok(gap.is_none().then_some(manifest))
    }

    /// The name of a file of which a chunk is not in the object store with its length.
    async fn gap(&self, manifest: &Manifest) -> Result<Option<String>, StoreError> {
        let chunks: HashMap<_, _> = manifest
            .chunks()
            .map(|(file, chunk)| (chunk.sha256, (u64::from(chunk.stored_bytes), &file.name)))
            .collect();
        let presence = Presence::list(&self.objects, chunks.len()).await?;
        let presence = &presence;
        let looks = chunks
            .into_iter()
            .map(|(digest, (length, name))| async move {
                let found = presence.look(&self.objects, &digest).await?;
                let whole = found.is_some_and(|found| found.size == length);
                Ok((!whole).then(|| name.clone()))
            });
        let mut looks = stream::iter(looks.collect::<Vec<_>>()).buffer_unordered(IN_FLIGHT);
        while let Some(gap) = looks.try_next().await? {
            if gap.is_some() {
                return Ok(gap);
            }
        }
        Ok(None)
    }
}
