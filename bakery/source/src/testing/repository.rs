//! A repository made with the host's git.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Where the repository lies, with everything in it.
pub(crate) struct Repository {
    dir: TempDir,
}

impl Repository {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let repository = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        repository.git(&["init", "--quiet", "--initial-branch=main", "."]);
        repository
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Runs git in it; returns what it writes.
    pub(crate) fn git(&self, arguments: &[&str]) -> Vec<u8> {
        let output = git(self.path()).args(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {stderr}");
        output.stdout
    }

    /// Writes a file.
    pub(crate) fn write(&self, path: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Adds everything and commits it; returns the commit's id.
    pub(crate) fn commit(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message=test"]);
        self.head()
    }

    /// The id of the last commit.
    pub(crate) fn head(&self) -> String {
        let id = self.git(&["rev-parse", "HEAD"]);
        String::from_utf8(id).unwrap().trim().to_owned()
    }

    /// What the fetch VM would send of `commit`.
    pub(crate) fn stream(&self, commit: &str) -> Vec<u8> {
        let script = crate::git::send(commit);
        let output = git(self.path())
            .args(["-c", "alias.run=!sh -e -c \"$SCRIPT\"", "run"])
            .env("SCRIPT", script)
            .output()
            .unwrap();
        assert!(output.status.success());
        std::fs::remove_file(self.path().join("ids")).unwrap();
        output.stdout
    }
}

/// Git without anybody's configuration, and with a fixed author and time.
fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(directory)
        .stdin(Stdio::null())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_NAME", "A")
        .env("GIT_AUTHOR_EMAIL", "a@example.com")
        .env("GIT_AUTHOR_DATE", "1600000000 +0100")
        .env("GIT_COMMITTER_NAME", "A")
        .env("GIT_COMMITTER_EMAIL", "a@example.com")
        .env("GIT_COMMITTER_DATE", "1700000000 +0100");
    command
}
