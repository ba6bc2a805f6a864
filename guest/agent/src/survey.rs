//! What a tree looks like: a digest over the names, metadata and some of the content of everything in it.
//!
//! What always holds: only one filesystem is looked at, each directory in the order of its names, and no symbolic link is followed.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wire::frame::MAX_DATA;
use wire::{SurveySpec, Surveyed};

use crate::operations::Failure;

/// Answers it.
pub(crate) fn survey(spec: &SurveySpec) -> Result<Surveyed, Failure> {
    let mut tree = Tree::new(spec).map_err(Failure::doing(&spec.tree))?;
    let added = tree.add(Path::new(&spec.tree));
    added.map_err(Failure::doing(&format!("look at {}", spec.tree)))?;
    Ok(Surveyed {
        digest: tree.hasher.finalize().into(),
        entries: tree.entries,
    })
}

/// A tree that is being hashed.
struct Tree {
    device: u64,
    contents: PathBuf,
    /// Bytes of content that may still be read.
    budget: u64,
    hasher: Sha256,
    entries: u64,
    buffer: Vec<u8>,
}

impl Tree {
    fn new(spec: &SurveySpec) -> io::Result<Self> {
        Ok(Self {
            device: fs::symlink_metadata(&spec.tree)?.dev(),
            contents: PathBuf::from(&spec.contents),
            budget: spec.max_bytes,
            hasher: Sha256::new(),
            entries: 0,
            buffer: vec![0; MAX_DATA],
        })
    }

    /// Adds what lies below `root`, a directory before what lies in it, each in the order of the names.
    fn add(&mut self, root: &Path) -> io::Result<()> {
        let mut todo = listed(root)?;
        while let Some(path) = todo.pop() {
            let metadata = fs::symlink_metadata(&path)?;
            if metadata.dev() != self.device {
                continue;
            }
            self.entries += 1;
            self.describe(&path, &metadata);
            if metadata.is_dir() {
                todo.extend(listed(&path)?);
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path)?;
                self.word(target.as_os_str().as_bytes());
            } else if metadata.is_file() && path.starts_with(&self.contents) {
                self.content(&path)?;
            }
        }
        Ok(())
    }

    fn describe(&mut self, path: &Path, metadata: &Metadata) {
        self.word(path.as_os_str().as_bytes());
        for number in [metadata.mode(), metadata.uid(), metadata.gid()] {
            self.hasher.update(number.to_le_bytes());
        }
        if !metadata.is_dir() {
            self.hasher.update(metadata.size().to_le_bytes());
            self.hasher.update(metadata.mtime().to_le_bytes());
            self.hasher.update(metadata.mtime_nsec().to_le_bytes());
        }
    }

    fn content(&mut self, path: &Path) -> io::Result<()> {
        let mut file = File::open(path)?.take(self.budget);
        loop {
            match file.read(&mut self.buffer)? {
                0 => return Ok(()),
                count => {
                    self.budget -= count as u64;
                    self.hasher.update(&self.buffer[..count]);
                }
            }
        }
    }

    /// With its length before it, so that no two sequences of words hash the same.
    fn word(&mut self, bytes: &[u8]) {
        self.hasher.update((bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }
}

/// What lies in a directory, the first name last.
fn listed(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort_by(|one, other| other.cmp(one));
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(root: &Path, max_bytes: u64) -> [u8; 32] {
        let tree = root.to_str().unwrap().to_owned();
        let contents = format!("{tree}/src");
        let spec = SurveySpec {
            tree,
            contents,
            max_bytes,
        };
        let mut tree = Tree::new(&spec).unwrap();
        tree.add(root).unwrap();
        tree.hasher.finalize().into()
    }

    #[test]
    fn a_change_of_content_or_metadata_is_another_disk() {
        let root = std::env::temp_dir().join(format!("survey-{}", std::process::id()));
        fs::create_dir_all(root.join("src")).unwrap();
        let file = root.join("src/a");
        let write = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            let file = File::options().write(true).open(&file).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH)
                .unwrap();
        };
        write(b"one");
        let first = digest(&root, 100);
        assert_eq!(digest(&root, 100), first);
        write(b"two");
        assert_ne!(digest(&root, 100), first);
        let uncontent = digest(&root, 0);
        write(b"one");
        assert_eq!(digest(&root, 0), uncontent);
        std::os::unix::fs::symlink("a", root.join("link")).unwrap();
        assert_ne!(digest(&root, 100), first);
        fs::remove_dir_all(&root).unwrap();
    }
}
