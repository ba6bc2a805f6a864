//! Sources of every kind, for jobs and for bakes: fetched from wherever they lie, checked, and kept in the object store.
//!
//! ```text
//! archive, s3     ─────────────────────────────────────────────▶ spool ─▶ Archive
//! archive, https  ─ allowed host? ─ in S3 by its digest? ──yes─▶   ▲
//!                                    └──no─▶ download ─▶ S3 ───────┤
//! git             ─ allowed host? ─ pointer and object? ───yes─▶   │
//!                                    └──no─▶ fetch VM ─▶ S3 ───────┘
//! ```
//!
//! What always holds: the operator's list of hosts is asked before a name is resolved or a VM started; whatever is returned lies in the
//! object store under the tenant's prefix, so that whoever needs it next fetches nothing from outside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_nats::jetstream::kv;
use bus::objects::Objects;
use egress::{Resolver, SystemResolver};
use schemas::result::SourceDigests;
use schemas::source::{ArchiveSource, ArchiveUri, Source};
use schemas::{HostClass, Tenant, Token, Trust};
use store::Store;
use vm::Driver;

use crate::archive::Archive;
use crate::config::SourcesConfig;
use crate::error::SourceError;
use crate::fetch::fetch_archive;
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
    pub snapshots: kv::Store,
    /// The bucket [`schemas::names::bucket::TENANTS`]: what the operator allows a tenant.
    pub tenants: kv::Store,
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
}

impl Sources {
    /// Sources from `parts`, with names resolved as this host does.
    pub fn new(parts: SourcesParts) -> Self {
        Self {
            shared: Arc::new(Shared {
                objects: parts.objects,
                snapshots: Box::new(parts.snapshots),
                tenants: Box::new(parts.tenants),
                store: parts.store,
                driver: parts.driver,
                class: parts.class,
                slots: parts.slots,
                config: parts.config,
                resolver: Arc::new(SystemResolver),
            }),
        }
    }

    /// Fetches `source` for a job of `tenant` and `trust`, from wherever it lies, checks it, and makes sure that it lies in the object
    /// store. Its files are in the directory `into`, unnamed, for as long as the archive lives.
    pub async fn fetch(
        &self,
        tenant: &Token,
        _trust: Trust,
        source: &Source,
        into: &Path,
    ) -> Result<Fetched, SourceError> {
        match source {
            Source::Archive(archive) => match &archive.uri {
                ArchiveUri::S3(_) => self.stored(tenant, archive, into).await,
                ArchiveUri::Https(_) => todo!(),
            },
            Source::Git(_) => todo!(),
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
            Some(body) => Tenant::parse(&body).map_err(|source| SourceError::Tenant {
                tenant: tenant.clone(),
                source,
            }),
        }
    }

    /// An archive that lies in the object store already.
    async fn stored(
        &self,
        tenant: &Token,
        source: &ArchiveSource,
        into: &Path,
    ) -> Result<Fetched, SourceError> {
        let Shared {
            objects, config, ..
        } = &*self.shared;
        let archive = fetch_archive(objects, source, tenant, &config.limits, into).await?;
        Ok(Fetched {
            archive,
            digest: SourceDigests {
                sha256: source.digest.sha256,
                git_commit: None,
            },
            stored: source.clone(),
        })
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
