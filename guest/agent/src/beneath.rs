//! Paths below a directory that cannot lead out of it.
//!
//! What always holds: no symbolic link is followed, not on the way and not at the end, so what a build left in the tree
//! cannot redirect what the host puts or gets.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

/// Opens `path` below `root`.
pub(crate) fn open(root: BorrowedFd<'_>, path: &str, flags: OFlag, mode: Mode) -> io::Result<File> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
        .mode(mode)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    Ok(File::from(openat2(root, path, how)?))
}

/// Opens the directory `path` below `root`.
pub(crate) fn open_directory(root: BorrowedFd<'_>, path: &str) -> io::Result<File> {
    open(
        root,
        path,
        OFlag::O_RDONLY | OFlag::O_DIRECTORY,
        Mode::empty(),
    )
}

/// Opens the directory that all of one operation's paths lie below.
pub(crate) fn open_root(path: &str) -> io::Result<File> {
    let slash = File::open("/")?;
    match Path::new(path).strip_prefix("/") {
        Ok(inner) if inner.as_os_str().is_empty() => Ok(slash),
        Ok(inner) => {
            let inner = inner.to_str().expect("it was a str");
            open_directory(slash.as_fd(), inner)
        }
        Err(_) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not an absolute path",
        )),
    }
}

/// Refuses a path that is not plainly below a root: absolute, empty, or with an empty, `.` or `..` part.
pub(crate) fn check(path: &str) -> Result<(), String> {
    let bad = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains('\0');
    if path.split('/').any(bad) {
        Err(format!("{path:?} is not a path below a tree"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn a_path_that_could_leave_the_tree_is_refused() {
        for path in [
            "", "/", "/a", "..", "a/../b", "a//b", "./a", "a/.", "a/", "a\0b",
        ] {
            assert!(check(path).is_err(), "{path:?}");
        }
        for path in ["a", "a/b", "..a/b..", ".a"] {
            assert!(check(path).is_ok(), "{path:?}");
        }
    }
}
