//! An environment's inputs as a source archive: the same files give the same bytes, whoever packs them.
//!
//! A tar in GNU's format, compressed with zstd: files sorted by path, owner and group 0, times 0, modes 0644 and 0755. It holds the
//! declared inputs and no other file.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use schemas::TreePath;
use tar::{Builder, EntryType, Header};

/// zstd's own default.
const LEVEL: i32 = 3;

/// Why inputs cannot be packed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// An input is not there, or cannot be read.
    #[error("read the input {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An input is something else than a file.
    #[error(
        "the input {input} is, or lies behind, something that is neither a file nor a directory of the tree"
    )]
    Kind {
        /// The input as the environment declares it.
        input: TreePath,
    },
    /// The archive cannot be written.
    #[error("write the archive")]
    Write(#[from] io::Error),
}

/// Packs `inputs` of the tree in `directory`.
pub(crate) fn pack(directory: &Path, inputs: &[TreePath]) -> Result<Vec<u8>, PackError> {
    let mut inputs: Vec<_> = inputs.iter().collect();
    inputs.sort();
    let mut archive = Builder::new(zstd::Encoder::new(Vec::new(), LEVEL)?);
    for input in inputs {
        check_way(directory, input)?;
        let path = directory.join(input.as_str());
        let failed = |source| PackError::Read {
            path: path.clone(),
            source,
        };
        let mode = path.metadata().map_err(failed)?.permissions().mode();
        let bytes = std::fs::read(&path).map_err(failed)?;
        let mut header = header(mode, bytes.len());
        archive.append_data(&mut header, input.as_str(), bytes.as_slice())?;
    }
    Ok(archive.into_inner()?.finish()?)
}

/// A bakery refuses inputs that are, or lie behind, symbolic links: the file that is read must be the one that is named.
fn check_way(directory: &Path, input: &TreePath) -> Result<(), PackError> {
    let mut path = directory.to_owned();
    let mut parts = input.as_str().split('/').peekable();
    while let Some(part) = parts.next() {
        path.push(part);
        let failed = |source| PackError::Read {
            path: path.clone(),
            source,
        };
        let kind = path.symlink_metadata().map_err(failed)?.file_type();
        let good = if parts.peek().is_some() {
            kind.is_dir()
        } else {
            kind.is_file()
        };
        if !good {
            let input = input.clone();
            return Err(PackError::Kind { input });
        }
    }
    Ok(())
}

fn header(mode: u32, length: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(if mode & 0o100 == 0 { 0o644 } else { 0o755 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(length as u64);
    header
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(order: [&str; 2]) -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join("sub")).unwrap();
        for name in order {
            fs::write(tree.path().join(name), name).unwrap();
        }
        fs::write(tree.path().join("undeclared"), "secret").unwrap();
        tree
    }

    fn inputs(names: &[&str]) -> Vec<TreePath> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn the_same_inputs_give_the_same_bytes_and_nothing_else_is_in_them() {
        let (first, second) = (tree(["a", "sub/b"]), tree(["sub/b", "a"]));
        let one = pack(first.path(), &inputs(&["a", "sub/b"])).unwrap();
        let two = pack(second.path(), &inputs(&["sub/b", "a"])).unwrap();
        assert_eq!(one, two);
        let plain = zstd::decode_all(one.as_slice()).unwrap();
        let names: Vec<_> = tar::Archive::new(plain.as_slice())
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["a", "sub/b"]);
    }

    #[test]
    fn an_input_that_is_missing_or_a_link_is_named() {
        let tree = tree(["a", "sub/b"]);
        std::os::unix::fs::symlink("a", tree.path().join("link")).unwrap();
        let refused = |name| pack(tree.path(), &inputs(&[name])).unwrap_err().to_string();
        assert!(refused("gone").ends_with("/gone"), "{}", refused("gone"));
        assert!(refused("link").starts_with("the input link is"));
        assert!(refused("sub").starts_with("the input sub is"));
        assert!(refused("link/x").starts_with("the input link/x is"));
    }
}
