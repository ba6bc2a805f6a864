//! Snapshots as they lie in the servers, read without any code of the store's: pointers, manifests, chunks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream::kv::{self, Operation};
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use schemas::names::bucket;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::queue::Queue;
use crate::wait;

/// The bucket for chunks and manifests.
const BUCKET: &str = "build-snapshots";

/// 1 min for a look at what was published last.
const LOOK_DEADLINE: Duration = Duration::from_mins(1);

/// What a pointer's name starts with.
const POINTER: &str = "key.";

/// Both places.
#[derive(Debug, Clone)]
pub struct Snapshots {
    pointers: kv::Store,
    s3: Client,
}

/// Looks at each snapshot as soon as it is published.
#[derive(Debug)]
pub struct Inspection {
    snapshots: Snapshots,
    looking: JoinHandle<()>,
    findings: Arc<Mutex<Findings>>,
    /// What was published before.
    before: BTreeSet<String>,
}

/// What an inspection has seen so far.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// The keys that were looked at.
    pub looked_at: BTreeSet<String>,
    /// What was wrong with them.
    pub problems: Vec<String>,
}

impl Snapshots {
    /// Those of a stack.
    pub async fn open(queue: &Queue) -> Result<Self> {
        let pointers = queue.jetstream().get_key_value(bucket::SNAPSHOTS).await;
        Ok(Self {
            pointers: pointers.context("open the bucket of pointers")?,
            s3: queue.s3().clone(),
        })
    }

    /// The keys that are published.
    pub async fn keys(&self) -> Result<BTreeSet<String>> {
        let names = self.names().await?;
        let keys = names.iter().filter_map(|name| name.strip_prefix(POINTER));
        Ok(keys.map(str::to_owned).collect())
    }

    /// The names of everything in the bucket of pointers.
    pub async fn names(&self) -> Result<Vec<String>> {
        let names = self.pointers.keys().await.context("list the pointers")?;
        names.try_collect().await.context("list the pointers")
    }

    /// The manifest that a key's pointer names.
    pub async fn manifest(&self, key: &str) -> Result<Value> {
        let digest = self.pointers.get(format!("{POINTER}{key}")).await;
        let digest = digest
            .context("read a pointer")?
            .with_context(|| format!("{key} is not published"))?;
        let digest = String::from_utf8(digest.to_vec()).context("a digest is ASCII")?;
        let bytes = self.object(&named("manifest", &digest)).await?;
        serde_json::from_slice(&bytes).context("read a manifest")
    }

    /// The names of the chunks of a key.
    pub async fn chunks(&self, key: &str) -> Result<BTreeSet<String>> {
        Ok(self.chunk_sizes(key).await?.into_keys().collect())
    }

    /// The chunks of a key, each once, with the bytes that it takes in the bucket.
    pub async fn chunk_sizes(&self, key: &str) -> Result<BTreeMap<String, u64>> {
        let manifest = self.manifest(key).await?;
        let files = manifest["files"].as_array().context("files")?;
        let chunks = files.iter().filter_map(|file| file["chunks"].as_array());
        let sizes = chunks.flatten().map(|chunk| {
            // Its index in the file, its digest, and the length of its object.
            let digest = chunk[1].as_str().context("a chunk has a digest")?;
            let size = chunk[2].as_u64();
            Ok((named("chunk", digest), size.context("a chunk has a size")?))
        });
        sizes.collect()
    }

    /// The chunks of a published key that are not there.
    pub async fn missing(&self, key: &str) -> Result<Vec<String>> {
        let there = self.all_chunks().await?;
        let named = self.chunks(key).await?;
        Ok(named.difference(&there).cloned().collect())
    }

    /// Looks at each snapshot that is published from now on, until it is asked what it found.
    pub async fn inspect(&self) -> Result<Inspection> {
        let watch = self.pointers.watch(format!("{POINTER}>")).await;
        let mut watch = watch.context("watch the pointers")?;
        let before = self.keys().await?;
        let findings = Arc::new(Mutex::new(Findings::default()));
        let (snapshots, found) = (self.clone(), Arc::clone(&findings));
        let looking = tokio::spawn(async move {
            while let Some(entry) = watch.next().await {
                snapshots.look(entry, &found).await;
            }
        });
        Ok(Inspection {
            snapshots: self.clone(),
            looking,
            findings,
            before,
        })
    }

    /// Looks at what a pointer leads to that was just put.
    async fn look(&self, entry: Result<kv::Entry, kv::WatcherError>, found: &Mutex<Findings>) {
        let (key, problem) = match entry {
            Ok(entry) if entry.operation == Operation::Put => {
                let key = entry.key.trim_start_matches(POINTER).to_owned();
                let problem = self.problem(&key).await;
                (Some(key), problem)
            }
            Ok(_gone) => (None, None),
            Err(error) => (None, Some(format!("watch the pointers: {error}"))),
        };
        let mut found = found.lock().expect("nobody panics with it");
        found.looked_at.extend(key);
        found.problems.extend(problem);
    }

    async fn problem(&self, key: &str) -> Option<String> {
        match self.missing(key).await {
            Ok(missing) if missing.is_empty() => None,
            Ok(missing) => Some(format!("{key} was published without {missing:?}")),
            Err(error) => Some(format!("{key} was published: {error:#}")),
        }
    }

    /// The names of all chunks of all snapshots.
    pub async fn all_chunks(&self) -> Result<BTreeSet<String>> {
        let listing = self.s3.list_objects_v2().bucket(BUCKET).prefix("chunk/");
        let mut pages = listing.into_paginator().send();
        let mut found = BTreeSet::new();
        while let Some(page) = pages.try_next().await.context("list the chunks")? {
            let names = page.contents().iter().filter_map(|object| object.key());
            found.extend(names.map(str::to_owned));
        }
        Ok(found)
    }

    /// The bytes of an object, by its name in the bucket.
    pub async fn object(&self, name: &str) -> Result<Vec<u8>> {
        let object = self.s3.get_object().bucket(BUCKET).key(name).send();
        // Boxed, since the futures of an AWS client are large.
        let object = Box::pin(object)
            .await
            .with_context(|| format!("open {name}"))?;
        let body = object.body.collect().await;
        Ok(body.with_context(|| format!("read {name}"))?.to_vec())
    }

    /// Replaces an object.
    pub async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        let object = self.s3.put_object().bucket(BUCKET).key(name);
        let storing = object.body(ByteStream::from(bytes)).send();
        Box::pin(storing)
            .await
            .with_context(|| format!("store {name}"))?;
        Ok(())
    }
}

impl Inspection {
    /// What was found once everything was looked at that is published by now. Fails where nobody looks any more.
    pub async fn findings(&self) -> Result<Findings> {
        let published = self.snapshots.keys().await?;
        wait::until("a look at every snapshot", LOOK_DEADLINE, async || {
            ensure!(!self.looking.is_finished(), "the watch has ended");
            let findings = self.findings.lock().expect("nobody panics with it");
            let mut new = published.difference(&self.before);
            let all = new.all(|key| findings.looked_at.contains(key));
            Ok(all.then(|| findings.clone()))
        })
        .await
    }
}

impl Drop for Inspection {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

/// The name of an object, as the store's documentation draws it.
fn named(folder: &str, digest: &str) -> String {
    format!("{folder}/{}/{digest}", &digest[..2.min(digest.len())])
}
