//! Sources of every kind, for jobs and for bakes: fetched from wherever they lie, checked, and kept in the object store.
//!
//! ```text
//! archive, s3     ─ read a moment ago? ────────────────no──────▶ spool ─▶ Archive
//! archive, https  ─ allowed host? ─ in S3 by its digest? ──yes─▶   ▲
//!                                    └──no─▶ download ─▶ S3 ───────┤
//! git             ─ allowed host? ─ pointer and object? ───yes─▶   │
//!                                    └──no─▶ fetch VM ─▶ S3 ───────┘
//! ```
//!
//! What always holds: the operator's list of hosts is asked before a name is resolved or a VM started; whatever is returned lies in the
//! object store under the tenant's prefix, or lay there less than a minute ago, so that whoever needs it next fetches nothing from outside.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bus::objects::Objects;
use egress::{Resolver, SystemResolver};
use schemas::guest::{CA_BUNDLE, PROXY_PORT};
use schemas::https::HttpsUri;
use schemas::result::SourceDigests;
use schemas::source::{ArchiveSource, ArchiveUri, Source};
use schemas::{HostClass, ObjectUri, Sha256Digest, Tenant, Token, Trust, names};
use store::Store;
use tokio::time::timeout;
use tracing::info;
use vm::Driver;

use crate::archive::Archive;
use crate::config::SourcesConfig;
use crate::error::SourceError;
use crate::fetch::{self, fetch_archive};
use crate::git::{self, Guest};
use crate::hosts::Hosts;
use crate::https::{self, Client, HttpsProblem};
use crate::locks::Locks;
use crate::recent::Recent;
use crate::spool;
use crate::values::Values;

/// Fetches sources. Clones share everything.
#[derive(Clone)]
pub struct Sources {
    pub(crate) shared: Arc<Shared>,
}

/// What [`Sources`] works with.
pub struct SourcesParts {
    /// Where sources are kept.
    pub objects: Objects,
    /// The bucket [`schemas::names::bucket::SNAPSHOTS`]: which archive was made of a commit.
    pub snapshots: Box<dyn Values>,
    /// The bucket [`schemas::names::bucket::TENANTS`]: what the operator allows a tenant.
    pub tenants: Box<dyn Values>,
    /// Where the template for git sources comes from.
    pub store: Store,
    /// What forks it.
    pub driver: Arc<dyn Driver>,
    /// The class of this host, which decides which of the template's snapshots that is.
    pub class: HostClass,
    /// Directory for the directories of the VMs; made if absent.
    pub slots: PathBuf,
    /// What the operator says.
    pub config: SourcesConfig,
}

/// A source that has been fetched and read.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// What is in it.
    pub archive: Archive,
    /// What it was found to be.
    pub digest: SourceDigests,
    /// Where it lies now: in the object store, under the tenant's prefix.
    pub stored: ArchiveSource,
}

pub(crate) struct Shared {
    pub(crate) objects: Objects,
    pub(crate) snapshots: Box<dyn Values>,
    pub(crate) tenants: Box<dyn Values>,
    pub(crate) store: Store,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) class: HostClass,
    pub(crate) slots: PathBuf,
    pub(crate) config: SourcesConfig,
    pub(crate) resolver: Arc<dyn Resolver>,
    /// How git is spoken to inside its VM.
    pub(crate) guest: Guest,
    /// One fetch of each archive and each commit at a time.
    pub(crate) locks: Locks,
    /// What was read from the object store a moment ago.
    pub(crate) recent: Recent,
}

impl Sources {
    /// Sources from `parts`, with names resolved as this host does.
    pub fn new(parts: SourcesParts) -> Self {
        Self {
            shared: Arc::new(Shared {
                objects: parts.objects,
                snapshots: parts.snapshots,
                tenants: parts.tenants,
                store: parts.store,
                driver: parts.driver,
                class: parts.class,
                slots: parts.slots,
                config: parts.config,
                resolver: Arc::new(SystemResolver),
                guest: Guest {
                    proxy_port: PROXY_PORT,
                    ca_bundle: CA_BUNDLE.to_owned(),
                },
                locks: Locks::default(),
                recent: Recent::default(),
            }),
        }
    }

    /// Fetches `source` for a job of `tenant` and `trust`, from wherever it lies, checks it, and makes sure that it lies in the object
    /// store; a small one that was read from there less than a minute ago is not looked for again. Its files are in the directory `into`,
    /// unnamed, for as long as a clone of the archive lives.
    pub async fn fetch(
        &self,
        tenant: &Token,
        trust: Trust,
        source: &Source,
        into: &Path,
    ) -> Result<Fetched, SourceError> {
        match source {
            Source::Archive(archive) => match &archive.uri {
                ArchiveUri::S3(_) => self.stored(tenant, archive, into).await,
                ArchiveUri::Https(uri) => {
                    let hosts = Hosts::of(&self.tenant(tenant).await?);
                    let wanted = archive.digest.sha256;
                    self.remote(&hosts, tenant, uri, wanted, into).await
                }
            },
            Source::Git(git) => {
                let hosts = Hosts::of(&self.tenant(tenant).await?);
                git::fetch(&self.shared, &hosts, tenant, trust, git, into).await
            }
        }
    }

    /// What the operator allows `tenant`.
    pub async fn tenant(&self, tenant: &Token) -> Result<Tenant, SourceError> {
        let failed = |source| SourceError::Values {
            doing: format!("look up tenant {tenant}"),
            source,
        };
        let body = self.shared.tenants.get(tenant.as_str()).await;
        match body.map_err(failed)? {
            None => Ok(Tenant::unknown(tenant.clone())),
            Some(body) => Tenant::parse(&body.bytes).map_err(|source| SourceError::Tenant {
                tenant: tenant.clone(),
                source,
            }),
        }
    }

    /// Takes away the archives of commits that nobody has fetched for as long as `unused`, of every tenant; returns how many those were.
    ///
    /// `unused` is longer than a job may lie between its fetch and its end, and than the day to which it is known when a commit was
    /// fetched last: 30 days are good. What is fetched again later is made again.
    pub async fn collect_commits(&self, unused: Duration) -> Result<u64, SourceError> {
        git::collect(&self.shared, unused).await
    }

    /// An archive that the job says lies in the object store.
    async fn stored(
        &self,
        tenant: &Token,
        source: &ArchiveSource,
        into: &Path,
    ) -> Result<Fetched, SourceError> {
        let Shared {
            objects,
            config,
            recent,
            ..
        } = &*self.shared;
        let limits = &config.limits;
        let archive = fetch_archive(objects, recent, source, tenant, limits, into).await?;
        Ok(fetched(archive, source.clone()))
    }

    /// An archive behind https: from the object store if it was fetched before, else from there.
    async fn remote(
        &self,
        hosts: &Hosts,
        tenant: &Token,
        uri: &HttpsUri,
        wanted: Sha256Digest,
        into: &Path,
    ) -> Result<Fetched, SourceError> {
        hosts.check(uri)?;
        let Shared {
            objects,
            config,
            locks,
            ..
        } = &*self.shared;
        let key = names::source_object(tenant, &wanted);
        let kept = ObjectUri::new(&objects.buckets().sources, &key);
        let kept = kept.expect("a token and digits are a key");
        let working = Box::pin(async {
            let found = fetch::find(objects, &kept, wanted, &config.limits, into).await?;
            match found {
                Some(file) => Archive::open(file, &config.limits, into).await,
                None => self.download(hosts, uri, wanted, &kept, into).await,
            }
        });
        // By its address as well: that another one is wrong says nothing of this one.
        let name = format!("{kept} {uri}");
        let turn = timeout(https::DEADLINE, locks.turn(&name));
        let late = |_| SourceError::Https {
            uri: uri.clone(),
            source: HttpsProblem::TimedOut("another fetch of it", https::DEADLINE),
        };
        let archive = turn.await.map_err(late)?.take(working).await?;
        let digest = wanted.into();
        let uri = ArchiveUri::S3(kept);
        Ok(fetched(archive, ArchiveSource { uri, digest }))
    }

    /// Fetches an archive and keeps it as `kept`. What cannot be read as an archive is not kept.
    async fn download(
        &self,
        hosts: &Hosts,
        uri: &HttpsUri,
        wanted: Sha256Digest,
        kept: &ObjectUri,
        into: &Path,
    ) -> Result<Archive, SourceError> {
        let Shared {
            objects,
            config,
            resolver,
            ..
        } = &*self.shared;
        let client = Client {
            hosts,
            resolver: &**resolver,
            ca_bundle: &config.ca_bundle,
            limit: config.limits.max_archive_bytes,
        };
        let (file, found) = client.download(uri, into).await?;
        if found != wanted {
            let uri = ArchiveUri::Https(uri.clone());
            return Err(SourceError::Digest { uri, wanted, found });
        }
        let copy = file.try_clone().map_err(SourceError::Spool)?;
        let archive = Archive::open(copy, &config.limits, into).await?;
        spool::upload(objects, &file, kept).await?;
        info!(uri = uri.shown(), digest = %wanted, "archive fetched and kept");
        Ok(archive)
    }
}

fn fetched(archive: Archive, stored: ArchiveSource) -> Fetched {
    Fetched {
        archive,
        digest: SourceDigests {
            sha256: stored.digest.sha256,
            git_commit: None,
        },
        stored,
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Sources")
            .field("class", &self.shared.class)
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
