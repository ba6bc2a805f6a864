//! A download: each chunk from where it can be had soonest, verified, written to its places.
//!
//! What always holds: nothing is written that was not verified; at most [`IN_FLIGHT`] chunks are in memory at a time, in this
//! process and not only in this download, each once compressed and once plain.

use std::path::PathBuf;
use std::sync::Arc;

use bus::objects::Objects;
use futures_util::{StreamExt, TryStreamExt, stream};
use schemas::Sha256Digest;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::cache::{Downloading, InUse};
use crate::chunk::{self, MAX_STORED_BYTES};
use crate::error::StoreError;
use crate::manifest::Manifest;
use crate::neighbours::Neighbours;
use crate::objects::{self, GetError, Kind};
use crate::progress::{Direction, Progress};
use crate::tally::Tally;
use crate::target::{Target, Wanted};
use crate::{IN_FLIGHT, Store};

/// What the chunks of one download have in common.
struct Download {
    key: Sha256Digest,
    names: Vec<String>,
    objects: Objects,
    permits: Arc<Semaphore>,
    neighbours: Neighbours,
    target: Target,
}

/// Where a chunk came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// It was on this machine.
    Here,
    /// The object store.
    Network,
}

impl Store {
    /// Downloads and installs a snapshot, of which `bytes` is the manifest.
    pub(crate) async fn download(
        &self,
        manifest: &Manifest,
        bytes: Vec<u8>,
        digest: Sha256Digest,
        downloading: Downloading,
        progress: &dyn Progress,
    ) -> Result<(PathBuf, InUse), StoreError> {
        let wanted = Wanted::all(manifest);
        let download = Arc::new(self.prepare(manifest, &wanted, downloading).await?);
        let places = wanted.iter().map(|wanted| wanted.places.len() as u64).sum();
        let mut tally = Tally::new(progress, Direction::Download, places, manifest.data_bytes());
        let chunks = wanted.into_iter().map(|wanted| {
            let download = download.clone();
            async move {
                let (places, bytes) = (wanted.places.len() as u64, wanted.bytes());
                let running = AbortOnDropHandle::new(tokio::spawn(download.bring(wanted)));
                let origin = running.await.expect("bringing a chunk does not panic")?;
                let saved = match origin {
                    Origin::Here => places,
                    Origin::Network => places - 1,
                };
                Ok::<_, StoreError>((places, bytes, saved))
            }
        });
        let mut chunks = stream::iter(chunks).buffer_unordered(IN_FLIGHT);
        while let Some((places, bytes, saved)) = chunks.try_next().await? {
            tally.done(places, bytes, saved);
        }
        drop(chunks);
        let so_far = tally.so_far();
        let (chunks, saved) = (so_far.chunks_total, so_far.chunks_saved);
        info!(key = %manifest.key, chunks, saved, "a snapshot's chunks are here");
        self.install(download, bytes, digest).await
    }

    /// Makes room, opens the files, and looks for what is here already.
    async fn prepare(
        &self,
        manifest: &Manifest,
        wanted: &[Wanted],
        downloading: Downloading,
    ) -> Result<Download, StoreError> {
        let (cache, wanted) = (self.cache.clone(), wanted.to_vec());
        let doing = format!("write the files of snapshot {}", manifest.key);
        let manifest = manifest.clone();
        let (objects, permits) = (self.objects.clone(), self.in_flight.clone());
        let preparing = spawn_blocking(move || {
            cache.make_room(manifest.data_bytes(), &downloading)?;
            let neighbours = Neighbours::look(&cache, &wanted)?;
            let target = Target::open(downloading, &manifest).map_err(StoreError::disk(doing))?;
            Ok(Download {
                key: manifest.key,
                names: manifest.files.into_iter().map(|file| file.name).collect(),
                objects,
                permits,
                neighbours,
                target,
            })
        });
        preparing
            .await
            .expect("preparing a download neither panics nor is it cancelled")
    }

    async fn install(
        &self,
        download: Arc<Download>,
        manifest: Vec<u8>,
        digest: Sha256Digest,
    ) -> Result<(PathBuf, InUse), StoreError> {
        let cache = self.cache.clone();
        let doing = format!("finish the files of snapshot {}", download.key);
        let installing = spawn_blocking(move || {
            let whole = download.target.finish(&manifest);
            let whole = whole.map_err(StoreError::disk(doing))?;
            let installed = cache.install(&whole, &digest)?;
            download.target.downloading().done();
            Ok(installed)
        });
        installing
            .await
            .expect("installing a snapshot neither panics nor is it cancelled")
    }
}

impl Download {
    /// Brings one chunk to its places; one that is refused is asked for once more.
    async fn bring(self: Arc<Self>, wanted: Wanted) -> Result<Origin, StoreError> {
        let permit = self.permits.clone().acquire_owned().await;
        let _permit = permit.expect("the store never closes its semaphore");
        let wanted = Arc::new(wanted);
        if self.is_here(&wanted).await? {
            return Ok(Origin::Here);
        }
        match self.fetch(&wanted).await {
            Ok(()) => {}
            Err(error @ StoreError::Disk { .. }) => return Err(error),
            Err(first) => {
                warn!(key = %self.key, chunk = %wanted.digest, error = %first, "fetching a chunk again");
                if let Err(second) = self.fetch(&wanted).await {
                    return Err(self.settle(first, second, &wanted.digest).await);
                }
            }
        }
        Ok(Origin::Network)
    }

    /// What is said of a chunk that could not be had twice. That it cannot be had for good is only said if both tries found so; if
    /// it is damaged, its object goes before that is said: why, `withdraw` tells.
    async fn settle(
        &self,
        first: StoreError,
        second: StoreError,
        chunk: &Sha256Digest,
    ) -> StoreError {
        if second.is_for_good() && !first.is_for_good() {
            return first;
        }
        let StoreError::Corrupt { .. } = second else {
            return second;
        };
        match objects::delete(&self.objects, Kind::Chunk, chunk).await {
            Ok(()) => {
                warn!(key = %self.key, %chunk, error = %second, "deleted a damaged chunk");
                second
            }
            Err(error) => {
                warn!(key = %self.key, %chunk, error = %second, "a damaged chunk cannot be deleted");
                error
            }
        }
    }

    /// Whether the chunk is here already, or a neighbour gave it.
    async fn is_here(self: &Arc<Self>, wanted: &Arc<Wanted>) -> Result<bool, StoreError> {
        if !self.target.continued() && !self.neighbours.have(&wanted.digest) {
            return Ok(false);
        }
        let (download, wanted) = (self.clone(), wanted.clone());
        let looking = spawn_blocking(move || {
            let target = &download.target;
            let here = (target.continued() && target.complete(&wanted)?)
                || download.neighbours.give(&wanted, target)?;
            target.downloading().touch();
            Ok(here)
        });
        let looked = looking.await;
        looked
            .expect("looking for a chunk neither panics nor is it cancelled")
            .map_err(StoreError::disk(format!(
                "write a chunk of snapshot {}",
                self.key
            )))
    }

    /// Fetches the chunk from the object store, verifies it and writes it.
    async fn fetch(self: &Arc<Self>, wanted: &Arc<Wanted>) -> Result<(), StoreError> {
        let digest = &wanted.digest;
        let object = objects::get(&self.objects, Kind::Chunk, digest, MAX_STORED_BYTES).await;
        let object = object.map_err(|error| self.explain(error, wanted))?;
        let (download, place) = (self.clone(), wanted.clone());
        let writing = spawn_blocking(move || {
            let write = |plain: &[u8]| download.target.write(&place, plain);
            let written = chunk::verified(&object, place.length, &place.digest, write);
            download.target.downloading().touch();
            written
        });
        let written = writing.await;
        written
            .expect("writing a chunk neither panics nor is it cancelled")
            .map_err(|problem| self.corrupt(wanted, problem))?
            .map_err(StoreError::disk(format!(
                "write {} of snapshot {}",
                self.file(wanted),
                self.key
            )))
    }

    fn explain(&self, error: GetError, wanted: &Wanted) -> StoreError {
        let (key, file) = (self.key, self.file(wanted));
        match error {
            GetError::Missing => StoreError::Missing { key, file },
            GetError::TooLong(bytes) => {
                self.corrupt(wanted, format!("has a chunk of {bytes} bytes"))
            }
            GetError::Objects(error) => error,
            GetError::Broken(source) => StoreError::Download {
                what: format!("{file} of snapshot {key}"),
                source,
            },
        }
    }

    fn corrupt(&self, wanted: &Wanted, problem: String) -> StoreError {
        StoreError::Corrupt {
            key: self.key,
            file: self.file(wanted),
            problem,
        }
    }

    /// The file that a chunk belongs to, the first of them.
    fn file(&self, wanted: &Wanted) -> String {
        self.names[wanted.places[0].file].clone()
    }
}
