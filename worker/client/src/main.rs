//! `sourdough`: submit a build, follow its log, and exit as it did.
//!
//! Standard output carries the log as it is (with `--json` the result instead, with neither the job's id); everything that is said about
//! it goes to standard error. The exit codes are in [`exit`].

mod args;
mod exit;
mod follow;
mod git;
mod job;
mod pack;
mod progress;
mod publish;
mod submit;
mod summary;
mod transcript;
mod upload;

use std::process::ExitCode;

use bus::telemetry::{self, Format, QUIET_FILTER};
use clap::Parser as _;

use crate::args::{Args, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return exit::usage(&error),
    };
    // Boxed, since it holds every phase's state at once.
    match Box::pin(run(args)).await {
        Ok(code) => code,
        Err(error) => exit::trouble(&error),
    }
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    telemetry::start_filtered("sourdough", Format::Human, QUIET_FILTER)?;
    match args.command {
        Command::Submit(submit) => tokio::select! {
            code = submit::run(submit) => code,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                Ok(exit::interrupted())
            }
        },
    }
}
