//! Flags of the commands that are about one job: `wait`, `result`, `logs`, `why`, `cancel`.

use schemas::Token;

use super::{Owner, Servers};
use crate::job_name::JobName;

/// Which job, and where it is asked about.
#[derive(Debug, clap::Args)]
pub(crate) struct OneJob {
    /// The job's id, as `submit` prints it, or what its result is filed under.
    #[arg(value_name = "ID")]
    pub(crate) id: Token,

    #[command(flatten)]
    pub(crate) owner: Owner,

    #[command(flatten)]
    pub(crate) servers: Servers,
}

impl OneJob {
    /// Its name.
    pub(crate) fn name(&self) -> JobName {
        JobName {
            tenant: self.owner.tenant.clone(),
            id: self.id.clone(),
        }
    }
}

/// Wait for a job's result.
#[derive(Debug, clap::Args)]
pub(crate) struct Wait {
    #[command(flatten)]
    pub(crate) job: OneJob,

    /// Seconds to wait at most; without it, for as long as it takes.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) timeout: Option<u32>,

    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print a job's result.
#[derive(Debug, clap::Args)]
pub(crate) struct Outcome {
    #[command(flatten)]
    pub(crate) job: OneJob,

    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print a job's log.
#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) job: OneJob,

    /// Follow the live log until the job has a result.
    #[arg(long, short)]
    pub(crate) follow: bool,
}

/// Say where a job stands.
#[derive(Debug, clap::Args)]
pub(crate) struct Why {
    #[command(flatten)]
    pub(crate) job: OneJob,

    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// End a job.
#[derive(Debug, clap::Args)]
pub(crate) struct Cancel {
    #[command(flatten)]
    pub(crate) job: OneJob,

    /// Cancel an id of which nothing is known as well: a job that is published with it within 8 days never runs. Without this, a mistyped
    /// id is told and not kept.
    #[arg(long)]
    pub(crate) even_if_unknown: bool,

    /// Wait for the job's end, and exit as the job did: with 130 where it was cancelled.
    #[arg(long)]
    pub(crate) wait: bool,

    /// Print JSON: the answer, or with --wait the result.
    #[arg(long)]
    pub(crate) json: bool,
}
