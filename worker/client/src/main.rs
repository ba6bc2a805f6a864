//! `sourdough`: submit a build, follow its log, and exit as it did; say where a job stands, end it, or publish it again; explain what a
//! snapshot's key is made of.
//!
//! Standard output carries what was asked for: the log as it is, the answer, or with `--json` that as JSON. Everything that is said about
//! it goes to standard error. The exit codes are in [`exit`].

mod args;
mod cancel;
mod dead;
mod definition;
mod exit;
mod explain;
mod follow;
mod git;
mod hear;
mod inputs;
mod interrupt;
mod job;
mod job_name;
mod live;
mod logs;
mod outcome;
mod pack;
mod parts;
mod progress;
mod publish;
mod queue;
mod result;
mod scan;
mod screen;
mod server;
mod submit;
mod summary;
mod traceparent;
mod transcript;
mod upload;
mod waiting;
mod why;

use std::process::ExitCode;

use anyhow::Context as _;
use bus::telemetry::{self, Format, QUIET_FILTER};
use clap::Parser as _;
use tokio::runtime::Runtime;

use crate::args::{Args, Command, Dead, Env};
use crate::interrupt::{Interrupt, Interrupted};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return exit::usage(&error),
    };
    match run(args) {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<Interrupted>() {
            Some(interrupted) => exit::interrupted(interrupted),
            None => exit::trouble(&error),
        },
    }
}

fn run(args: Args) -> anyhow::Result<ExitCode> {
    telemetry::start_filtered("sourdough", Format::Human, filter(&args.command))?;
    let runtime = Runtime::new().context("start the threads")?;
    // Boxed, since it holds every phase's state at once.
    let code = runtime.block_on(Box::pin(commanded(args.command)));
    // Whoever interrupts the packing does not wait for the thread that packs.
    runtime.shutdown_background();
    code
}

/// Complaints only; where a command says itself what could not be asked, not the server's refusals as well.
fn filter(command: &Command) -> &'static str {
    match command {
        Command::Why(_) | Command::Cancel(_) => "warn,async_nats=error,bus::nats=off",
        Command::Submit(_)
        | Command::Wait(_)
        | Command::Result(_)
        | Command::Logs(_)
        | Command::Dead(_)
        | Command::Env(_) => QUIET_FILTER,
    }
}

async fn commanded(command: Command) -> anyhow::Result<ExitCode> {
    let mut interrupt = Interrupt::listen().context("listen for an interrupt")?;
    match command {
        Command::Submit(submit) => submit::run(&submit, &mut interrupt).await,
        Command::Wait(wait) => result::wait(&wait, &mut interrupt).await,
        Command::Result(asked) => interrupt.or(result::show(&asked)).await,
        Command::Logs(logs) => logs::run(&logs, &mut interrupt).await,
        Command::Why(why) => interrupt.or(why::run(&why)).await,
        Command::Cancel(cancel) => cancel::run(&cancel, &mut interrupt).await,
        Command::Dead(Dead::List(list)) => interrupt.or(dead::list(&list)).await,
        Command::Dead(Dead::Show(asked)) => interrupt.or(dead::show(&asked)).await,
        Command::Dead(Dead::Replay(replay)) => dead::replay(&replay, &mut interrupt).await,
        Command::Env(Env::Explain(explain)) => explain::run(&explain, &mut interrupt).await,
    }
}
