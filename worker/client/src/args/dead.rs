//! Flags of `sourdough dead`.

use clap::Subcommand;
use schemas::Token;

use super::{OneJob, Outcome, Servers};

/// What to do with jobs that ran out of attempts.
#[derive(Debug, Subcommand)]
pub(crate) enum Dead {
    /// List them, the oldest first.
    List(List),

    /// Show one: how each attempt ended, and the job itself.
    ///
    /// Exits with 66 where there is none.
    Show(Outcome),

    /// Publish one again, on its subject and under a new id, which is printed.
    ///
    /// The new job has the label `replay_of` with the old id, and so needs room for it: of the 64 labels that a job may have, a job that is to
    /// be replayed leaves one. The dead letter stays. Exits with 66 where there is none.
    Replay(Replay),
}

/// List jobs that ran out of attempts.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Those of this tenant; of all where none is given.
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<Token>,

    /// Print a JSON array of dead letters.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) servers: Servers,
}

/// Publish one again.
#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    #[command(flatten)]
    pub(crate) job: OneJob,

    /// Follow the new job's log, and exit as its build did.
    #[arg(long)]
    pub(crate) wait: bool,

    /// Print the result as JSON on standard output, and the log on standard error. Implies --wait.
    #[arg(long)]
    pub(crate) json: bool,
}
