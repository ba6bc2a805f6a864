//! ^C and `SIGTERM`: the work is dropped, and with it everything that it started.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};

/// What a shell reports of a process that an interrupt ended.
const INTERRUPTED: u8 = 130;

/// Does `work`, unless somebody interrupts it.
pub async fn unless(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    tokio::select! {
        code = work => code,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("listen for ^C")?;
            Ok(stopped())
        }
        _ = terminate.recv() => Ok(stopped()),
    }
}

fn stopped() -> ExitCode {
    eprintln!("interrupted; everything that was started is stopped");
    INTERRUPTED.into()
}
