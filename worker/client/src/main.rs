//! `sourdough`: submit a build, follow its log, and exit as it did.
//!
//! Standard output carries the log as it is (with `--json` the result instead, with neither the job's id); everything that is said about
//! it goes to standard error. The exit codes are in [`exit`].

mod args;
mod exit;
mod follow;
mod git;
mod interrupt;
mod job;
mod pack;
mod progress;
mod publish;
mod submit;
mod summary;
mod transcript;
mod upload;

use std::process::ExitCode;

use anyhow::Context as _;
use bus::telemetry::{self, Format, QUIET_FILTER};
use clap::Parser as _;
use tokio::runtime::Runtime;

use crate::args::{Args, Command};
use crate::interrupt::{Interrupt, Interrupted};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return exit::usage(&error),
    };
    match run(args) {
        Ok(code) => code,
        Err(error) if error.is::<Interrupted>() => exit::interrupted(),
        Err(error) => exit::trouble(&error),
    }
}

fn run(args: Args) -> anyhow::Result<ExitCode> {
    telemetry::start_filtered("sourdough", Format::Human, QUIET_FILTER)?;
    let runtime = Runtime::new().context("start the threads")?;
    // Boxed, since it holds every phase's state at once.
    let code = runtime.block_on(Box::pin(commanded(args.command)));
    // Whoever interrupts the packing does not wait for the thread that packs.
    runtime.shutdown_background();
    code
}

async fn commanded(command: Command) -> anyhow::Result<ExitCode> {
    let mut interrupt = Interrupt::listen().context("listen for an interrupt")?;
    match command {
        Command::Submit(submit) => submit::run(&submit, &mut interrupt).await,
    }
}
