//! What `make up` leaves for `make down`: which processes run, and how a client finds them.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::GRACE;
use crate::running::Running;

/// A stack that runs on its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// In the order in which they are stopped.
    pub processes: Vec<Running>,
    /// Names of those that lose nothing when they are killed at once.
    pub killed: Vec<String>,
    /// The variables that a client needs. One is a secret.
    pub environment: Vec<(String, String)>,
}

impl Record {
    /// The record in `directory`, if there is one.
    pub fn read(directory: &Path) -> Result<Option<Self>> {
        let path = path(directory);
        match fs::read(&path) {
            Ok(text) => {
                let record = serde_json::from_slice(&text);
                record
                    .with_context(|| format!("read {}", path.display()))
                    .map(Some)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Writes it where [`Record::read`] finds it; only its owner can read it.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let path = path(directory);
        let context = || format!("write {}", path.display());
        let file = fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .with_context(context)?;
        serde_json::to_writer_pretty(file, self).with_context(context)
    }

    /// Whether any of its processes still runs.
    pub fn is_running(&self) -> bool {
        self.processes.iter().any(Running::is_running)
    }

    /// Stops what still runs of it, and forgets it.
    pub async fn stop(&self, directory: &Path) -> Result<()> {
        let mut stopped = Ok(());
        for process in &self.processes {
            let grace = if self.killed.contains(&process.name) {
                Duration::ZERO
            } else {
                GRACE
            };
            // One that does not end is no reason to leave the others.
            stopped = stopped.and(process.stop(grace).await);
        }
        stopped?;
        let path = path(directory);
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join("running.json")
}

#[cfg(test)]
mod tests {
    use nix::unistd::Pid;

    use super::*;

    #[tokio::test]
    async fn a_record_is_read_as_it_was_written_and_gone_after_the_stop() {
        let directory = tempfile::tempdir().unwrap();
        let gone = Running {
            started_ticks: 0,
            ..Running::of("gone", Pid::this(), Vec::new()).unwrap()
        };
        let record = Record {
            processes: vec![gone],
            killed: vec!["gone".to_owned()],
            environment: vec![("NAME".to_owned(), "value".to_owned())],
        };
        assert_eq!(Record::read(directory.path()).unwrap(), None);
        record.write(directory.path()).unwrap();
        assert_eq!(
            Record::read(directory.path()).unwrap().as_ref(),
            Some(&record)
        );
        assert!(!record.is_running());
        record.stop(directory.path()).await.unwrap();
        assert_eq!(Record::read(directory.path()).unwrap(), None);
    }
}
