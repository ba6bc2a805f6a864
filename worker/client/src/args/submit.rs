//! Flags of `sourdough submit`: what is built, in what, how, and where in the queue it goes.

use std::path::PathBuf;

use schemas::digest::GitCommit;
use schemas::https::HttpsUri;
use schemas::job::{OnMissing, Retry, Timeouts};
use schemas::source::{ArchiveUri, GitRef};
use schemas::{EnvName, JobSubject, Priority, Sha256Digest, Token};

use super::values::{Named, Pair, archive_uri, on_missing};
use super::{Domain, Servers};
use crate::traceparent::Traceparent;

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

    /// Build the directory as it stands: what is changed, deleted or new as well, but for what `.gitignore` names.
    #[arg(long, conflicts_with_all = ["git", "archive_uri"])]
    pub(crate) dirty: bool,

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

    /// Seconds that the job may wait for a worker; longer, and it ends with `queue_expired`.
    #[arg(long, value_name = "SECONDS", default_value_t = Timeouts::default().queue_s)]
    pub(crate) queue_timeout: u32,

    /// How often the job is tried, the first time included, where its hosts fail. A build that fails is never tried again.
    #[arg(long, value_name = "NUMBER", default_value_t = Retry::default().max_attempts)]
    pub(crate) max_attempts: u32,

    /// The trace that the job belongs to, as W3C Trace Context writes it: `00-<32 hex>-<16 hex>-<2 hex>`. Without this flag it is what the
    /// variable TRACEPARENT holds, unless that is no trace.
    #[arg(long, value_name = "TRACEPARENT")]
    pub(crate) traceparent: Option<Traceparent>,

    /// Follow the log, and exit as the build did. An interrupt ends the waiting only, and says how to come back.
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

impl Queue {
    /// The subject that the job is published to.
    pub(crate) fn subject(&self) -> JobSubject {
        JobSubject {
            pool: self.pool.clone(),
            trust: self.domain.trust,
            priority: self.priority,
            tenant: self.domain.owner.tenant.clone(),
        }
    }
}
