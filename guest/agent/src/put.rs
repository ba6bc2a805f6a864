//! Writes what the host sends: directories, regular files, symbolic links.
//!
//! What always holds: whatever stands where an entry goes is replaced, and so is anything but a directory that stands on
//! the way to it; nothing outside the root is touched.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, UtimensatFlags, fchmod, fstatat, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, symlinkat, unlinkat};
use wire::{Entry, EntryKind, PutSpec, PutSummary, ToGuest, User};

use crate::beneath;
use crate::operations::Failure;
use crate::session::{Channel, Event};

/// Takes entries until the host has no more.
pub(crate) fn put(channel: &mut Channel, spec: &PutSpec) -> Result<PutSummary, Failure> {
    let what = format!("open {}", spec.root);
    let root = make_root(&spec.root, spec.owner).map_err(Failure::doing(&what))?;
    let mut tree = Tree {
        root,
        owner: spec.owner,
        directories: Vec::new(),
    };
    let mut summary = PutSummary::default();
    loop {
        match channel.next() {
            Event::Message(ToGuest::Entry(entry)) => {
                beneath::check(&entry.path).map_err(Failure::Problem)?;
                summary.entries += 1;
                summary.bytes += tree.write(channel, entry)?;
            }
            Event::Message(ToGuest::Finish) => break,
            Event::Gone => return Err(Failure::Gone),
            Event::Message(ToGuest::Terminate { .. })
            | Event::Data(_)
            | Event::Closed
            | Event::SaidAll
            | Event::Exited(_) => {
                return Err(Failure::Problem("expected an entry or the end".into()));
            }
        }
    }
    tree.date_directories()?;
    Ok(summary)
}

/// The tree that is written.
struct Tree {
    root: File,
    owner: User,
    /// Directories get their times last: every file written into one changes them.
    directories: Vec<Entry>,
}

impl Tree {
    /// Writes one entry, and the bytes that follow it; gives their number.
    fn write(&mut self, channel: &mut Channel, entry: Entry) -> Result<u64, Failure> {
        let what = format!("write {}", entry.path);
        let (parent, name) = self.parent(&entry.path).map_err(Failure::doing(&what))?;
        let parent = parent.as_ref().unwrap_or(&self.root).as_fd();
        match &entry.kind {
            EntryKind::Directory => {
                self.directory(parent, name, entry.mode)
                    .map_err(Failure::doing(&what))?;
                self.directories.push(entry);
                Ok(0)
            }
            EntryKind::Symlink { target } => {
                let link = || -> io::Result<()> {
                    remove(parent, name)?;
                    symlinkat(target.as_str(), parent, name)?;
                    let (uid, gid) = ids(self.owner);
                    fchownat(parent, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                    date(parent, name, entry.mtime)
                };
                link().map_err(Failure::doing(&what))?;
                Ok(0)
            }
            EntryKind::File { size } => {
                let mut file = create(parent, name).map_err(Failure::doing(&what))?;
                receive(channel, &mut file, *size, &what)?;
                self.own(&file, entry.mode).map_err(Failure::doing(&what))?;
                date(parent, name, entry.mtime).map_err(Failure::doing(&what))?;
                Ok(*size)
            }
        }
    }

    /// Opens the directory that `path` lies in, making what is missing, and gives the last part of the path.
    fn parent<'p>(&self, path: &'p str) -> io::Result<(Option<File>, &'p str)> {
        let Some((parents, name)) = path.rsplit_once('/') else {
            return Ok((None, path));
        };
        if let Ok(parent) = beneath::open_directory(self.root.as_fd(), parents) {
            return Ok((Some(parent), name));
        }
        let mut at = self.root.try_clone()?;
        for part in parents.split('/') {
            at = match beneath::open_directory(at.as_fd(), part) {
                Ok(next) => next,
                Err(_) => self.directory(at.as_fd(), part, 0o755)?,
            };
        }
        Ok((Some(at), name))
    }

    /// Makes the directory `name`, or takes the one that is there, and sets owner and mode.
    fn directory(&self, parent: BorrowedFd<'_>, name: &str, mode: u32) -> io::Result<File> {
        let directory = match beneath::open_directory(parent, name) {
            Ok(directory) => directory,
            Err(_) => {
                remove(parent, name)?;
                mkdirat(parent, name, Mode::S_IRWXU)?;
                beneath::open_directory(parent, name)?
            }
        };
        self.own(&directory, mode)?;
        Ok(directory)
    }

    /// Owner first: a change of owner takes set-id bits away.
    fn own(&self, file: &File, mode: u32) -> io::Result<()> {
        let (uid, gid) = ids(self.owner);
        fchown(file, uid, gid)?;
        Ok(fchmod(file, Mode::from_bits_truncate(mode & 0o7777))?)
    }

    fn date_directories(&self) -> Result<(), Failure> {
        for entry in self.directories.iter().rev() {
            let what = format!("set the time of {}", entry.path);
            let (parent, name) = self.parent(&entry.path).map_err(Failure::doing(&what))?;
            let parent = parent.as_ref().unwrap_or(&self.root).as_fd();
            date(parent, name, entry.mtime).map_err(Failure::doing(&what))?;
        }
        Ok(())
    }
}

/// Opens the root, making what is missing of it. Where it lies is the host's to say, so links on the way to it are
/// followed (Debian's `/lib` is one), and nothing that is there is replaced.
fn make_root(path: &str, owner: User) -> io::Result<File> {
    let inner = path.strip_prefix('/').unwrap_or_default();
    beneath::check(inner)
        .map_err(|problem| io::Error::new(io::ErrorKind::InvalidInput, problem))?;
    let mut at = PathBuf::from("/");
    for part in inner.split('/') {
        at.push(part);
        match std::fs::create_dir(&at) {
            Ok(()) => std::os::unix::fs::chown(&at, Some(owner.uid), Some(owner.gid))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    File::options()
        .read(true)
        .custom_flags(libc::O_DIRECTORY)
        .open(at)
}

/// Makes a new file where whatever stood there is gone.
fn create(parent: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    remove(parent, name)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    beneath::open(parent, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
}

/// Writes exactly `size` bytes of what the host sends.
fn receive(channel: &mut Channel, file: &mut File, size: u64, what: &str) -> Result<(), Failure> {
    let mut left = size;
    while left > 0 {
        match channel.next() {
            Event::Data(bytes) => {
                let more = "more bytes than announced";
                let rest = left.checked_sub(bytes.len() as u64);
                left = rest.ok_or_else(|| Failure::Problem(format!("{what}: {more}")))?;
                file.write_all(&bytes).map_err(Failure::doing(what))?;
            }
            Event::Gone => return Err(Failure::Gone),
            Event::Message(_) | Event::Closed | Event::SaidAll | Event::Exited(_) => {
                return Err(Failure::Problem(format!(
                    "{what}: {left} bytes are missing"
                )));
            }
        }
    }
    Ok(())
}

/// Removes whatever `name` is, a directory with all in it; fine if nothing is there.
fn remove(parent: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(Errno::EISDIR) => remove_directory(parent, name),
        Err(error) => Err(error.into()),
    }
}

fn remove_directory(parent: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let directory = beneath::open_directory(parent, name)?;
    let mut names = Vec::new();
    for entry in nix::dir::Dir::from_fd(directory.try_clone()?.into())?.iter() {
        let entry = entry?;
        let bytes = entry.file_name().to_bytes();
        if bytes != b"." && bytes != b".." {
            names.push(entry.file_name().to_owned());
        }
    }
    for inner in names {
        let inner = inner.to_str().map_err(io::Error::other)?;
        let stat = fstatat(&directory, inner, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            remove_directory(directory.as_fd(), inner)?;
        } else {
            unlinkat(&directory, inner, UnlinkatFlags::NoRemoveDir)?;
        }
    }
    Ok(unlinkat(parent, name, UnlinkatFlags::RemoveDir)?)
}

fn date(parent: BorrowedFd<'_>, name: &str, mtime: i64) -> io::Result<()> {
    let time = TimeSpec::new(mtime, 0);
    Ok(utimensat(
        parent,
        name,
        &time,
        &time,
        UtimensatFlags::NoFollowSymlink,
    )?)
}

fn ids(owner: User) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(owner.uid)),
        Some(Gid::from_raw(owner.gid)),
    )
}
