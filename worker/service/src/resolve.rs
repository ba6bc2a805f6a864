//! Finds what a job needs before a VM is started: its environment, its source, the snapshot that fits both.
//!
//! What always holds: the inputs' digests come from the job's own source, so a job never runs on a snapshot of another
//! lockfile; an exact key or nothing.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;
use schemas::Source;
use schemas::environment::Environment;
use schemas::job::Job;
use schemas::names::environment_key;
use schemas::reason::Reason;
use schemas::{Token, TreePath, Trust};
use source::{Archive, Limits};
use store::{KeyParts, NoProgress, Snapshot, StoreError};
use vm::SnapshotFiles;

use crate::services::Services;
use crate::verdict::Verdict;

/// All that a job needs.
#[derive(Debug)]
pub struct Resolved {
    /// Its environment, as defined now.
    pub environment: Environment,
    /// Its source.
    pub archive: Archive,
    /// The source's time, in seconds since the Unix epoch: what every file and `SOURCE_DATE_EPOCH` say.
    pub epoch: i64,
    /// What to fork.
    pub snapshot: Snapshot,
    /// The same, as a driver takes it.
    pub files: SnapshotFiles,
}

impl Resolved {
    /// The files that the snapshot has already.
    pub fn inputs(&self) -> BTreeSet<TreePath> {
        self.environment.inputs.iter().cloned().collect()
    }
}

/// Finds all of it. `scratch` holds the unpacked source for as long as the [`Archive`] lives.
pub async fn resolve(
    services: &Services,
    tenant: &Token,
    trust: Trust,
    job: &Job,
    scratch: &Path,
) -> Result<Resolved, Verdict> {
    let environment = environment(services, tenant, job.environment.name()).await?;
    let Source::Archive(source) = &job.source else {
        todo!()
    };
    let archive = source::fetch_archive(
        &services.objects,
        source,
        tenant,
        &Limits::default(),
        scratch,
    )
    .await
    .map_err(|error| Verdict::from(&error))?;
    let inputs = archive
        .input_digests(&environment.inputs)
        .await
        .map_err(|error| Verdict::from(&error))?;
    let store = &services.store;
    let template = template(services, &environment).await?;
    let key = KeyParts::environment(tenant, trust, &template, &environment, inputs).key();
    let snapshot = match store.fetch(&key, &NoProgress).await {
        Ok(snapshot) => snapshot,
        Err(StoreError::NotFound { .. }) => {
            let message = format!(
                "environment {} has no snapshot for this source (key sha256:{key}, class {}): bake it",
                environment.name, services.class
            );
            return Err(Verdict::new(Reason::SnapshotUnavailable, message));
        }
        Err(error) => return Err(Verdict::from(&error)),
    };
    let files = SnapshotFiles::open(&snapshot.dir).map_err(|error| Verdict::from(&error))?;
    let epoch = archive.newest_mtime().min(Timestamp::now().as_second());
    Ok(Resolved {
        environment,
        archive,
        epoch,
        snapshot,
        files,
    })
}

async fn environment(
    services: &Services,
    tenant: &Token,
    name: &Token,
) -> Result<Environment, Verdict> {
    let found = services
        .environments
        .get(environment_key(tenant, name))
        .await;
    let body = found.map_err(|error| Verdict::host(Reason::HostFailed, &error))?;
    let unknown = || {
        Verdict::new(
            Reason::UnknownEnvironment,
            format!("tenant {tenant} has no environment {name}"),
        )
    };
    Environment::parse(&body.ok_or_else(unknown)?)
        .map_err(|error| Verdict::host(Reason::HostFailed, &error))
}

/// The manifest of the environment's template, as it is baked for this class now.
async fn template(
    services: &Services,
    environment: &Environment,
) -> Result<store::Manifest, Verdict> {
    let (store, name) = (&services.store, &environment.template);
    let missing = || {
        let message = format!("template {name} is not baked for class {}", services.class);
        Verdict::new(Reason::SnapshotUnavailable, message)
    };
    let key = store
        .template_key(&services.class, name)
        .await
        .map_err(|error| Verdict::from(&error))?;
    let digest = store
        .find(&key.ok_or_else(missing)?)
        .await
        .map_err(|error| Verdict::from(&error))?;
    store
        .manifest(&digest.ok_or_else(missing)?)
        .await
        .map_err(|error| Verdict::from(&error))
}
