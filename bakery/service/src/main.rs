//! `bakery`: makes templates and environments. What each command does is in the library; the VMM is chosen here.
//!
//! | code | when |
//! | --- | --- |
//! | 0 | done; for `bake`: the snapshot can be forked |
//! | 1 | the bake failed |
//! | 64 | the command line is wrong |
//! | 65 | a file of `apply` is wrong |
//! | 70 | anything else |
//! | 78 | the configuration is wrong |

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use bakery::apply::ApplyError;
use bakery::args::{Args, Bake, Command};
use bakery::request::Asked;
use bakery::{Config, ConfigError, apply, host_class, init, request, serve};
use bus::telemetry::{self, Causes, DEFAULT_FILTER, QUIET_FILTER};
use clap::Parser as _;
use drivers::{Qemu, QemuConfig, initramfs};
use schemas::bake::BakeEventKind;
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
    // Boxed, since it holds every command's state at once.
    match Box::pin(run(args)).await {
        Ok(code) => code,
        Err(error) => trouble(&error),
    }
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config, |name| std::env::var(name).ok())?;
    let filter = match args.command {
        Command::Serve => DEFAULT_FILTER,
        Command::Init | Command::Apply { .. } | Command::Bake(_) => QUIET_FILTER,
    };
    telemetry::start_filtered("bakery", config.log, filter)?;
    info!(?config, "configuration");
    match args.command {
        Command::Init => print(&init::run(&config).await?),
        Command::Apply { files, tenant } => {
            print(&apply::run(&config, &files, tenant.as_ref()).await?)
        }
        Command::Bake(asked) => bake(&config, &asked).await,
        Command::Serve => {
            let driver = Arc::new(driver(&config)?);
            let shutdown = on_signal()?;
            serve::run(Arc::new(config), driver, initramfs::write, shutdown).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The one VMM that this bakery knows.
fn driver(config: &Config) -> anyhow::Result<Qemu> {
    Ok(Qemu::new(QemuConfig {
        program: config.qemu.program.clone(),
        accelerator: config.qemu.accelerator.to_string(),
        ..QemuConfig::default()
    })?)
}

async fn bake(config: &Config, bake: &Bake) -> anyhow::Result<ExitCode> {
    let asked = Asked {
        environment: &bake.environment,
        dir: &bake.dir,
        tenant: &bake.tenant,
        trust: bake.trust,
        class: &host_class(driver(config)?.profile())?,
    };
    let asking = Box::pin(request::run(config, &asked, |line| eprintln!("{line}")));
    let event = asking.await?;
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
        None if error.is::<ConfigError>() => 78,
        None => 70,
    };
    code.into()
}
