//! The worker's program: configuration, telemetry, wiring, run, drain.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use drivers::{Qemu, QemuConfig};
use schemas::Trust;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};
use vm::Driver;
use worker::config::{Accelerator, Config};
use worker::serve::serve;
use worker::services::{Ending, Services};

/// Claims jobs, forks snapshots, runs steps, reports results.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// `EX_CONFIG` of sysexits.h.
const BAD_CONFIGURATION: u8 = 78;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match Config::load(&arguments.config, |name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("worker: {error}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(config: Config) -> anyhow::Result<()> {
    let telemetry = bus::telemetry::start_traced("worker", config.log, &config.telemetry)?;
    let worked = Box::pin(work(config)).await;
    telemetry.end().await;
    worked
}

/// Works until it is told to end.
async fn work(config: Config) -> anyhow::Result<()> {
    info!(?config, jail = drivers::jail_measures(), "starting");
    if config.qemu.accelerator == Accelerator::Tcg && config.accepted().contains(&Trust::Untrusted)
    {
        warn!(
            "untrusted jobs run under software emulation, which is no security boundary (untrusted_under_tcg)"
        );
    }
    let (terminate, interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let (drain, draining) = watch::channel(false);
    let (give_back, given_back) = watch::channel(false);
    let driver = driver(&config)?;
    tokio::spawn(listen(terminate, interrupt, drain, give_back.clone()));
    let mut stopped = draining.clone();
    let ending = Ending {
        draining,
        give_back: given_back,
    };
    let services = tokio::select! {
        services = Services::connect(config, driver, ending) => services?,
        // Told to end before it had begun.
        _ = stopped.wait_for(|draining| *draining) => return Ok(()),
    };
    serve(&services, &give_back).await?;
    info!("ended");
    Ok(())
}

fn driver(config: &Config) -> anyhow::Result<Arc<dyn Driver>> {
    let qemu = QemuConfig {
        program: config.qemu.program.clone(),
        accelerator: config.qemu.accelerator.as_str().into(),
        ..QemuConfig::default()
    };
    Ok(Arc::new(Qemu::new(qemu).context("start the driver")?))
}

/// The first signal drains; the second gives running jobs back at once.
async fn listen(
    mut terminate: Signal,
    mut interrupt: Signal,
    drain: watch::Sender<bool>,
    give_back: watch::Sender<bool>,
) {
    for step in [drain, give_back] {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        step.send_replace(true);
    }
    std::future::pending::<()>().await;
}
