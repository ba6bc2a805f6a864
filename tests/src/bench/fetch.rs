//! `dev fetch KEY CACHE`: one fetch of a snapshot, in a process of its own so that its memory can be told.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use async_nats::jetstream;
use bus::nats::{self, NatsConfig};
use bus::objects::{Objects, ObjectsConfig};
use schemas::Sha256Digest;
use schemas::names::bucket;
use serde::{Deserialize, Serialize};
use store::{CacheConfig, NoProgress, Store};

/// What the process prints.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Fetched {
    /// From the call to a snapshot that can be forked.
    pub(super) took: Duration,
    /// The most memory that the process had, in KiB.
    pub(super) peak_kib: u64,
    /// Where the snapshot lies.
    pub(super) dir: PathBuf,
}

/// Fetches, with the servers that the environment names.
pub async fn run(key: &Sha256Digest, cache: &Path) -> Result<ExitCode> {
    let url = std::env::var("SOURDOUGH_NATS_URL").context("SOURDOUGH_NATS_URL")?;
    let config = NatsConfig {
        url,
        ..NatsConfig::default()
    };
    let client = nats::connect(&config, "bench").await?;
    let pointers = jetstream::new(client)
        .get_key_value(bucket::SNAPSHOTS)
        .await;
    let pointers = pointers.context("open the bucket of pointers")?;
    let objects = Objects::connect(&ObjectsConfig::default()).await?;
    let cache = CacheConfig {
        directory: cache.to_owned(),
        max_bytes: u64::MAX,
    };
    let store = Store::open(objects, pointers, cache).await?;
    let start = Instant::now();
    let snapshot = store.fetch(key, &NoProgress).await?;
    let fetched = Fetched {
        took: start.elapsed(),
        peak_kib: peak_kib()?,
        dir: snapshot.dir.clone(),
    };
    println!("{}", serde_json::to_string(&fetched)?);
    Ok(ExitCode::SUCCESS)
}

/// `VmHWM` of proc(5): the peak of the resident set.
fn peak_kib() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let size = line.and_then(|line| line.split_whitespace().next());
    size.and_then(|size| size.parse().ok())
        .context("the kernel tells the peak of a process")
}
