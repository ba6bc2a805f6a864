//! `dev with COMMAND`: runs the tests of the other crates with what they cannot start themselves.
//!
//! | variable | what it names |
//! | --- | --- |
//! | `NATS_URL` | a nats-server that stores streams |
//! | `NATS_SERVER` | its program, for tests that need a server of their own |
//! | `SOURDOUGH_GUEST` | the parts of a guest, see [`crate::guest`] |

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::guest;
use crate::launch::ServerOptions;
use crate::nats::NatsServer;
use crate::programs::Programs;
use crate::state::State;
use crate::tools::Tools;

/// Runs `command` and exits as it did.
pub async fn run(state: &State, command: &[String]) -> Result<ExitCode> {
    let (program, arguments) = command.split_first().context("no command was given")?;
    let parts = guest::parts(state, &Programs::find()?)?;
    let directory = tempfile::tempdir().context("make a directory for nats-server")?;
    let tools = Tools::install(state)?;
    let nats = NatsServer::start(&tools, directory.path(), ServerOptions::default()).await?;
    let status = tokio::process::Command::new(program)
        .args(arguments)
        .env("NATS_URL", nats.url())
        .env("NATS_SERVER", &tools.nats_server)
        .env(guest::GUEST_VARIABLE, parts)
        .kill_on_drop(true)
        .status()
        .await
        .with_context(|| format!("start {program}"))?;
    nats.stop().await?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    // Ended by a signal: as an error of this program.
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
