//! The one directory in which a stack keeps everything: tools, servers' data, logs, snapshots.
//!
//! ```text
//! target/sourdough/
//!   tools/<digest of the pins>/     what was installed once, complete or absent
//!   …                               what those who run a stack put beside it
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// Names the state directory in place of `target/sourdough` in the repository.
pub const STATE_VARIABLE: &str = "SOURDOUGH_STATE";

/// The state directory.
#[derive(Debug, Clone)]
pub struct State {
    path: PathBuf,
}

impl State {
    /// The directory that the environment names, or the default one. It is made if it is not there.
    pub fn from_environment() -> Result<Self> {
        let path = match std::env::var_os(STATE_VARIABLE) {
            Some(path) => PathBuf::from(path),
            None => repository().join("target/sourdough"),
        };
        Self::at(&path)
    }

    /// The directory at `path`. It is made if it is not there.
    pub fn at(path: &Path) -> Result<Self> {
        let context = || format!("make the state directory {}", path.display());
        fs::create_dir_all(path).with_context(context)?;
        Ok(Self {
            path: path.canonicalize().with_context(context)?,
        })
    }

    /// Where it is, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory `name/<digest of pins>`, made by `install` if it is not there. Processes that ask at the same time
    /// wait for the one that installs, and an installation that is cut short leaves nothing that looks like one.
    pub fn installed(
        &self,
        name: &str,
        pins: &[u8],
        install: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let parent = self.path.join(name);
        fs::create_dir_all(&parent).with_context(|| format!("make {}", parent.display()))?;
        let _lock = lock(&parent.join("lock"))?;
        let complete = parent.join(hex::encode(Sha256::digest(pins)));
        if !complete.exists() {
            let partial = parent.join("partial");
            remove_dir(&partial)?;
            fs::create_dir(&partial).with_context(|| format!("make {}", partial.display()))?;
            install(&partial)?;
            fs::rename(&partial, &complete)
                .with_context(|| format!("move the installation to {}", complete.display()))?;
        }
        Ok(complete)
    }
}

/// The root of the repository that this harness was built from.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the repository")
}

/// Waits until nobody else holds the lock at `path`. It is given back when the file is dropped.
fn lock(path: &Path) -> Result<File> {
    let context = || format!("lock {}", path.display());
    let file = File::create(path).with_context(context)?;
    file.lock().with_context(context)?;
    Ok(file)
}

fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("remove {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    fn state() -> (tempfile::TempDir, State) {
        let directory = tempfile::tempdir().unwrap();
        let state = State::at(&directory.path().join("state")).unwrap();
        (directory, state)
    }

    fn write(directory: &Path, text: &str) -> Result<()> {
        Ok(fs::write(directory.join("file"), text)?)
    }

    #[test]
    fn what_is_installed_is_not_installed_again() {
        let (_directory, state) = state();
        let first = state
            .installed("tool", b"1", |directory| write(directory, "first"))
            .unwrap();
        let again = state
            .installed("tool", b"1", |_| bail!("installed again"))
            .unwrap();
        assert_eq!(first, again);
        assert_eq!(fs::read_to_string(first.join("file")).unwrap(), "first");
    }

    #[test]
    fn other_pins_are_another_installation() {
        let (_directory, state) = state();
        let first = state
            .installed("tool", b"1", |directory| write(directory, "first"))
            .unwrap();
        let second = state
            .installed("tool", b"2", |directory| write(directory, "second"))
            .unwrap();
        assert_ne!(first, second);
    }

    #[test]
    fn an_installation_that_failed_is_begun_afresh() {
        let (_directory, state) = state();
        let failed = state.installed("tool", b"1", |directory| {
            write(directory, "half")?;
            bail!("no network")
        });
        assert_eq!(failed.unwrap_err().to_string(), "no network");
        let path = state.installed("tool", b"1", |directory| {
            assert!(
                fs::read_dir(directory)?.next().is_none(),
                "what failed is gone"
            );
            write(directory, "whole")
        });
        assert_eq!(
            fs::read_to_string(path.unwrap().join("file")).unwrap(),
            "whole"
        );
    }
}
