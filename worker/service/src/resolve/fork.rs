//! Which snapshot is forked: the environment's, or the template's for a cold start.
//!
//! What always holds: a snapshot is said to be in use before it is fetched, so that it is not collected meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemas::environment::Environment;
use schemas::job::OnMissing;
use schemas::result::Start;
use schemas::{Sha256Digest, Token, TreePath};
use store::{KeyParts, Manifest, NoProgress, Snapshot, StoreError};
use tokio::time::timeout;
use tracing::warn;
use vm::SnapshotFiles;

use super::size::Size;
use super::{Domain, Wanted};
use crate::presence::InUse;
use crate::services::Services;
use crate::verdict::Verdict;

/// 5 s for the word that a snapshot is in use, which takes milliseconds. Without it the job goes on: nothing is lost but time if
/// the snapshot is collected at this moment.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// What was looked for, or what is not there of it.
pub(super) enum Found<T> {
    There(T),
    Not(Absent),
}

/// A snapshot that is not there.
pub(super) struct Absent {
    pub(super) wanted: Wanted,
    /// The key of the template's snapshot, where that is there.
    pub(super) template: Option<Sha256Digest>,
}

/// What is to be forked.
pub(super) struct Fork {
    /// The key of the environment for this source.
    pub(super) key: Sha256Digest,
    pub(super) start: Start,
    /// The template's key.
    template: Sha256Digest,
}

/// What is on this disk now.
pub(super) struct Fetched {
    pub(super) snapshot: Snapshot,
    pub(super) files: SnapshotFiles,
    pub(super) in_use: InUse,
}

impl Fork {
    /// The key of the snapshot that is forked.
    fn base(&self) -> Sha256Digest {
        match self.start {
            Start::Fork => self.key,
            Start::Cold => self.template,
        }
    }

    /// What there is not, if that snapshot is gone.
    fn absent(&self, template: &Token) -> Absent {
        match self.start {
            Start::Fork => Absent {
                wanted: Wanted::Key(self.key),
                template: Some(self.template),
            },
            Start::Cold => Absent {
                wanted: Wanted::Template {
                    name: template.clone(),
                    gone: Some(self.template),
                },
                template: None,
            },
        }
    }
}

/// Computes the key, and says which snapshot is to be forked, if a slot is large enough for it.
pub(super) async fn choose(
    services: &Services,
    domain: Domain<'_>,
    environment: &Environment,
    inputs: BTreeMap<TreePath, Sha256Digest>,
    on_missing: OnMissing,
) -> Result<Found<Fork>, Verdict> {
    let template = match template(services, &environment.template).await? {
        Found::There(template) => template,
        Found::Not(absent) => {
            // Nobody bakes what no worker can fork.
            if let Some(size) = Size::of_defined(services, &environment.template).await {
                size.fits(&services.config, environment)?;
            }
            return Ok(Found::Not(absent));
        }
    };
    // An environment's guests are as large as its template's.
    Size::of_baked(&template.parts).fits(&services.config, environment)?;
    let parts = KeyParts::environment(domain.tenant, domain.trust, &template, environment, inputs);
    let key = parts.key();
    let found = services.store.find(&key).await;
    let found = found.map_err(|error| Verdict::from(&error))?;
    let fork = |start| Fork {
        key,
        start,
        template: template.key,
    };
    Ok(match (found, on_missing) {
        (Some(_), OnMissing::Bake | OnMissing::Cold | OnMissing::Fail) => {
            Found::There(fork(Start::Fork))
        }
        (None, OnMissing::Cold) => Found::There(fork(Start::Cold)),
        (None, OnMissing::Bake | OnMissing::Fail) => {
            Found::Not(fork(Start::Fork).absent(&environment.template))
        }
    })
}

/// Fetches it. Said before, to whoever collects: what is in use is not taken away. What went before that was heard is not there.
pub(super) async fn fetch(
    services: &Services,
    fork: Fork,
    template: &Token,
) -> Result<Found<(Fork, Fetched)>, Verdict> {
    let base = fork.base();
    let in_use = services.presence.uses(base);
    if timeout(KNOWN_WITHIN, services.presence.known(&in_use))
        .await
        .is_err()
    {
        warn!(key = %base, "nobody was told that this snapshot is in use");
    }
    let snapshot = match services.store.fetch(&base, &NoProgress).await {
        Ok(snapshot) => snapshot,
        Err(StoreError::NotFound { .. }) => return Ok(Found::Not(fork.absent(template))),
        Err(error) => return Err(Verdict::from(&error)),
    };
    let files = SnapshotFiles::open(&snapshot.dir).map_err(|error| Verdict::from(&error))?;
    let fetched = Fetched {
        snapshot,
        files,
        in_use,
    };
    Ok(Found::There((fork, fetched)))
}

/// The manifest of a template, as it is baked for this class now.
async fn template(services: &Services, name: &Token) -> Result<Found<Arc<Manifest>>, Verdict> {
    let store = &services.store;
    let not = |gone| {
        let name = name.clone();
        Ok(Found::Not(Absent {
            wanted: Wanted::Template { name, gone },
            template: None,
        }))
    };
    let failed = |error: StoreError| Verdict::from(&error);
    let key = store.template_key(&services.class, name).await;
    let Some(key) = key.map_err(failed)? else {
        return not(None);
    };
    let Some(digest) = store.find(&key).await.map_err(failed)? else {
        return not(Some(key));
    };
    let manifest = services.templates.manifest(store, digest).await;
    Ok(Found::There(manifest.map_err(failed)?))
}
