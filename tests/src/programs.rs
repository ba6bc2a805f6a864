//! The programs that this build made: they lie beside the one that runs.
//!
//! ```text
//! target/<profile>/dev                     the program that runs, or
//! target/<profile>/deps/cases-<hash>       a test
//! target/<profile>/{bakery,worker,sourdough,sourdough-agent,fake-worker}
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// What a stack is made of.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Bakes snapshots.
    pub bakery: PathBuf,
    /// Runs jobs.
    pub worker: PathBuf,
    /// Submits them.
    pub sourdough: PathBuf,
    /// The guest's PID 1, a static binary.
    pub agent: PathBuf,
    /// The worker with guests that are directories.
    pub fake_worker: PathBuf,
}

impl Programs {
    /// The programs beside the one that runs. Fails with how to build them when one is not there.
    pub fn find() -> Result<Self> {
        let ourselves = std::env::current_exe().context("find the path of this program")?;
        Self::beside(&ourselves)
    }

    fn beside(program: &Path) -> Result<Self> {
        let directory = program.parent().context("a program lies in a directory")?;
        let directory = match directory.parent() {
            Some(parent) if directory.ends_with("deps") => parent,
            _ => directory,
        };
        let find = |name: &str| {
            let path = directory.join(name);
            ensure!(
                path.is_file(),
                "{} is not built: `make build` does that, and `make test` for the tests",
                path.display()
            );
            Ok(path)
        };
        Ok(Self {
            bakery: find("bakery")?,
            worker: find("worker")?,
            sourdough: find("sourdough")?,
            agent: find("sourdough-agent")?,
            fake_worker: find("fake-worker")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const NAMES: [&str; 5] = [
        "bakery",
        "worker",
        "sourdough",
        "sourdough-agent",
        "fake-worker",
    ];

    #[test]
    fn programs_are_found_from_a_program_and_from_a_test() {
        let directory = tempfile::tempdir().unwrap();
        for name in NAMES {
            fs::write(directory.path().join(name), "").unwrap();
        }
        for ourselves in ["dev", "deps/cases-0123"] {
            let found = Programs::beside(&directory.path().join(ourselves)).unwrap();
            assert_eq!(found.worker, directory.path().join("worker"), "{ourselves}");
        }
    }

    #[test]
    fn what_is_not_built_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = Programs::beside(&directory.path().join("dev")).unwrap_err();
        assert!(error.to_string().contains("bakery is not built"), "{error}");
    }
}
