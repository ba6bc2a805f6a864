//! Finds what a job needs before its VM is started: its environment, and the snapshot that fits its source.
//!
//! What always holds: the inputs' digests come from the job's own source, so a job never runs on a snapshot of another
//! lockfile; an exact key or nothing.

mod fork;
mod size;
mod templates;

use std::collections::BTreeSet;

use jiff::Timestamp;
use schemas::environment::Environment;
use schemas::job::OnMissing;
use schemas::names::environment_key;
use schemas::reason::Reason;
use schemas::result::Start;
use schemas::{EnvironmentChoice, HostClass, Sha256Digest, Token, TreePath, Trust};
use source::Archive;
use store::Snapshot;
use vm::SnapshotFiles;

use self::fork::{Absent, Found};
pub use self::templates::Templates;
use crate::presence::InUse;
use crate::services::Services;
use crate::verdict::Verdict;

/// What was found.
#[derive(Debug)]
pub enum Resolution {
    /// All that the job needs.
    Ready(Box<Resolved>),
    /// There is no snapshot, and the job waits for one.
    Missing(Box<Missing>),
}

/// All that a job needs.
#[derive(Debug)]
pub struct Resolved {
    /// Its environment, as defined now.
    pub environment: Environment,
    /// Its source.
    pub archive: Archive,
    /// The source's time, in seconds since the Unix epoch: what every file and `SOURCE_DATE_EPOCH` say.
    pub epoch: i64,
    /// The key of the environment for this source.
    pub key: Sha256Digest,
    /// Whether `snapshot` is the environment's, or the template's and the setup has yet to run.
    pub start: Start,
    /// What to fork.
    pub snapshot: Snapshot,
    /// The same, as a driver takes it.
    pub files: SnapshotFiles,
    /// Says that the snapshot is in use for as long as this lives.
    _in_use: InUse,
}

/// What a job waits for.
#[derive(Clone, Debug, PartialEq)]
pub struct Missing {
    /// For which hosts.
    pub class: HostClass,
    /// How far the job's author is trusted.
    pub trust: Trust,
    /// Its environment, as defined when it was looked for.
    pub environment: Environment,
    /// Which snapshot.
    pub wanted: Wanted,
    /// The key of the template's snapshot, where that is there.
    pub template: Option<Sha256Digest>,
}

/// A snapshot that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The environment's, by its key.
    Key(Sha256Digest),
    /// That of the environment's template, without which there is no key. What its pointer leads to, if that is there no more.
    Template {
        /// The template.
        name: Token,
        /// The key that its pointer has, of a snapshot that is gone.
        gone: Option<Sha256Digest>,
    },
}

/// Where and for whom a snapshot is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Domain<'a> {
    /// Whose job it is.
    pub tenant: &'a Token,
    /// How far its author is trusted.
    pub trust: Trust,
}

impl Resolved {
    /// The files that the guest has already when the source is put in.
    pub fn inputs(&self) -> BTreeSet<TreePath> {
        self.environment.inputs.iter().cloned().collect()
    }
}

/// The environment that a job names, or has with it.
pub async fn environment(
    services: &Services,
    tenant: &Token,
    choice: &EnvironmentChoice,
) -> Result<Environment, Verdict> {
    let name = match choice {
        EnvironmentChoice::Named(named) => &named.name,
        EnvironmentChoice::Inline(environment) => return Ok((**environment).clone()),
    };
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
    Environment::parse(&body.ok_or_else(unknown)?).map_err(|error| {
        let message = format!("environment {name} of tenant {tenant} cannot be used: {error}");
        Verdict::new(Reason::UnknownEnvironment, message)
    })
}

/// The snapshot of `environment` for `archive`; where there is none, what `on_missing` asks for.
pub async fn snapshot(
    services: &Services,
    domain: Domain<'_>,
    environment: Environment,
    archive: Archive,
    on_missing: OnMissing,
) -> Result<Resolution, Verdict> {
    let inputs = archive.input_digests(&environment.inputs).await;
    let inputs = inputs.map_err(|error| Verdict::from(&error))?;
    let fork = match fork::choose(services, domain, &environment, inputs, on_missing).await? {
        Found::There(fork) => fork,
        Found::Not(absent) => {
            return missing(services, domain.trust, environment, absent, on_missing);
        }
    };
    let (fork, fetched) = match fork::fetch(services, fork, &environment.template).await? {
        Found::There(fetched) => fetched,
        Found::Not(absent) => {
            return missing(services, domain.trust, environment, absent, on_missing);
        }
    };
    let epoch = archive.newest_mtime().min(Timestamp::now().as_second());
    Ok(Resolution::Ready(Box::new(Resolved {
        environment,
        archive,
        epoch,
        key: fork.key,
        start: fork.start,
        snapshot: fetched.snapshot,
        files: fetched.files,
        _in_use: fetched.in_use,
    })))
}

/// What becomes of a job without a snapshot. Nobody waits for a template but who waits for a bake.
fn missing(
    services: &Services,
    trust: Trust,
    environment: Environment,
    absent: Absent,
    on_missing: OnMissing,
) -> Result<Resolution, Verdict> {
    match on_missing {
        OnMissing::Bake => Ok(Resolution::Missing(Box::new(Missing {
            class: services.class.clone(),
            trust,
            environment,
            wanted: absent.wanted,
            template: absent.template,
        }))),
        OnMissing::Cold => {
            let verdict = unavailable(&services.class, &environment, &absent.wanted);
            Err(match absent.wanted {
                // It went a moment ago: the next attempt starts from the template.
                Wanted::Key(_) => verdict,
                Wanted::Template { .. } => verdict.for_good(),
            })
        }
        OnMissing::Fail => {
            Err(unavailable(&services.class, &environment, &absent.wanted).for_good())
        }
    }
}

fn unavailable(class: &HostClass, environment: &Environment, wanted: &Wanted) -> Verdict {
    let name = &environment.name;
    let message = match wanted {
        Wanted::Key(key) => format!(
            "environment {name} has no snapshot for this source (key sha256:{key}, class {class}), \
             and the job does not wait for its bake"
        ),
        Wanted::Template { name: template, .. } => format!(
            "template {template} of environment {name} is not baked for class {class}, \
             and the job does not wait for bakes"
        ),
    };
    Verdict::new(Reason::SnapshotUnavailable, message)
}
