//! `dev demo | up | down | bench | soak | with COMMAND`: what the Makefile's targets do.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use e2e::fleet::Guests;
use e2e::soak::SoakOptions;
use e2e::state::State;
use e2e::{bench, demo, interrupt, soak, up, with};
use nix::unistd::Uid;
use schemas::Sha256Digest;
use tracing_subscriber::EnvFilter;

/// A stack on this machine.
#[derive(Debug, Parser)]
#[command(name = "dev")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a stack, build the widget twice, compare, stop.
    Demo,
    /// Start a stack and leave it running; print what a client needs in its environment.
    Up,
    /// Stop what `up` started.
    Down,
    /// Measure forks, bakes, the store and the queue; write target/bench.json.
    Bench {
        /// Measure the queue alone, and write no file.
        #[arg(long)]
        queue: bool,
    },
    /// Run many short jobs while workers and servers are killed; print what was done and what came of it.
    Soak {
        /// How many jobs.
        #[arg(long, default_value_t = 200)]
        jobs: usize,
        /// Run them in virtual machines, and not in directories.
        #[arg(long)]
        real: bool,
        /// Repeat the chance of an earlier run. Default: the time.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Fetch a snapshot into an empty cache; print what that took. A part of `bench`.
    #[command(hide = true)]
    Fetch {
        /// Its key.
        key: Sha256Digest,
        /// The cache.
        cache: PathBuf,
    },
    /// Run a command with what tests cannot start themselves.
    With {
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
}

/// `EX_UNAVAILABLE` of sysexits.h.
const NOT_AVAILABLE: u8 = 69;

impl Command {
    /// Whether it bakes a template, whose root file system has files of many owners.
    fn bakes(&self) -> bool {
        match self {
            Self::Demo | Self::Up => true,
            Self::Bench { queue } => !queue,
            Self::Soak { real, .. } => *real,
            Self::Down | Self::Fetch { .. } | Self::With { .. } => false,
        }
    }
}

// The processes of a stack end with the thread that spawned them: this one, which runs this future.
#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn")),
        )
        .with_writer(std::io::stderr)
        .init();
    let command = Args::parse().command;
    match interrupt::unless(Box::pin(run(&command))).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("dev: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: &Command) -> Result<ExitCode> {
    let state = State::from_environment()?;
    if command.bakes() && !Uid::effective().is_root() {
        eprintln!("dev: baking a template needs root: run this as root, or with sudo.");
        return Ok(ExitCode::from(NOT_AVAILABLE));
    }
    match command {
        Command::Demo => demo::run(&state).await,
        Command::Up => up::up(demo::lasting_stack(&state), &state).await,
        Command::Down => up::down(&demo::lasting_stack(&state)).await,
        Command::Bench { queue: false } => bench::run(&state).await,
        Command::Bench { queue: true } => bench::run_queue(&state).await,
        Command::Soak { jobs, real, seed } => {
            let guests = if *real { Guests::Real } else { Guests::Fake };
            let options = SoakOptions {
                jobs: *jobs,
                guests,
                seed: *seed,
            };
            soak::run(&state, options).await
        }
        Command::Fetch { key, cache } => bench::fetch(key, cache).await,
        Command::With { command } => with::run(&state, command).await,
    }
}
