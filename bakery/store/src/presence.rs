//! Which chunks the object store has.
//!
//! One listing tells of a thousand objects at the price of a few questions about single ones, so the bucket is listed first,
//! in the order of digests; where it holds much more than what is asked for, the listing ends early and the rest is
//! asked for one by one.

use std::collections::HashMap;

use bus::objects::{Listed, Objects};
use schemas::Sha256Digest;

use crate::error::StoreError;
use crate::objects::{self, Kind};

/// 64: so many single questions cost about as much as one page of a listing.
const QUESTIONS_PER_PAGE: usize = 64;

/// Which chunks the object store had a moment ago.
pub(crate) struct Presence {
    listed: HashMap<Sha256Digest, Listed>,
    /// The key up to which the listing is complete; none if it is so to its end.
    up_to: Option<String>,
}

impl Presence {
    /// Looks at the bucket, for somebody who wants to know about `chunks` chunks.
    pub(crate) async fn list(objects: &Objects, chunks: usize) -> Result<Self, StoreError> {
        let mut listed = HashMap::new();
        let mut up_to = None;
        for _ in 0..=chunks / QUESTIONS_PER_PAGE {
            let part = objects::list(objects, Kind::Chunk, up_to.as_deref()).await?;
            listed.extend(part.objects);
            up_to = part.next;
            if up_to.is_none() {
                break;
            }
        }
        Ok(Self { listed, up_to })
    }

    /// What the bucket says of that chunk; `None` if it is not there.
    pub(crate) async fn look(
        &self,
        objects: &Objects,
        digest: &Sha256Digest,
    ) -> Result<Option<Listed>, StoreError> {
        match &self.up_to {
            Some(last) if Kind::Chunk.key(digest) > *last => {
                objects::look(objects, Kind::Chunk, digest).await
            }
            Some(_) | None => Ok(self.listed.get(digest).cloned()),
        }
    }
}
