//! An upload: each chunk read, hashed, and sent unless it is there.
//!
//! What always holds: at most [`IN_FLIGHT`] chunks are in memory at a time, in this process and not only in this upload,
//! each once plain and once compressed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bus::objects::{Listed, Objects};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use schemas::Sha256Digest;
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::spawn_blocking;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use crate::clock::ServerClock;
use crate::error::StoreError;
use crate::key::KeyParts;
use crate::manifest::{Chunk, StoredFile};
use crate::objects::{self, Kind};
use crate::presence::Presence;
use crate::progress::{Direction, Progress};
use crate::spots::{Source, Spot};
use crate::tally::Tally;
use crate::{IN_FLIGHT, Store, chunk, spots};

/// What an upload leaves.
pub(crate) struct Uploaded {
    /// The files, as a manifest names them.
    pub(crate) files: Vec<StoredFile>,
    /// How many chunks were sent.
    pub(crate) sent_chunks: u64,
    /// How many bytes that were.
    pub(crate) sent_bytes: u64,
    /// Chunks that were there and old, and were sent again so that no collection takes them; with where they come from.
    rescued: Vec<(Spot, Sha256Digest)>,
    sources: Arc<Vec<Source>>,
}

/// What the chunks of one upload have in common.
struct Upload {
    objects: Objects,
    permits: Arc<Semaphore>,
    sources: Arc<Vec<Source>>,
    /// What the template's manifest says of its chunks, which a collection leaves alone.
    template: HashMap<Sha256Digest, u32>,
    presence: Presence,
    /// Whether what the object store has may be relied upon.
    trusted: bool,
    /// What is older is sent again.
    old: Duration,
    clock: ServerClock,
    /// Chunks that this upload has come across; one that occurs again waits for the first.
    seen: Mutex<HashMap<Sha256Digest, Arc<OnceCell<Stored>>>>,
}

/// How a chunk came to be in the object store.
#[derive(Debug, Clone, Copy)]
struct Stored {
    bytes: u32,
    how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// It was there.
    Found,
    /// It was sent.
    Sent,
    /// It was there and old, and was sent again.
    Rescued,
}

/// What came of one chunk; none if it is nothing but zeros.
struct Outcome {
    spot: Spot,
    length: u64,
    stored: Option<(Sha256Digest, Stored, bool)>,
}

impl Store {
    /// Sends the chunks of `files` that are not there. `trusted`: whether what is there may be relied upon.
    pub(crate) async fn upload(
        &self,
        files: Vec<(String, PathBuf)>,
        parts: &KeyParts,
        trusted: bool,
        progress: &dyn Progress,
    ) -> Result<Uploaded, StoreError> {
        let opening = spawn_blocking(move || spots::open(files)).await;
        let (sources, spots) =
            opening.expect("opening files neither panics nor is it cancelled")?;
        let upload = Arc::new(Upload {
            objects: self.objects.clone(),
            permits: self.in_flight.clone(),
            sources: Arc::new(sources),
            template: self.template_chunks(parts).await?,
            presence: Presence::list(&self.objects, spots.len()).await?,
            trusted,
            old: self.grace / 2,
            clock: ServerClock::read(&self.objects).await?,
            seen: Mutex::default(),
        });
        let bytes = spots.iter().map(|spot| upload.length(*spot) as u64).sum();
        let mut tally = Tally::new(progress, Direction::Upload, spots.len() as u64, bytes);
        let chunks = spots.into_iter().map(|spot| {
            let upload = upload.clone();
            async move {
                let running = AbortOnDropHandle::new(tokio::spawn(upload.send(spot)));
                running.await.expect("sending a chunk does not panic")
            }
        });
        let mut chunks = stream::iter(chunks).buffered(IN_FLIGHT);
        let mut uploaded = Uploaded::new(upload.sources.clone());
        while let Some(outcome) = chunks.try_next().await? {
            uploaded.add(&outcome, &mut tally);
        }
        Ok(uploaded)
    }

    /// The chunks of the template that an environment was forked from, with their lengths: as long as its pointer stands a
    /// collection leaves them alone, and for a whole grace period after.
    async fn template_chunks(
        &self,
        parts: &KeyParts,
    ) -> Result<HashMap<Sha256Digest, u32>, StoreError> {
        let Some(key) = &parts.template_key else {
            return Ok(HashMap::new());
        };
        let Some(digest) = self.find(key).await? else {
            return Ok(HashMap::new());
        };
        match self.manifest(&digest).await {
            Ok(manifest) => {
                let chunks = manifest.chunks();
                Ok(chunks
                    .map(|(_, chunk)| (chunk.sha256, chunk.stored_bytes))
                    .collect())
            }
            Err(error @ (StoreError::NoManifest { .. } | StoreError::BadManifest { .. })) => {
                warn!(%error, "publishing without the template's manifest");
                Ok(HashMap::new())
            }
            Err(error) => Err(error),
        }
    }

    /// Looks once more, now that the pointer has moved, for the chunks that were old: a collection that had decided on one
    /// before it was sent again may have taken it.
    pub(crate) async fn secure(&self, uploaded: &Uploaded) -> Result<(), StoreError> {
        for (spot, digest) in &uploaded.rescued {
            if objects::look(&self.objects, Kind::Chunk, digest)
                .await?
                .is_some()
            {
                continue;
            }
            let (sources, spot) = (uploaded.sources.clone(), *spot);
            let reading = spawn_blocking(move || {
                let plain = sources[spot.source].read(spot.index)?;
                chunk::compress(&plain).map_err(StoreError::disk("compress a chunk"))
            });
            let object = reading.await;
            let object = object.expect("reading a chunk neither panics nor is it cancelled")?;
            objects::put(&self.objects, Kind::Chunk, digest, object.into()).await?;
        }
        Ok(())
    }
}

impl Uploaded {
    fn new(sources: Arc<Vec<Source>>) -> Self {
        let files = sources.iter().map(|source| StoredFile {
            name: source.name.clone(),
            size_bytes: source.size,
            chunks: Vec::new(),
        });
        Self {
            files: files.collect(),
            sent_chunks: 0,
            sent_bytes: 0,
            rescued: Vec::new(),
            sources,
        }
    }

    /// Takes an outcome in; they come in the order of files and chunks.
    fn add(&mut self, outcome: &Outcome, tally: &mut Tally<'_>) {
        let Some((sha256, stored, first)) = outcome.stored else {
            return tally.zero(outcome.length);
        };
        let Spot { source, index } = outcome.spot;
        self.files[source].chunks.push(Chunk {
            index,
            sha256,
            stored_bytes: stored.bytes,
        });
        let sent = first && stored.how != How::Found;
        if sent {
            self.sent_chunks += 1;
            self.sent_bytes += u64::from(stored.bytes);
        }
        if first && stored.how == How::Rescued {
            self.rescued.push((outcome.spot, sha256));
        }
        tally.done(1, outcome.length, u64::from(!sent));
    }
}

impl Upload {
    fn length(&self, spot: Spot) -> usize {
        chunk::length(self.sources[spot.source].size, spot.index)
    }

    /// Reads a chunk and lets the object store have it.
    async fn send(self: Arc<Self>, spot: Spot) -> Result<Outcome, StoreError> {
        let permit = self.permits.clone().acquire_owned().await;
        let _permit = permit.expect("the store never closes its semaphore");
        let sources = self.sources.clone();
        let reading = spawn_blocking(move || {
            let plain = sources[spot.source].read(spot.index)?;
            let digest = (!chunk::is_zero(&plain)).then(|| Sha256Digest::of(&plain));
            Ok(digest.map(|digest| (plain, digest)))
        });
        let read = reading.await;
        let read = read.expect("reading a chunk neither panics nor is it cancelled")?;
        let stored = match read {
            None => None,
            Some((plain, digest)) => {
                let (stored, first) = self.store(plain, digest).await?;
                Some((digest, stored, first))
            }
        };
        Ok(Outcome {
            spot,
            length: self.length(spot) as u64,
            stored,
        })
    }

    /// How the chunk came to be stored, and whether it was this call that saw to it.
    async fn store(
        &self,
        plain: Vec<u8>,
        digest: Sha256Digest,
    ) -> Result<(Stored, bool), StoreError> {
        let cell = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.entry(digest).or_default().clone()
        };
        let mut first = false;
        let storing = cell.get_or_try_init(|| {
            first = true;
            self.store_first(plain, digest)
        });
        let stored = *storing.await?;
        Ok((stored, first))
    }

    async fn store_first(
        &self,
        plain: Vec<u8>,
        digest: Sha256Digest,
    ) -> Result<Stored, StoreError> {
        let found = self.presence.look(&self.objects, &digest).await?;
        let expected = self.template.get(&digest).copied();
        if let (Some(found), Some(bytes)) = (&found, expected)
            && self.trusted
            && found.size == u64::from(bytes)
        {
            let how = How::Found;
            return Ok(Stored { bytes, how });
        }
        let compressing = spawn_blocking(move || chunk::compress(&plain)).await;
        let object = compressing
            .expect("compressing neither panics nor is it cancelled")
            .map_err(StoreError::disk("compress a chunk"))?;
        let bytes = u32::try_from(object.len()).expect("a chunk has less than 4 GiB");
        let how = self.decide(found.as_ref(), bytes);
        if how != How::Found {
            debug!(%digest, bytes, "sending a chunk");
            objects::put(&self.objects, Kind::Chunk, &digest, Bytes::from(object)).await?;
        }
        Ok(Stored { bytes, how })
    }

    /// What is to be done about a chunk that takes `bytes`, as the object store has `found` of it. An object of another
    /// length is damaged, or compressed by another version; then the manifest's length must be true of the new one.
    fn decide(&self, found: Option<&Listed>, bytes: u32) -> How {
        match found {
            Some(found) if self.trusted && found.size == u64::from(bytes) => {
                if self.clock.age(found) < self.old {
                    How::Found
                } else {
                    How::Rescued
                }
            }
            Some(_) | None => How::Sent,
        }
    }
}
