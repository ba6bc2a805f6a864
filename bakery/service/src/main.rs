//! `bakery`: makes templates and environments. What each command does is in the library; the VMM is chosen here.
//!
//! | code | when |
//! | --- | --- |
//! | 0 | done; for `bake`: the snapshot can be forked |
//! | 1 | the bake failed; for `inspect`: there is no such snapshot |
//! | 64 | the command line is wrong |
//! | 65 | a file of `apply` is wrong |
//! | 70 | anything else |
//! | 78 | the configuration is wrong |

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use bakery::apply::ApplyError;
use bakery::args::{Args, Bake, Command};
use bakery::inspect::InspectError;
use bakery::inventory::{Inventory, Storehouse};
use bakery::progress_bar::Bar;
use bakery::request::Asked;
use bakery::{
    Config, ConfigError, apply, collect, detect, host_class, init, list, permissions, registries,
    request, serve,
};
use bus::telemetry::{self, Causes, DEFAULT_FILTER, Format, QUIET_FILTER};
use clap::Parser as _;
use drivers::{Qemu, QemuConfig, initramfs};
use jiff::Timestamp;
use schemas::bake::BakeEventKind;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;
use vm::Driver as _;

#[tokio::main]
async fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    match run(args).await {
        Ok(code) => code,
        Err(error) => trouble(&error),
    }
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    // What is proposed for the configuration needs none, nor does what is printed for the NATS server.
    if let Command::Registries { detect: true, json } = args.command {
        return propose(json).await;
    }
    if let Command::Permissions(asked) = &args.command {
        return print(&permissions::accounts(asked));
    }
    let config = Config::load(&args.config, |name| std::env::var(name).ok())?;
    let (log, filter) = telling(&args.command, &config);
    let traces = telemetry::start_traced_filtered("bakery", log, filter, &config.telemetry)?;
    info!(?config, "configuration");
    // Boxed, since it holds every command's state at once.
    let obeyed = Box::pin(obey(config, args.command)).await;
    traces.end().await;
    obeyed
}

/// How the log is written, and how much of it: a command's output is for a person.
fn telling(command: &Command, config: &Config) -> (Format, &'static str) {
    match command {
        Command::Serve { json: true } => (Format::Json, DEFAULT_FILTER),
        Command::Serve { json: false } => (config.log, DEFAULT_FILTER),
        Command::Init
        | Command::Apply { .. }
        | Command::Bake(_)
        | Command::List { .. }
        | Command::Inspect { .. }
        | Command::Gc { .. }
        | Command::Permissions(_)
        | Command::Registries { .. } => (config.log, QUIET_FILTER),
    }
}

async fn obey(config: Config, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Init => print(&init::run(&config).await?),
        Command::Apply {
            files,
            tenant,
            json,
        } => {
            let applied = apply::run(&config, &files, tenant.as_ref()).await?;
            tell(json, &applied, || lines(&applied))
        }
        Command::Bake(asked) => bake(&config, &asked).await,
        Command::List { json } => {
            let listed = inventory(&config).await?.summaries();
            tell(json, &listed, || list::table(&listed, Timestamp::now()))
        }
        Command::Inspect { key, json } => {
            let inspected = inventory(&config).await?.inspect(&key)?;
            tell(json, &inspected, || inspected.lines(Timestamp::now()))
        }
        Command::Gc { dry_run, json } => {
            let report = Box::pin(collect::run(&config, dry_run, &Bar::new("connecting"))).await?;
            tell(json, &report, || report.lines())
        }
        Command::Permissions(asked) => print(&permissions::accounts(&asked)),
        Command::Registries { json, .. } => {
            let registries = registries::listed(&config.registries);
            tell(json, &registries, || registries::table(&registries))
        }
        Command::Serve { .. } => serve(config).await,
    }
}

/// Serves until it is told to end.
async fn serve(config: Config) -> anyhow::Result<ExitCode> {
    let driver = Arc::new(driver(&config)?);
    let shutdown = on_signal()?;
    serve::run(Arc::new(config), driver, initramfs::write, shutdown).await?;
    Ok(ExitCode::SUCCESS)
}

/// The one VMM that this bakery knows.
fn driver(config: &Config) -> anyhow::Result<Qemu> {
    Ok(Qemu::new(QemuConfig {
        program: config.qemu.program.clone(),
        accelerator: config.qemu.accelerator.to_string(),
        ..QemuConfig::default()
    })?)
}

/// Asks this host's package managers where they download from.
async fn propose(json: bool) -> anyhow::Result<ExitCode> {
    telemetry::start_filtered("bakery", Format::default(), QUIET_FILTER)?;
    let detected = Box::pin(detect::run(&Bar::new("asking npm"))).await?;
    tell(json, &detected, || detected.lines())
}

/// All that there is.
async fn inventory(config: &Config) -> anyhow::Result<Inventory> {
    let bar = Bar::new("connecting");
    let storehouse = Box::pin(Storehouse::open(config, "bakery-list")).await?;
    Box::pin(storehouse.inventory(&bar)).await
}

async fn bake(config: &Config, bake: &Bake) -> anyhow::Result<ExitCode> {
    let asked = Asked {
        environment: &bake.environment,
        dir: &bake.dir,
        tenant: &bake.tenant,
        trust: bake.trust,
        class: &host_class(driver(config)?.profile())?,
    };
    let bar = Bar::new(format!("baking {}", bake.environment));
    let event = Box::pin(request::run(config, &asked, &bar)).await?;
    drop(bar);
    if let Some(output) = &event.output {
        eprintln!("{}", output.trim_end());
    }
    if bake.json {
        print(&[serde_json::to_string(&event)?])?;
    } else if let Some(key) = event.key {
        print(&[key.to_string()])?;
    }
    Ok(match event.kind.known() {
        Some(BakeEventKind::Published) => ExitCode::SUCCESS,
        Some(_) | None => ExitCode::FAILURE,
    })
}

/// Cancelled by SIGTERM or SIGINT.
fn on_signal() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let cancel = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: ending"),
            _ = interrupt.recv() => info!("SIGINT: ending"),
        }
        cancel.cancel();
    });
    Ok(shutdown)
}

/// Prints what came of a command: as JSON, or the lines for a person.
fn tell(
    json: bool,
    told: &impl Serialize,
    lines: impl FnOnce() -> Vec<String>,
) -> anyhow::Result<ExitCode> {
    if json {
        print(&[serde_json::to_string(told)?])
    } else {
        print(&lines())
    }
}

fn lines(told: &[impl ToString]) -> Vec<String> {
    told.iter().map(ToString::to_string).collect()
}

fn print(lines: &[String]) -> anyhow::Result<ExitCode> {
    let mut stdout = io::stdout().lock();
    for line in lines {
        writeln!(stdout, "{line}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what is wrong with the command line; help and version are not wrong.
fn usage(error: &clap::Error) -> ExitCode {
    // Nothing is left to do when the terminal is gone.
    let _ = error.print();
    if error.use_stderr() {
        64.into()
    } else {
        ExitCode::SUCCESS
    }
}

fn trouble(error: &anyhow::Error) -> ExitCode {
    eprintln!("bakery: {}", Causes(error.as_ref()));
    let code = match error.downcast_ref::<ApplyError>() {
        Some(ApplyError::NoTenant { .. }) => 64,
        Some(ApplyError::Read { .. } | ApplyError::Invalid { .. }) => 65,
        None if error.is::<InspectError>() => 1,
        None if error.is::<ConfigError>() => 78,
        None => 70,
    };
    code.into()
}
