//! The tree of a directory as it stands: what a commit of everything in it that `.gitignore` does not name would hold.
//!
//! git makes it itself, with an index and a place for objects of its own, which go when the tree has been read. What always holds: nothing
//! is written into the repository, and the same files give the same tree as a commit of them would.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{GitError, Head, git, line, output};

/// What git has of a tree that is not committed.
#[derive(Debug)]
pub(super) struct Scratch {
    directory: TempDir,
    /// The repository's own objects.
    objects: PathBuf,
}

impl Head {
    /// The directory's tree with all that is changed, deleted or new; with the time of the last commit, so that the same files give the same
    /// archive.
    pub(crate) fn with_changes(self) -> Result<Self, GitError> {
        let scratch = Scratch::of(&self.dir)?;
        let prefix = line(&self.dir, &["rev-parse", "--show-prefix"])?;
        scratch.run(&self.dir, &["add", "--all", "--", "."])?;
        let prefix = format!("--prefix={prefix}");
        let written = scratch.run(&self.dir, &["write-tree", &prefix])?;
        Ok(Self {
            tree: String::from_utf8_lossy(&written).trim_end().to_owned(),
            scratch: Some(scratch),
            ..self
        })
    }
}

impl Scratch {
    fn of(dir: &Path) -> Result<Self, GitError> {
        let objects = path(dir, "objects")?;
        let index = path(dir, "index")?;
        let made = || -> io::Result<TempDir> {
            let directory = tempfile::tempdir()?;
            fs::create_dir(directory.path().join("objects"))?;
            copy_index(&index, &directory.path().join("index"))?;
            Ok(directory)
        };
        let directory = made().map_err(|source| GitError::Scratch {
            dir: dir.to_owned(),
            source,
        })?;
        Ok(Self { directory, objects })
    }

    /// Lets git look there as well as into the repository, and write there.
    pub(super) fn add_to(&self, git: &mut Command) {
        git.env("GIT_INDEX_FILE", self.directory.path().join("index"))
            .env(
                "GIT_OBJECT_DIRECTORY",
                self.directory.path().join("objects"),
            )
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", quoted(&self.objects));
    }

    fn run(&self, dir: &Path, command: &[&str]) -> Result<Vec<u8>, GitError> {
        // An index that is split is written in two parts, the second into the repository.
        let whole = [&["-c", "core.splitIndex=false"], command].concat();
        let mut git = git(dir, &whole);
        self.add_to(&mut git);
        output(git, command, dir)
    }
}

/// Copies what git knows of the files, so that it need not read those that have not changed; nothing where nothing is known. With its time:
/// git reads a file again that changed when the index was written, or later, since its own time cannot tell.
fn copy_index(from: &Path, to: &Path) -> io::Result<()> {
    let written = match fs::metadata(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?.modified()?,
    };
    fs::copy(from, to)?;
    File::options().write(true).open(to)?.set_modified(written)
}

/// The path as one of a list, which git else takes apart at each colon.
fn quoted(path: &Path) -> OsString {
    let mut quoted = vec![b'"'];
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    OsString::from_vec(quoted)
}

/// Where the repository has its own.
fn path(dir: &Path, what: &str) -> Result<PathBuf, GitError> {
    let command = ["rev-parse", "--path-format=absolute", "--git-path", what];
    line(dir, &command).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::tests::{git, repository};

    /// The paths of the directory as it stands.
    fn standing(dir: &Path) -> Vec<String> {
        let head = Head::of(dir).unwrap().with_changes().unwrap();
        let entries = head.entries().unwrap().into_iter();
        entries.map(|entry| entry.path.to_string()).collect()
    }

    #[test]
    fn a_repository_may_lie_where_its_path_has_colons_and_quotes() {
        let (dir, parent) = (repository(), tempfile::tempdir().unwrap());
        let odd = parent.path().join("a:b \"c\\n:");
        fs::rename(dir.path(), &odd).unwrap();
        fs::write(odd.join("new"), "new\n").unwrap();
        assert!(standing(&odd).contains(&"new".to_owned()));
        // What has not changed is in the repository's own place, and its bytes are read from there.
        let head = Head::of(&odd).unwrap().with_changes().unwrap();
        assert!(crate::pack::pack(&head).is_ok());
    }

    #[test]
    fn nothing_is_written_into_a_repository_that_splits_its_index() {
        let dir = repository();
        git(dir.path(), &["config", "core.splitIndex", "true"]);
        git(dir.path(), &["update-index", "--split-index"]);
        fs::write(dir.path().join("new"), "new\n").unwrap();
        let written = || {
            let mut find = Command::new("find");
            let find = find.arg(dir.path().join(".git")).output();
            String::from_utf8(find.unwrap().stdout).unwrap()
        };
        let before = written();
        assert!(before.contains("sharedindex."), "{before}");
        assert!(standing(dir.path()).contains(&"new".to_owned()));
        assert_eq!(written(), before);
    }

    #[test]
    fn a_new_file_is_named_whatever_the_user_is_used_to() {
        let dir = repository();
        git(dir.path(), &["config", "status.showUntrackedFiles", "no"]);
        fs::write(dir.path().join("new"), "new\n").unwrap();
        assert_eq!(Head::of(dir.path()).unwrap().changes().unwrap(), ["new"]);
    }
}
