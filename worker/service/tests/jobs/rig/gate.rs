//! What a step waits at until the test lets it go on: a pipe with a name.

use anyhow::{Context as _, Result, ensure};
use tokio::time::timeout;

use super::{PATIENCE, Rig};

/// A step that reads it waits until it is opened.
pub(crate) struct Gate(std::path::PathBuf);

impl Gate {
    /// One of that name.
    pub(crate) fn new(rig: &Rig, name: &str) -> Result<Self> {
        let path = rig.directory().join(name);
        let made = std::process::Command::new("mkfifo").arg(&path).status()?;
        ensure!(made.success(), "mkfifo: {made}");
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> String {
        self.0.display().to_string()
    }

    /// The steps of a job with one step, which says that it waits, waits here, and says that it goes on.
    pub(crate) fn steps(&self) -> String {
        let script = format!("echo waits; cat {}; echo goes on", self.path());
        serde_json::json!([{"name": "wait", "sh": script}]).to_string()
    }

    /// Lets the step go on: it reads the end of the file.
    pub(crate) async fn open(self) -> Result<()> {
        let written = tokio::fs::write(self.0, "open");
        timeout(PATIENCE, written).await.context("nobody reads")??;
        Ok(())
    }
}
