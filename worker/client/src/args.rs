//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use bus::nats::{DEFAULT_URL, Login, NatsConfig};
use bus::objects::{Buckets, ObjectsConfig};
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Parser, Subcommand};
use schemas::digest::GitCommit;
use schemas::https::HttpsUri;
use schemas::job::OnMissing;
use schemas::source::{ArchiveUri, GitRef};
use schemas::{EnvName, HostClass, JobSubject, Priority, Sha256Digest, Token, Trust};

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
    /// Keys of published snapshots, or their first digits if these are enough.
    #[arg(value_name = "KEY", num_args = 0..=2)]
    pub(crate) keys: Vec<String>,

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

/// Where the servers are.
#[derive(Debug, clap::Args)]
pub(crate) struct Servers {
    /// The NATS server.
    #[arg(long, env = "SOURDOUGH_NATS_URL", default_value = DEFAULT_URL, hide_env_values = true, value_name = "URL")]
    nats: String,

    /// A file with the seed of our nkey.
    #[arg(
        long,
        env = "SOURDOUGH_NATS_NKEY_FILE",
        value_name = "FILE",
        conflicts_with = "nats_credentials"
    )]
    nats_nkey: Option<PathBuf>,

    /// A file with our NATS credentials.
    #[arg(long, env = "SOURDOUGH_NATS_CREDENTIALS_FILE", value_name = "FILE")]
    nats_credentials: Option<PathBuf>,

    /// What our NATS inboxes start with.
    #[arg(long, env = "SOURDOUGH_NATS_INBOX_PREFIX", value_name = "PREFIX")]
    nats_inbox_prefix: Option<String>,

    /// The S3 server; Amazon's where none is given. Credentials and region come from AWS_* or a profile.
    #[arg(long, env = "AWS_ENDPOINT_URL_S3", value_name = "URL")]
    s3_endpoint: Option<String>,

    /// The bucket for sources.
    #[arg(
        long,
        env = "SOURDOUGH_SOURCE_BUCKET",
        default_value = "build-sources",
        value_name = "NAME"
    )]
    source_bucket: String,
}

/// `[NAME: ]REST`. A colon and a space: a shell command may well start with `NAME=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// The name, where one is given.
    pub(crate) name: Option<Token>,
    /// What is named.
    pub(crate) rest: String,
}

/// `NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair<N> {
    /// What stands before the first `=`.
    pub(crate) name: N,
    /// What stands after it.
    pub(crate) value: String,
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

impl Servers {
    /// How to reach NATS.
    pub(crate) fn nats(&self) -> NatsConfig {
        let nkey = self.nats_nkey.clone().map(Login::NkeyFile);
        let credentials = self.nats_credentials.clone().map(Login::CredentialsFile);
        NatsConfig {
            url: self.nats.clone(),
            login: nkey.or(credentials),
            inbox_prefix: self.nats_inbox_prefix.clone(),
        }
    }

    /// How to reach S3.
    pub(crate) fn objects(&self) -> ObjectsConfig {
        let buckets = Buckets {
            sources: self.source_bucket.clone(),
            ..Buckets::default()
        };
        ObjectsConfig {
            endpoint: self.s3_endpoint.clone(),
            buckets,
            ..ObjectsConfig::default()
        }
    }
}

impl FromStr for Named {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = text
            .split_once(": ")
            .and_then(|(name, rest)| Some((Token::parse(name).ok()?, rest)));
        Ok(match named {
            Some((name, rest)) => Self {
                name: Some(name),
                rest: rest.trim().to_owned(),
            },
            None => Self {
                name: None,
                rest: text.to_owned(),
            },
        })
    }
}

impl<N: FromStr<Err: std::fmt::Display>> FromStr for Pair<N> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
        let name = name.parse().map_err(|error: N::Err| error.to_string())?;
        Ok(Self {
            name,
            value: value.to_owned(),
        })
    }
}

fn archive_uri(text: &str) -> Result<ArchiveUri, String> {
    ArchiveUri::try_from(text.to_owned()).map_err(|error| error.to_string())
}

/// The words of messages.
fn on_missing() -> impl clap::builder::TypedValueParser<Value = OnMissing> {
    PossibleValuesParser::new(["bake", "cold", "fail"]).map(|word| {
        let value = serde_json::Value::String(word);
        serde_json::from_value(value).expect("each of these is a word of messages")
    })
}

#[cfg(test)]
mod tests;
