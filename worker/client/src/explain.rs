//! `sourdough env explain`: the parts of a snapshot key, or which parts two keys do not share.

mod shown;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use async_nats::jetstream::{self, kv};
use bus::nats;
use bus::objects::Objects;
use bus::retry::Policy;
use futures_util::TryStreamExt as _;
use schemas::names::{bucket, environment_key};
use schemas::{Environment, HostClass, KeyPrefix, Sha256Digest, Token, WorkerState};
use store::{CacheConfig, KeyParts, Manifest, Store};

use crate::args::Explain;
use crate::definition::inline;
use crate::git::Head;
use crate::inputs;
use crate::interrupt::Interrupt;
use crate::server::GIVE_UP_AFTER;
use shown::{show_one, show_two};

/// Does it all, and gives the code to exit with.
pub(crate) async fn run(explain: &Explain, interrupt: &mut Interrupt) -> anyhow::Result<ExitCode> {
    interrupt.or(Box::pin(explained(explain))).await?;
    Ok(ExitCode::SUCCESS)
}

async fn explained(explain: &Explain) -> anyhow::Result<()> {
    let servers = Servers::connect(explain).await?;
    match explain.keys.as_slice() {
        [] => show_one(explain, &servers.of_directory(explain).await?),
        [key] => show_one(explain, &servers.of_key(key).await?),
        [first, second] => {
            let (first, second) = (servers.of_key(first).await?, servers.of_key(second).await?);
            show_two(explain, &first, &second)
        }
        _ => bail!("at most two keys are compared"),
    }
}

/// A key with its parts.
struct Explained {
    key: Sha256Digest,
    parts: KeyParts,
    /// The digest of the manifest of its snapshot; none where it is not baked.
    snapshot: Option<Sha256Digest>,
}

/// What answers.
struct Servers {
    jetstream: jetstream::Context,
    store: Store,
    /// Where the store would keep snapshots. Only manifests are read, so it stays empty.
    _cache: tempfile::TempDir,
}

impl Servers {
    async fn connect(explain: &Explain) -> anyhow::Result<Self> {
        let policy = Policy::up_to(GIVE_UP_AFTER);
        let client = nats::connect_within(&explain.servers.nats(), "sourdough", policy).await?;
        let jetstream = jetstream::new(client);
        let mut config = explain.servers.objects();
        config
            .buckets
            .snapshots
            .clone_from(&explain.snapshot_bucket);
        let objects = Objects::connect(&config).await?;
        objects.wait_ready_within(policy).await?;
        let snapshots = open(&jetstream, bucket::SNAPSHOTS).await?;
        let cache = tempfile::tempdir().context("make a directory")?;
        let config = CacheConfig {
            directory: cache.path().to_owned(),
            max_bytes: 0,
        };
        Ok(Self {
            jetstream,
            store: Store::open(objects, snapshots, config).await?,
            _cache: cache,
        })
    }

    /// The key of an environment for what is committed in a directory, as a worker computes it.
    async fn of_directory(&self, explain: &Explain) -> anyhow::Result<Explained> {
        let environment = self.environment(explain).await?;
        let (dir, declared) = (explain.dir.clone(), environment.inputs.clone());
        let digests =
            tokio::task::spawn_blocking(move || inputs::digests(&Head::of(&dir)?, &declared));
        let digests = digests.await.context("read the inputs")??;
        let class = match &explain.class {
            Some(class) => class.clone(),
            None => one_class(&self.workers().await?)?,
        };
        let template = self.template(&class, &environment.template).await?;
        let (tenant, trust) = (&explain.domain.owner.tenant, explain.domain.trust);
        let parts = KeyParts::environment(tenant, trust, &template, &environment, digests);
        let key = parts.key();
        Ok(Explained {
            snapshot: self.store.find(&key).await?,
            key,
            parts,
        })
    }

    async fn environment(&self, explain: &Explain) -> anyhow::Result<Environment> {
        if let Some(file) = &explain.environment.file {
            return Ok(inline(file)?);
        }
        let tenant = &explain.domain.owner.tenant;
        let name = explain.environment.name.as_ref();
        let name = name.context("name a key, or an environment with --environment")?;
        let definitions = open(&self.jetstream, bucket::ENVIRONMENTS).await?;
        let body = definitions.get(environment_key(tenant, name)).await?;
        let body = body.with_context(|| format!("tenant {tenant} has no environment {name}"))?;
        Environment::parse(&body).with_context(|| format!("the definition of environment {name}"))
    }

    async fn template(&self, class: &HostClass, name: &Token) -> anyhow::Result<Manifest> {
        let missing = || {
            format!(
                "template {name} is not baked for class {class}, and without its key there is none of the environment"
            )
        };
        let key = self.store.template_key(class, name).await?;
        let digest = self.store.find(&key.with_context(missing)?).await?;
        Ok(self.store.manifest(&digest.with_context(missing)?).await?)
    }

    async fn workers(&self) -> anyhow::Result<BTreeMap<HostClass, u32>> {
        let workers = open(&self.jetstream, bucket::WORKERS).await?;
        let names: Vec<String> = workers.keys().await?.try_collect().await?;
        let mut classes = BTreeMap::new();
        for name in names {
            // One that went meanwhile counts no more, and neither does what is no worker's word.
            let Some(body) = workers.get(name).await? else {
                continue;
            };
            if let Ok(worker) = WorkerState::parse(&body) {
                *classes.entry(worker.class).or_default() += 1;
            }
        }
        Ok(classes)
    }

    /// The snapshot whose key begins so.
    async fn of_key(&self, prefix: &KeyPrefix) -> anyhow::Result<Explained> {
        let published = self.store.list().await?;
        let (key, digest) = one_key(prefix, &published)?;
        let manifest = self.store.manifest(&digest).await?;
        Ok(Explained {
            key,
            parts: manifest.parts,
            snapshot: Some(digest),
        })
    }
}

async fn open(jetstream: &jetstream::Context, name: &str) -> anyhow::Result<kv::Store> {
    let opened = jetstream.get_key_value(name).await;
    opened.with_context(|| format!("open the bucket {name}: was `bakery init` run on this server?"))
}

/// The one class of all workers that are alive.
fn one_class(alive: &BTreeMap<HostClass, u32>) -> anyhow::Result<HostClass> {
    let mut classes = alive.keys();
    match (classes.next(), classes.next()) {
        (Some(class), None) => Ok(class.clone()),
        (None, _) => {
            bail!("no worker is alive, so the class of its host is not known: give --class")
        }
        (Some(_), Some(_)) => {
            let each: Vec<_> = alive
                .iter()
                .map(|(class, workers)| format!("{class} ({workers})"))
                .collect();
            bail!(
                "workers of several classes are alive, give one with --class: {}",
                each.join(", ")
            )
        }
    }
}

/// The one published key that begins with `prefix`, and its manifest.
fn one_key(
    prefix: &KeyPrefix,
    published: &[(Sha256Digest, Sha256Digest)],
) -> anyhow::Result<(Sha256Digest, Sha256Digest)> {
    let begins = |(key, _): &&(Sha256Digest, Sha256Digest)| prefix.begins(key);
    let found: Vec<_> = published.iter().filter(begins).collect();
    match found[..] {
        [one] => Ok(*one),
        [] => bail!(
            "no snapshot has a key that begins with {prefix}: `bakery list` shows those there are"
        ),
        _ => bail!(
            "{} snapshots have a key that begins with {prefix}: give more digits",
            found.len()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_first_digits_if_they_are_its_alone() {
        let keys = ["a", "b", "c"].map(|text| (Sha256Digest::of(text), Sha256Digest::of("m")));
        let whole = keys[0].0.to_string();
        let prefix = |text: &str| text.parse::<KeyPrefix>().unwrap();
        for text in [whole.as_str(), &whole[..6], &format!("sha256:{whole}")] {
            assert_eq!(one_key(&prefix(text), &keys).unwrap().0, keys[0].0);
        }
        let said = |text: &str, keys: &[_]| one_key(&prefix(text), keys).unwrap_err().to_string();
        assert!(said("000000", &keys).contains("no snapshot"));
        assert!(said(&whole[..8], &[keys[0], keys[0]]).starts_with("2 snapshots"));
    }

    #[test]
    fn the_class_is_that_of_the_workers_if_they_have_one() {
        let class = |text: &str| text.parse::<HostClass>().unwrap();
        let one = BTreeMap::from([(class("qemu-a"), 2)]);
        assert_eq!(one_class(&one).unwrap(), class("qemu-a"));
        let said = |alive| one_class(&alive).unwrap_err().to_string();
        assert!(said(BTreeMap::new()).contains("--class"));
        let two = BTreeMap::from([(class("qemu-a"), 2), (class("qemu-b"), 1)]);
        assert!(said(two).ends_with("qemu-a (2), qemu-b (1)"));
    }
}
