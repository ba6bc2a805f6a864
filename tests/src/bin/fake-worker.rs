//! `fake-worker --config FILE`: the worker with a driver without VMs, for tests of fleets. Everything but the driver is the worker's own;
//! it takes the same file, and says `ready` and ends on signals as the worker does.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Parser;
use e2e::fake::Fate;
use e2e::fake::driver::FatefulDriver;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use worker::config::Config;
use worker::serve::serve;
use worker::services::{Ending, Services};

/// The worker with a driver without VMs.
#[derive(Debug, Parser)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How all its guests end, whatever their snapshots say.
    #[arg(long, value_parser = fate)]
    fate: Option<Fate>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { config, fate } = Arguments::parse();
    let config = Config::load(&config, |name| std::env::var(name).ok())?;
    let telemetry = bus::telemetry::start_traced("worker", config.log, &config.telemetry)?;
    let worked = Box::pin(work(config, fate)).await;
    telemetry.end().await;
    worked
}

fn fate(name: &str) -> Result<Fate, String> {
    Fate::parse(name).ok_or_else(|| format!("no fate is called {name}"))
}

/// Works until it is told to end.
async fn work(config: Config, fate: Option<Fate>) -> Result<()> {
    let (drain, draining) = watch::channel(false);
    let (give_back, given_back) = watch::channel(false);
    let terminate = signal(SignalKind::terminate())?;
    tokio::spawn(listen(terminate, drain, give_back.clone()));
    let ending = Ending {
        draining,
        give_back: given_back,
    };
    let driver = Arc::new(FatefulDriver::new(fate));
    let services = Services::connect(config, driver, ending).await?;
    serve(&services, &give_back).await
}

/// The first signal drains; the second gives running jobs back at once.
async fn listen(mut terminate: Signal, drain: watch::Sender<bool>, give_back: watch::Sender<bool>) {
    for step in [drain, give_back] {
        terminate.recv().await;
        step.send_replace(true);
    }
    std::future::pending::<()>().await;
}
