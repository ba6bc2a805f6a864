//! `make soak`: many short jobs of three tenants over two workers, and all the while something is killed.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`dice`] | chance that a seed repeats |
//! | [`jobs`] | what is published, and what may come of it |
//! | [`board`] | which jobs wait for a result, which were cancelled |
//! | [`faults`], [`chaos`] | what is done to workers and servers, and when |
//! | [`memory`] | how large the workers are |
//! | [`table`] | what a person reads |
//!
//! What always holds: faults are done from before the first job is published until the last has its result; afterwards every job has
//! exactly one result, nothing of any job is left, and the workers are no larger than they were.

mod board;
mod chaos;
mod dice;
mod faults;
mod jobs;
mod memory;
mod table;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::watch;

use crate::fleet::{Fleet, Guests};
use crate::stack::Service;
use crate::state::State;
use board::Board;
use chaos::Chaos;
use dice::Dice;
pub use table::Report;

/// The publishers.
const TENANTS: [&str; 3] = ["red", "green", "blue"];

/// The workers.
const WORKERS: [&str; 2] = ["soak-1", "soak-2"];

/// Jobs that a worker runs at a time.
const SLOTS: u32 = 2;

/// 30 min: several times what 200 jobs take, and 20 with emulated machines.
const DEADLINE: Duration = Duration::from_mins(30);

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct SoakOptions {
    /// How many jobs.
    pub jobs: usize,
    /// What they run in.
    pub guests: Guests,
    /// What chance begins with. Default: the time.
    pub seed: Option<u64>,
}

/// Soaks and prints the table.
pub async fn run(state: &State, options: SoakOptions) -> Result<ExitCode> {
    let report = soak(state, "soak", options).await?;
    print!("{report}");
    Ok(ExitCode::SUCCESS)
}

/// Soaks with a fleet of that name. What must hold and does not is an error, with the table before it.
pub async fn soak(state: &State, name: &str, options: SoakOptions) -> Result<Report> {
    let mut dice = options.seed.map_or_else(Dice::of_the_time, Dice::new);
    eprintln!("soak: {} jobs, --seed {}", options.jobs, dice.seed());
    let mut report = Report::new(dice.seed());
    let fleet = Box::pin(Fleet::start(state, name, options.guests)).await?;
    let soaking = Box::pin(soaked(fleet, options, &mut dice, &mut report));
    let soaked = tokio::time::timeout(DEADLINE, soaking).await;
    let soaked = soaked
        .context("not all jobs have a result in time")
        .flatten();
    soaked.with_context(|| report.to_string())?;
    Ok(report)
}

async fn soaked(
    mut fleet: Fleet,
    options: SoakOptions,
    dice: &mut Dice,
    report: &mut Report,
) -> Result<()> {
    let mut tenants = Vec::new();
    for tenant in TENANTS {
        tenants.push(fleet.tenant(tenant).await?);
    }
    let board = Board::new(jobs::roll(options, &tenants, dice)?);
    report.count_kinds(&board);
    let workers = workers(&fleet)?;
    let mut chaos = Chaos::start(&mut fleet, &workers, &board, options.guests, dice).await?;
    let (over, until) = watch::channel(false);
    let working = async {
        board.play().await?;
        over.send_replace(true);
        Ok(())
    };
    let worked = tokio::try_join!(working, chaos.reign(until, &mut report.faults));
    report.count_results(&board);
    worked?;
    report.memory = chaos.end().await?;
    board.check(&fleet).await?;
    let services: Vec<_> = workers.iter().map(|(_, service)| service).collect();
    fleet.is_clean(&services).await?;
    report.memory.check()?;
    fleet.finish().await
}

/// The workers, by their names.
fn workers(fleet: &Fleet) -> Result<Vec<(&'static str, Service)>> {
    let pool = fleet.queue.subject().pool;
    let worker = |name| Ok((name, fleet.worker(name, &pool, SLOTS, |_| ())?));
    WORKERS.into_iter().map(worker).collect()
}
