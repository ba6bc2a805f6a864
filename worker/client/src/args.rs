//! The command line.

mod dead;
mod explain;
mod one_job;
mod servers;
mod submit;
mod values;

use clap::{Parser, Subcommand};
use schemas::{Token, Trust};

pub(crate) use dead::{Dead, List, Replay};
pub(crate) use explain::Explain;
pub(crate) use one_job::{Cancel, Logs, OneJob, Outcome, Wait, Why};
pub(crate) use servers::Servers;
pub(crate) use submit::{Environment, Pinned, Submit};
pub(crate) use values::Named;

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
    /// For a directory, packs the tree of HEAD, uploads it under its digest and publishes a job. What is not committed is not built,
    /// unless --dirty says so.
    ///
    /// Prints the job's id, which is what the other commands ask for. Exits as the build did where it waits: 0 for success, a failed
    /// step's own code, 1 for another failure, 64 for an invalid job, 70 for an error, 124 for a timeout, 130 for a cancellation.
    Submit(Box<Submit>),

    /// Wait for a job's result, print it, and exit as the build did.
    ///
    /// Exits with 75 where --timeout is over first.
    Wait(Wait),

    /// Print a job's result, and exit as the build did.
    ///
    /// Exits with 75 where there is none yet.
    Result(Outcome),

    /// Print a job's log: all of it once the job has ended, else what the live log has so far.
    ///
    /// Output goes to standard output; where an attempt begins or ends, and what is missing, to standard error.
    Logs(Logs),

    /// Say where a job stands: waiting for what, running where, or ended how.
    ///
    /// What may not be asked is named, and the rest is said. Exits with 66 where nothing is known of the job.
    Why(Why),

    /// End a job, wherever it is: it may wait, run, or have been published a moment ago.
    ///
    /// Answers `cancelling`, `already finished` with the result's status, or `not found`, which exits with 66 and cancels nothing.
    Cancel(Cancel),

    /// Jobs that ran out of attempts.
    #[command(subcommand)]
    Dead(Dead),

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

/// Whose it is, what is asked about.
#[derive(Debug, clap::Args)]
pub(crate) struct Owner {
    /// The tenant.
    #[arg(
        long,
        env = "SOURDOUGH_TENANT",
        default_value = "default",
        value_name = "NAME"
    )]
    pub(crate) tenant: Token,
}

/// Who asks: snapshots are of one tenant and one trust.
#[derive(Debug, clap::Args)]
pub(crate) struct Domain {
    #[command(flatten)]
    pub(crate) owner: Owner,

    /// How far the source's author is trusted: trusted or untrusted.
    #[arg(
        long,
        env = "SOURDOUGH_TRUST",
        default_value = "untrusted",
        value_name = "TRUST"
    )]
    pub(crate) trust: Trust,
}

#[cfg(test)]
mod tests;
