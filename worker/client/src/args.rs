//! The command line.

mod servers;
mod values;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use schemas::digest::GitCommit;
use schemas::https::HttpsUri;
use schemas::job::OnMissing;
use schemas::source::{ArchiveUri, GitRef};
use schemas::{EnvName, HostClass, JobSubject, KeyPrefix, Priority, Sha256Digest, Token, Trust};

pub(crate) use servers::Servers;
pub(crate) use values::{Named, Pair};
use values::{archive_uri, on_missing};

/// Hermetic builds in forked microVMs.
#[derive(Debug, Parser)]
#[command(name = "sourdough", version)]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build what is committed in a directory, or a commit of a repository, or an archive.
    ///
    /// For a directory, packs the tree of HEAD, uploads it under its digest and publishes a job. What is not committed is not built.
    Submit(Box<Submit>),

    /// Environments.
    #[command(subcommand)]
    Env(Env),
}

/// What to do with environments.
#[derive(Debug, Subcommand)]
pub(crate) enum Env {
    /// Print each part of a snapshot key; of two keys, the parts that differ.
    ///
    /// Without a key: the key that an environment has for what is committed in a directory, computed as a worker computes it.
    Explain(Box<Explain>),
}

/// Print each part of a snapshot key; of two keys, the parts that differ.
#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    /// Keys of published snapshots, or their first six digits or more, if these are enough.
    #[arg(value_name = "KEY", num_args = 0..=2)]
    pub(crate) keys: Vec<KeyPrefix>,

    #[command(flatten)]
    pub(crate) environment: MaybeEnvironment,

    /// The directory that the inputs are taken from, as they are committed.
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// The class of hosts; that of the workers where they have one.
    #[arg(long, value_name = "CLASS")]
    pub(crate) class: Option<HostClass>,

    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) domain: Domain,

    /// The bucket for snapshots.
    #[arg(
        long,
        env = "SOURDOUGH_SNAPSHOT_BUCKET",
        default_value = "build-snapshots",
        value_name = "NAME"
    )]
    pub(crate) snapshot_bucket: String,

    #[command(flatten)]
    pub(crate) servers: Servers,
}

/// Which environment, if no key is given.
#[derive(Debug, clap::Args)]
#[group(multiple = false, conflicts_with = "keys")]
pub(crate) struct MaybeEnvironment {
    /// One of the tenant's environments.
    #[arg(long = "environment", value_name = "NAME")]
    pub(crate) name: Option<Token>,

    /// A definition that need not be stored.
    #[arg(long = "environment-file", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// The environment to build in.
#[derive(Debug, clap::Args)]
#[group(multiple = false, required = true)]
pub(crate) struct Environment {
    /// The environment to build in, one of the tenant's.
    #[arg(long = "environment", value_name = "NAME")]
    pub(crate) name: Option<Token>,

    /// A definition of the environment to build in, which goes with the job.
    #[arg(long = "environment-file", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// What is built, where that is no directory.
#[derive(Debug, clap::Args)]
pub(crate) struct Pinned {
    /// A git repository behind https, on a host that the operator allows the tenant.
    #[arg(long, value_name = "URI", requires = "commit", conflicts_with_all = ["dir", "archive_uri"])]
    pub(crate) git: Option<HttpsUri>,

    /// The full id of the commit.
    #[arg(long, value_name = "HASH", requires = "git")]
    pub(crate) commit: Option<GitCommit>,

    /// A branch or tag that leads to the commit, for servers that do not hand out a commit by its id.
    #[arg(long = "ref", value_name = "REF", requires = "git")]
    pub(crate) reference: Option<GitRef>,

    /// Fetch submodules as well, each at the commit that the tree pins.
    #[arg(long, requires = "git")]
    pub(crate) submodules: bool,

    /// A `.tar.zst` in the tenant's part of the source bucket, or behind https.
    #[arg(long, value_name = "URI", requires = "sha256", conflicts_with = "dir", value_parser = archive_uri)]
    pub(crate) archive_uri: Option<ArchiveUri>,

    /// What its bytes hash to.
    #[arg(long, value_name = "DIGEST", requires = "archive_uri")]
    pub(crate) sha256: Option<Sha256Digest>,
}

/// Build what is committed in a directory.
#[derive(Debug, clap::Args)]
pub(crate) struct Submit {
    /// The directory: a git repository, or a folder inside one, which is then the whole source tree.
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub(crate) dir: PathBuf,

    #[command(flatten)]
    pub(crate) pinned: Pinned,

    #[command(flatten)]
    pub(crate) environment: Environment,

    /// What happens where the environment has no snapshot for this source: wait for a bake, run its setup in the job, or fail.
    #[arg(long, default_value = "bake", value_name = "WHAT", value_parser = on_missing())]
    pub(crate) on_missing: OnMissing,

    /// A shell command, as "make build"; with a name, as "test: npm test". Repeat for more; they run in order.
    #[arg(
        long = "step",
        value_name = "[NAME: ]COMMAND",
        default_value = "make build"
    )]
    pub(crate) steps: Vec<Named>,

    /// Files to read out afterwards, as "dist/**"; with a name, as "dist: dist/**". No match is a failure. Repeat for more.
    #[arg(long = "artifact", value_name = "[NAME: ]GLOB")]
    pub(crate) artifacts: Vec<Named>,

    /// A variable for every step.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub(crate) env: Vec<Pair<EnvName>>,

    /// A note of your own, kept with the job.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub(crate) labels: Vec<Pair<String>>,

    /// Seconds that all steps together may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    pub(crate) timeout: u32,

    /// Follow the log, and exit as the build did.
    #[arg(long)]
    pub(crate) wait: bool,

    /// Print the result as JSON on standard output, and the log on standard error. Implies --wait.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) queue: Queue,

    #[command(flatten)]
    pub(crate) servers: Servers,
}

/// Where in the queue the job goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Queue {
    #[command(flatten)]
    domain: Domain,

    /// The set of workers.
    #[arg(
        long,
        env = "SOURDOUGH_POOL",
        default_value = "default",
        value_name = "NAME"
    )]
    pool: Token,

    /// 0 (first) to 9.
    #[arg(long, default_value_t = Priority::default(), value_name = "DIGIT")]
    priority: Priority,
}

/// Who asks: snapshots are of one tenant and one trust.
#[derive(Debug, clap::Args)]
pub(crate) struct Domain {
    /// The tenant.
    #[arg(
        long,
        env = "SOURDOUGH_TENANT",
        default_value = "default",
        value_name = "NAME"
    )]
    pub(crate) tenant: Token,

    /// How far the source's author is trusted: trusted or untrusted.
    #[arg(
        long,
        env = "SOURDOUGH_TRUST",
        default_value = "untrusted",
        value_name = "TRUST"
    )]
    pub(crate) trust: Trust,
}

impl Queue {
    /// The subject that the job is published to.
    pub(crate) fn subject(&self) -> JobSubject {
        JobSubject {
            pool: self.pool.clone(),
            trust: self.domain.trust,
            priority: self.priority,
            tenant: self.domain.tenant.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
