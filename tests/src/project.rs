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
const NOT_SOURCE: [&str; 5] = ["node_modules", "dist", "target", ".venv", ".git"];

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
        Self::of_files(&[(name, text)])
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A project of several files.
    pub fn of_files(files: &[(&str, &str)]) -> Result<Self> {
        let project = Self::empty()?;
        for (name, text) in files {
            project.write(name, text)?;
        }
        project.commit()?;
        Ok(project)
    }

    /// Changes a file, and commits.
    pub fn change(&self, name: &str, text: &str) -> Result<()> {
        self.write(name, text)?;
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--message=Change"])
    }

    /// Commits a change of a file on a branch without a history, and stays where it was.
    pub fn branch(&self, branch: &str, name: &str, text: &str) -> Result<()> {
        self.git(&["checkout", "--quiet", "--orphan", branch])?;
        self.change(name, text)?;
        self.git(&["checkout", "--quiet", "main"])
    }

    /// Puts the repository behind `uri` in as the submodule `path`, at its commit `commit`, and commits.
    pub fn add_submodule(&self, path: &str, uri: &str, commit: &str) -> Result<()> {
        let modules = format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {uri}\n");
        self.write(".gitmodules", &modules)?;
        let link = format!("160000,{commit},{path}");
        self.git(&["add", ".gitmodules"])?;
        self.git(&["update-index", "--add", "--cacheinfo", &link])?;
        self.git(&["commit", "--quiet", "--message=Submodule"])
    }

    /// The commit that is checked out.
    pub fn head(&self) -> Result<String> {
        let mut git = Command::new("git");
        let output = git.current_dir(self.path()).args(["rev-parse", "HEAD"]);
        let output = output.output().context("run git")?;
        ensure!(output.status.success(), "git rev-parse: {}", output.status);
        let text = String::from_utf8(output.stdout).context("a commit's id is ASCII")?;
        Ok(text.trim().to_owned())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.path().join(name), text).with_context(|| format!("write {name}"))
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

    #[test]
    fn a_project_is_the_same_commit_each_time() {
        let [first, second] = [(), ()].map(|()| Project::committed("widget").unwrap());
        assert_eq!(first.head().unwrap(), second.head().unwrap());
        assert!(first.path().join("pages/index.md").exists());
    }
}
