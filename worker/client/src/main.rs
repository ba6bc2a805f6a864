//! `sourdough`: submit a build, follow its log, and exit as it did; explain what a snapshot's key is made of.
//!
//! Standard output carries the log as it is (with `--json` the result instead, with neither the job's id); everything that is said about
//! it goes to standard error. The exit codes are in [`exit`].

mod args;
mod definition;
mod exit;
mod explain;
mod follow;
mod git;
mod inputs;
mod interrupt;
mod job;
mod pack;
mod parts;
mod progress;
mod publish;
mod submit;
mod summary;
mod transcript;
mod upload;
mod waiting;

use std::process::ExitCode;

use anyhow::Context as _;
use bus::telemetry::{self, Format, QUIET_FILTER};
use clap::Parser as _;
use tokio::runtime::Runtime;

use crate::args::{Args, Command, Env};
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
        Command::Env(Env::Explain(explain)) => explain::run(&explain, &mut interrupt).await,
    }
}
