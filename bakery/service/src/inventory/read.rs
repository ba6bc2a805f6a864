//! Reading the inventory from the servers.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::{self, Context, kv};
use bus::nats;
use bus::objects::Objects;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use schemas::bake::RecentBakes;
use schemas::names::{Definition, bucket};
use schemas::worker::WorkerState;
use schemas::{Sha256Digest, Template};
use store::{CacheConfig, Store, StoreError};
use tracing::warn;

use super::{CurrentTemplate, Held, Inventory, Recent};
use crate::config::Config;
use crate::history::Shelf;
use crate::progress_bar::Bar;

/// 16 manifests at a time: each is a small object, and waiting for the server is what takes the time.
const MANIFESTS_AT_ONCE: usize = 16;

/// The servers that know what there is.
pub struct Storehouse {
    /// The store.
    pub store: Store,
    /// The server that it lies on.
    pub jetstream: jetstream::Context,
    snapshots: kv::Store,
    workers: kv::Store,
    definitions: kv::Store,
}

/// Why a key of a bucket cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the key {key} of the bucket {bucket}: {problem}")]
pub struct UnknownKey {
    /// The bucket.
    pub bucket: &'static str,
    /// The key.
    pub key: String,
    /// What is wrong with it or its value.
    pub problem: String,
}

impl Storehouse {
    /// Connects to NATS and S3.
    pub async fn open(config: &Config, name: &str) -> anyhow::Result<Self> {
        let jetstream = jetstream::new(nats::connect(&config.nats, name).await?);
        let objects = Objects::connect(&config.objects).await?;
        objects.wait_ready().await?;
        let snapshots = open(&jetstream, bucket::SNAPSHOTS).await?;
        let cache = CacheConfig {
            directory: config.state.join("cache"),
            max_bytes: config.cache_max_bytes,
        };
        Ok(Self {
            store: Store::open(objects, snapshots.clone(), cache).await?,
            snapshots,
            workers: open(&jetstream, bucket::WORKERS).await?,
            definitions: open(&jetstream, bucket::ENVIRONMENTS).await?,
            jetstream,
        })
    }

    /// Reads all of it. `bar` is told how many manifests have been read.
    pub async fn inventory(&self, bar: &Bar) -> anyhow::Result<Inventory> {
        // Workers last: a snapshot that one of them begins to use meanwhile is then known to be used.
        let pointers = values(&self.snapshots, bucket::SNAPSHOTS).await?;
        let definitions = values(&self.definitions, bucket::ENVIRONMENTS).await?;
        let snapshots = Box::pin(self.snapshots(bar)).await?;
        let workers = values(&self.workers, bucket::WORKERS).await?;
        let mut inventory = Inventory {
            snapshots,
            time_to_live: definitions
                .iter()
                .filter_map(|(key, value)| time_to_live(key, value))
                .collect(),
            ..Inventory::default()
        };
        for (key, value) in &pointers {
            inventory.add_pointer(key, value)?;
        }
        for (key, value) in &workers {
            let worker = WorkerState::parse(value);
            let worker = worker.map_err(|problem| unknown(bucket::WORKERS, key, &problem))?;
            inventory.workers.push(worker);
        }
        Ok(inventory)
    }

    /// Every snapshot with its manifest. One that was collected since its key was listed is none.
    async fn snapshots(&self, bar: &Bar) -> anyhow::Result<BTreeMap<Sha256Digest, Held>> {
        let listed = self.store.list().await?;
        bar.begin("reading manifests", listed.len() as u64);
        let reading = listed.into_iter().map(|(key, digest)| async move {
            let manifest = self.store.manifest(&digest).await;
            bar.one_more();
            match manifest {
                Ok(manifest) => Ok(Some((key, Held { digest, manifest }))),
                Err(_) if self.store.find(&key).await? != Some(digest) => Ok(None),
                Err(StoreError::NoManifest { .. }) => {
                    warn!(%key, manifest = %digest, "a published snapshot has no manifest: nothing can be said of it");
                    Ok(None)
                }
                Err(error) => Err(anyhow::Error::from(error)),
            }
        });
        let read = stream::iter(reading).buffer_unordered(MANIFESTS_AT_ONCE);
        read.try_filter_map(|held| async move { Ok(held) })
            .try_collect()
            .await
    }
}

impl Inventory {
    /// Takes in what a key of the bucket for snapshots says, if it is about what is current or recent.
    fn add_pointer(&mut self, key: &str, value: &[u8]) -> Result<(), UnknownKey> {
        let failed = |problem: String| unknown(bucket::SNAPSHOTS, key, &problem);
        match key.split('.').collect::<Vec<_>>()[..] {
            ["template", class, name] => self.templates.push(CurrentTemplate {
                class: class
                    .parse()
                    .map_err(|problem| failed(format!("{problem}")))?,
                name: name
                    .parse()
                    .map_err(|problem| failed(format!("{problem}")))?,
                key: digest(value).map_err(failed)?,
            }),
            ["recent", class, trust, tenant, environment] => {
                let shelf = Shelf {
                    class: class
                        .parse()
                        .map_err(|problem| failed(format!("{problem}")))?,
                    trust: trust
                        .parse()
                        .map_err(|problem| failed(format!("{problem}")))?,
                    tenant: tenant
                        .parse()
                        .map_err(|problem| failed(format!("{problem}")))?,
                    environment: environment
                        .parse()
                        .map_err(|problem| failed(format!("{problem}")))?,
                };
                let recent = RecentBakes::parse(value);
                let bakes = recent.map_err(|problem| failed(problem.to_string()))?.bakes;
                self.recent.push(Recent { shelf, bakes });
            }
            _ => {}
        }
        Ok(())
    }
}

/// How long the snapshots of a template serve. What is no valid template has none that are baked.
fn time_to_live(key: &str, definition: &[u8]) -> Option<(schemas::Token, Duration)> {
    let Ok(Definition::Template(name)) = key.parse() else {
        return None;
    };
    let template = Template::parse(definition).ok()?;
    Some((name, Duration::from_secs(template.ttl_s)))
}

/// All values of a bucket, by their keys.
async fn values(store: &kv::Store, bucket: &'static str) -> anyhow::Result<Vec<(String, Bytes)>> {
    let failed = || format!("list the bucket {bucket}");
    let keys = store.keys().await.with_context(failed)?;
    let keys: Vec<String> = keys.try_collect().await.with_context(failed)?;
    let mut values = Vec::new();
    for key in keys {
        let value = store.get(&key).await;
        let value = value.with_context(|| format!("read {key} in the bucket {bucket}"))?;
        // It may be gone by now.
        values.extend(value.map(|value| (key, value)));
    }
    values.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    Ok(values)
}

async fn open(jetstream: &Context, bucket: &str) -> anyhow::Result<kv::Store> {
    let opened = jetstream.get_key_value(bucket).await;
    opened
        .with_context(|| format!("open the bucket {bucket}: was `bakery init` run on this server?"))
}

fn digest(value: &[u8]) -> Result<Sha256Digest, String> {
    let text = String::from_utf8_lossy(value);
    text.parse().map_err(|problem| format!("{problem}"))
}

fn unknown(bucket: &'static str, key: &str, problem: &impl ToString) -> UnknownKey {
    UnknownKey {
        bucket,
        key: key.to_owned(),
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_bucket_are_told_apart_and_a_value_that_cannot_be_read_is_named() {
        let mut inventory = Inventory::default();
        let digest = Sha256Digest::of("a").to_string();
        inventory
            .add_pointer(&format!("key.{digest}"), digest.as_bytes())
            .unwrap();
        let class = "fake-1-none-0123abcd";
        let template = format!("template.{class}.node");
        inventory.add_pointer(&template, digest.as_bytes()).unwrap();
        let recent = format!("recent.{class}.untrusted.acme.widget");
        inventory.add_pointer(&recent, br#"{"bakes": []}"#).unwrap();
        assert_eq!(inventory.recent[0].shelf.name(), recent);
        assert_eq!(inventory.templates.last().unwrap().name.as_str(), "node");

        let error = inventory
            .add_pointer(&recent, b"{")
            .unwrap_err()
            .to_string();
        let begins = format!("the key {recent} of the bucket build-snapshots: ");
        assert!(error.starts_with(&begins), "{error}");
    }

    #[test]
    fn a_templates_time_to_live_is_its_definitions() {
        let body = br#"{"name": "node", "base": {"debian": {"suite": "a"}}, "ttl_s": 90}"#;
        let (name, limit) = time_to_live("template.node", body).unwrap();
        assert_eq!((name.as_str(), limit), ("node", Duration::from_secs(90)));
        assert_eq!(time_to_live("environment.acme.node", body), None);
    }
}
