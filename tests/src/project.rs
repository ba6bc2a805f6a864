//! A project of `tests/projects` as a git repository with one commit, which is the same each time.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::state::repository;

/// 2026-01-01: the commit's time is the source's, and another one would be another source.
const COMMITTED_AT: &str = "1767225600 +0000";

/// Left out, as its own .gitignore has them.
const NOT_SOURCE: [&str; 3] = ["node_modules", "dist", ".git"];

/// The repository. It is removed when this is dropped.
#[derive(Debug)]
pub struct Project {
    directory: TempDir,
}

impl Project {
    /// The project `tests/projects/<name>`.
    pub fn committed(name: &str) -> Result<Self> {
        let project = Self::empty()?;
        copy(
            &repository().join("tests/projects").join(name),
            project.path(),
        )?;
        project.commit()?;
        Ok(project)
    }

    /// A project of one file.
    pub fn of_file(name: &str, text: &str) -> Result<Self> {
        let project = Self::empty()?;
        fs::write(project.path().join(name), text).with_context(|| format!("write {name}"))?;
        project.commit()?;
        Ok(project)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    fn empty() -> Result<Self> {
        let directory = TempDir::with_prefix("sourdough-project-").context("make a directory")?;
        Ok(Self { directory })
    }

    fn commit(&self) -> Result<()> {
        self.git(&["init", "--quiet", "--initial-branch=main"])?;
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--message=Source"])
    }

    /// Runs git with no settings of the user's.
    fn git(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new("git");
        command.current_dir(self.path()).args(arguments);
        for (name, value) in [
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_SYSTEM", "/dev/null"),
            ("GIT_AUTHOR_NAME", "Author"),
            ("GIT_AUTHOR_EMAIL", "author@example.com"),
            ("GIT_AUTHOR_DATE", COMMITTED_AT),
            ("GIT_COMMITTER_NAME", "Author"),
            ("GIT_COMMITTER_EMAIL", "author@example.com"),
            ("GIT_COMMITTER_DATE", COMMITTED_AT),
        ] {
            command.env(name, value);
        }
        let status = command.status().context("run git")?;
        ensure!(status.success(), "git {}: {status}", arguments.join(" "));
        Ok(())
    }
}

/// Copies what is source of the directory `from` into the directory `to`.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let context = || format!("copy {}", from.display());
    for entry in fs::read_dir(from).with_context(context)? {
        let entry = entry.with_context(context)?;
        let name = entry.file_name();
        if NOT_SOURCE.iter().any(|&left_out| name == left_out) {
            continue;
        }
        let target = to.join(&name);
        if entry.file_type().with_context(context)?.is_dir() {
            fs::create_dir(&target).with_context(context)?;
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(context)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(project: &Project) -> String {
        let mut git = Command::new("git");
        let output = git
            .current_dir(project.path())
            .args(["rev-parse", "HEAD"])
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    #[test]
    fn a_project_is_the_same_commit_each_time() {
        let [first, second] = [(), ()].map(|()| Project::committed("widget").unwrap());
        assert_eq!(head(&first), head(&second));
        assert!(first.path().join("pages/index.md").exists());
    }
}
