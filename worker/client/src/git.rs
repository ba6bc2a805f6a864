//! What is committed: the tree of HEAD below a directory, and its bytes, as git stores them. No attribute and no filter is applied, so
//! the tree is the same on every machine. [`Head::with_changes`] gives what would be committed now.

mod blobs;
mod standing;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use schemas::{TextError, TreePath};

pub(crate) use blobs::Blobs;
use standing::Scratch;

/// A directory, at its last commit.
#[derive(Debug)]
pub(crate) struct Head {
    /// The directory.
    dir: PathBuf,
    /// What git calls the tree that the directory is at that commit.
    tree: String,
    /// When the commit was made, in seconds since 1970.
    pub(crate) time: u64,
    /// What git has of it that the repository does not.
    scratch: Option<Scratch>,
}

/// One file of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where it is.
    pub(crate) path: TreePath,
    /// What it is.
    pub(crate) kind: EntryKind,
    /// The id of its bytes.
    pub(crate) id: String,
}

/// What a file of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A file.
    File,
    /// A file that can be run.
    Executable,
    /// A symbolic link; its bytes are the target.
    Symlink,
}

/// Why the tree cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    /// There is no git here.
    #[error("run git")]
    Run(#[source] io::Error),
    /// git refuses.
    #[error("git {command} in {}: {said}", dir.display())]
    Refused {
        /// What it was asked.
        command: String,
        /// Where.
        dir: PathBuf,
        /// Its own words.
        said: String,
    },
    /// The tree holds another repository, which is not part of it.
    #[error("{path} is a submodule: its files are not in the tree of HEAD")]
    Submodule {
        /// Where.
        path: String,
    },
    /// A name that the build's machine could not take.
    #[error("the name of the file {path:?}")]
    Path {
        /// The name.
        path: String,
        /// Why.
        #[source]
        source: TextError,
    },
    /// What is not committed cannot be written down for git.
    #[error("copy what git knows of {}", dir.display())]
    Scratch {
        /// The directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// git said something that we do not understand.
    #[error("git answered {said:?}")]
    Answer {
        /// What it said.
        said: String,
    },
}

impl Head {
    /// Finds the last commit of the repository that `dir` is in.
    pub(crate) fn of(dir: &Path) -> Result<Self, GitError> {
        let prefix = line(dir, &["rev-parse", "--show-prefix"])?;
        // `HEAD:` is the whole tree, `HEAD:a/b` the tree of a folder.
        let tree = line(
            dir,
            &[
                "rev-parse",
                "--verify",
                &format!("HEAD:{}", prefix.trim_end_matches('/')),
            ],
        )?;
        let time = line(
            dir,
            &["log", "-1", "--no-show-signature", "--format=%ct", "HEAD"],
        )?;
        let time = time.parse().map_err(|_| GitError::Answer { said: time })?;
        Ok(Self {
            dir: dir.to_owned(),
            tree,
            time,
            scratch: None,
        })
    }

    /// The paths in the directory that are not as they were committed, from the root of the repository; a new folder stands for all in it.
    pub(crate) fn changes(&self) -> Result<Vec<String>, GitError> {
        // Without renames, each is two letters, a space and one path.
        let command = [
            "status",
            "--porcelain",
            "--no-renames",
            "--untracked-files=normal",
            "-z",
            "--",
            ".",
        ];
        let listing = output(git(&self.dir, &command), &command, &self.dir)?;
        let entries = listing.split(|byte| *byte == 0);
        let path = |entry: &[u8]| String::from_utf8_lossy(entry.get(3..)?).into_owned().into();
        Ok(entries.filter_map(path).collect())
    }

    /// Its files, sorted by the bytes of their paths.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, GitError> {
        let command = ["ls-tree", "-r", "-z", "--full-tree", &self.tree];
        let listing = output(self.git(&command), &command, &self.dir)?;
        let lines = listing
            .split(|byte| *byte == 0)
            .filter(|line| !line.is_empty());
        let mut entries = lines.map(entry).collect::<Result<Vec<_>, _>>()?;
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// Opens its bytes.
    pub(crate) fn blobs(&self) -> Result<Blobs, GitError> {
        Blobs::open(self.git(&["cat-file", "--batch"]))
    }

    /// git, with what is only in the scratch place.
    fn git(&self, command: &[&str]) -> Command {
        let mut git = git(&self.dir, command);
        if let Some(scratch) = &self.scratch {
            scratch.add_to(&mut git);
        }
        git
    }
}

/// Reads `<mode> <type> <id>\t<path>`.
fn entry(line: &[u8]) -> Result<Entry, GitError> {
    let line = String::from_utf8_lossy(line);
    let not_understood = || GitError::Answer {
        said: line.to_string(),
    };
    let (about, path) = line.split_once('\t').ok_or_else(not_understood)?;
    let mut words = about.split(' ');
    let (mode, id) = (
        words.next().ok_or_else(not_understood)?,
        words.nth(1).ok_or_else(not_understood)?,
    );
    let kind = match mode {
        "100644" | "100664" => EntryKind::File,
        "100755" => EntryKind::Executable,
        "120000" => EntryKind::Symlink,
        "160000" => {
            return Err(GitError::Submodule {
                path: path.to_owned(),
            });
        }
        _ => return Err(not_understood()),
    };
    let path = tree_path(path)?;
    Ok(Entry {
        path,
        kind,
        id: id.to_owned(),
    })
}

fn tree_path(path: &str) -> Result<TreePath, GitError> {
    let refuse = |source| GitError::Path {
        path: path.to_owned(),
        source,
    };
    if path.contains(char::REPLACEMENT_CHARACTER) {
        return Err(GitError::Answer {
            said: format!("a file name that is not UTF-8: {path}"),
        });
    }
    TreePath::parse(path).map_err(refuse)
}

/// What git prints, without the end of the line.
fn line(dir: &Path, command: &[&str]) -> Result<String, GitError> {
    let bytes = output(git(dir, command), command, dir)?;
    Ok(String::from_utf8_lossy(&bytes)
        .trim_end_matches('\n')
        .to_owned())
}

fn output(mut git: Command, command: &[&str], dir: &Path) -> Result<Vec<u8>, GitError> {
    let output = git.stdin(Stdio::null()).output().map_err(GitError::Run)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(GitError::Refused {
        command: command.join(" "),
        dir: dir.to_owned(),
        said,
    })
}

/// git as it is without a user's habits: no replaced objects, no lock for a mere look, English.
fn git(dir: &Path, command: &[&str]) -> Command {
    let mut git = Command::new("git");
    git.arg("-C")
        .arg(dir)
        .arg("--no-replace-objects")
        .args(command);
    git.env("GIT_OPTIONAL_LOCKS", "0").env("LC_ALL", "C");
    git
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_tree_is_read() {
        let id = "a".repeat(40);
        let read = |mode: &str, path: &str| entry(format!("{mode} blob {id}\t{path}").as_bytes());
        assert_eq!(read("100755", "a/run").unwrap().kind, EntryKind::Executable);
        assert_eq!(read("120000", "a/link").unwrap().kind, EntryKind::Symlink);
        assert_eq!(read("100644", "a b\nc").unwrap().path.as_str(), "a b\nc");
    }

    #[test]
    fn a_submodule_is_refused_by_name() {
        let line = format!("160000 commit {}\tvendor/lib", "a".repeat(40));
        let error = entry(line.as_bytes()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "vendor/lib is a submodule: its files are not in the tree of HEAD"
        );
    }
}
