//! A Python with a NATS client that is not ours, for what must work from any language.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use tracing::info;

use crate::state::{State, repository};
use crate::tools::{pip_arguments, run};

/// A virtual environment with `nats-py`.
#[derive(Debug, Clone)]
pub struct Python {
    interpreter: PathBuf,
}

impl Python {
    /// The environment in `state`, made on first use from `deploy/tools/python-client.txt`. Blocks until it is there.
    pub fn install(state: &State) -> Result<Self> {
        let pins = repository().join("deploy/tools/python-client.txt");
        let text = fs::read(&pins).with_context(|| format!("read {}", pins.display()))?;
        let directory = state.installed("python", &text, |directory| {
            info!(pins = %pins.display(), "making a Python environment");
            make(&pins, directory)
        })?;
        Ok(Self {
            interpreter: interpreter(&directory),
        })
    }

    /// The interpreter, to be given arguments. It reads nothing of the caller's own Python settings.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.interpreter);
        command.arg("-I");
        command
    }
}

/// The environment is moved after it is made: its interpreter does not mind, its scripts would, and none are used.
fn make(pins: &Path, directory: &Path) -> Result<()> {
    run(Command::new("python3").args(["-m", "venv"]).arg(directory))?;
    let mut pip = Command::new(interpreter(directory));
    run(pip.args(["-m", "pip", "install"]).args(pip_arguments(pins)))
}

fn interpreter(environment: &Path) -> PathBuf {
    environment.join("bin/python3")
}
