//! Files of a fake guest: put, list, read.
//!
//! What always holds: nothing outside the asked root is touched and no symbolic link is followed. The tree is looked at
//! before it is written, not held open, so a command that changes it at the same moment could fool this; the agent of a
//! real guest is not fooled.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use sha2::{Digest, Sha256};
use wire::frame::MAX_DATA;
use wire::{
    Entry, EntryKind, Found, Lane, ListSpec, PutSpec, PutSummary, ReadSpec, ToGuest, ToHost,
};

use super::guest::{Guest, check, is_plain_directory};
use super::server::Failure;
use super::session::{Channel, Incoming, Sender};

/// Files in one message. A path has at most 4,096 bytes, so 15 of them fit whatever they are; the rest is overhead.
const BATCH: usize = 15;

const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// Gives the guest its name, where a test can read it.
pub(super) fn name(guest: &Guest, hostname: &str) -> Result<(), Failure> {
    let etc = guest.root().join("etc");
    fs::create_dir_all(&etc)
        .and_then(|()| fs::write(etc.join("hostname"), format!("{hostname}\n")))
        .map_err(Failure::doing("set the hostname"))
}

/// Takes entries until the host has no more. The owner is whoever runs the test.
pub(super) async fn put(
    channel: &mut Channel,
    spec: &PutSpec,
    guest: &Guest,
) -> Result<PutSummary, Failure> {
    let root = guest.locate(&spec.root).map_err(Failure::Problem)?;
    make_directories(guest.root(), &root)
        .map_err(Failure::doing(&format!("open {}", spec.root)))?;
    let mut directories = Vec::new();
    let mut summary = PutSummary::default();
    loop {
        match channel.receive().await? {
            Incoming::Message(ToGuest::Entry(entry)) => {
                check(&entry.path).map_err(Failure::Problem)?;
                summary.entries += 1;
                summary.bytes += write(channel, &root, &entry).await?;
                if entry.kind == EntryKind::Directory {
                    directories.push(entry);
                }
            }
            Incoming::Message(ToGuest::Finish) => break,
            Incoming::Message(ToGuest::Terminate { .. }) | Incoming::Data(_) | Incoming::Closed => {
                return Err(Failure::Problem("expected an entry or the end".into()));
            }
        }
    }
    // Directories get their times last: every file written into one changes them.
    for entry in directories.iter().rev() {
        let what = format!("set the time of {}", entry.path);
        date(&root.join(&entry.path), entry.mtime).map_err(Failure::doing(&what))?;
    }
    Ok(summary)
}

/// Writes one entry, and the bytes that follow it; gives their number.
async fn write(channel: &mut Channel, root: &Path, entry: &Entry) -> Result<u64, Failure> {
    let what = format!("write {}", entry.path);
    let path = root.join(&entry.path);
    let parent = path.parent().expect("an entry lies below its root");
    make_directories(root, parent).map_err(Failure::doing(&what))?;
    match &entry.kind {
        EntryKind::Directory => {
            make_directory(&path, entry.mode).map_err(Failure::doing(&what))?;
            Ok(0)
        }
        EntryKind::Symlink { target } => {
            remove(&path)
                .and_then(|()| symlink(target, &path))
                .and_then(|()| date(&path, entry.mtime))
                .map_err(Failure::doing(&what))?;
            Ok(0)
        }
        EntryKind::File { size } => {
            let created = remove(&path).and_then(|()| File::create_new(&path));
            let mut file = created.map_err(Failure::doing(&what))?;
            receive(channel, &mut file, *size, &what).await?;
            file.set_permissions(permissions(entry.mode))
                .and_then(|()| date(&path, entry.mtime))
                .map_err(Failure::doing(&what))?;
            Ok(*size)
        }
    }
}

/// Writes exactly `size` bytes of what the host sends.
async fn receive(
    channel: &mut Channel,
    file: &mut File,
    size: u64,
    what: &str,
) -> Result<(), Failure> {
    let mut left = size;
    while left > 0 {
        match channel.receive().await? {
            Incoming::Data(bytes) => {
                let rest = left.checked_sub(bytes.len() as u64);
                let more = || Failure::Problem(format!("{what}: more bytes than announced"));
                left = rest.ok_or_else(more)?;
                file.write_all(&bytes).map_err(Failure::doing(what))?;
            }
            Incoming::Message(_) | Incoming::Closed => {
                let problem = format!("{what}: {left} bytes are missing");
                return Err(Failure::Problem(problem));
            }
        }
    }
    Ok(())
}

/// Makes what is missing of the directories from `root` to `path`, in the place of whatever else stands there.
fn make_directories(root: &Path, path: &Path) -> io::Result<()> {
    let inner = path.strip_prefix(root).map_err(io::Error::other)?;
    let mut at = root.to_owned();
    for part in inner.components() {
        at.push(part);
        if !is_plain_directory(root, &at) {
            make_directory(&at, 0o755)?;
        }
    }
    Ok(())
}

/// Makes the directory `path`, or takes the one that is there, and sets its mode.
fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    if !fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        remove(path)?;
        fs::create_dir(path)?;
    }
    fs::set_permissions(path, permissions(mode))
}

/// Removes whatever `path` is, a directory with all in it; fine if nothing is there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn permissions(mode: u32) -> Permissions {
    Permissions::from_mode(mode & 0o7777)
}

fn date(path: &Path, mtime: i64) -> io::Result<()> {
    let time = TimeSpec::new(mtime, 0);
    let flags = UtimensatFlags::NoFollowSymlink;
    Ok(utimensat(AT_FDCWD, path, &time, &time, flags)?)
}

/// Lists what `spec` asks for.
pub(super) async fn list(sender: &Sender, spec: &ListSpec, guest: &Guest) -> Result<(), Failure> {
    let root = guest.locate(&spec.root).map_err(Failure::Problem)?;
    let mut patterns = Vec::new();
    for glob in &spec.globs {
        let what = format!("glob {glob:?}");
        patterns.push(Pattern::new(glob).map_err(Failure::doing(&what))?);
    }
    let mut found = BTreeMap::new();
    if is_plain_directory(guest.root(), &root) {
        let walked = walk(&root, &patterns, &mut found);
        walked.map_err(Failure::doing(&format!("list {}", spec.root)))?;
    }
    let files: Vec<Found> = found.into_values().take(spec.limit as usize + 1).collect();
    for batch in files.chunks(BATCH) {
        sender.send(&ToHost::Found(batch.to_vec())).await?;
    }
    Ok(())
}

fn walk(root: &Path, patterns: &[Pattern], found: &mut BTreeMap<String, Found>) -> io::Result<()> {
    let mut todo = vec![PathBuf::new()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(root.join(&directory))? {
            let entry = entry?;
            let inner = directory.join(entry.file_name());
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                todo.push(inner);
                continue;
            }
            let name = inner.to_str().ok_or_else(|| {
                io::Error::other(format!("the name {} is not UTF-8", inner.display()))
            })?;
            let matches = |pattern: &Pattern| pattern.matches_with(name, MATCHING);
            if metadata.is_file() && patterns.iter().any(matches) {
                let file = Found {
                    path: name.into(),
                    mode: metadata.mode() & 0o7777,
                    size: metadata.len(),
                };
                found.insert(name.into(), file);
            }
        }
    }
    Ok(())
}

/// Reads one file: what it is, then its bytes.
pub(super) async fn read(sender: &Sender, spec: &ReadSpec, guest: &Guest) -> Result<(), Failure> {
    let what = format!("read {}", spec.path);
    let (mut file, announcement) = open(spec, guest, &what)?;
    sender.send(&announcement).await?;
    let mut buffer = vec![0; MAX_DATA];
    loop {
        match file.read(&mut buffer).map_err(Failure::doing(&what))? {
            0 => return Ok(()),
            count => sender.send_data(Lane::Out, &buffer[..count]).await?,
        }
    }
}

/// Opens and hashes the file; gives it, back at its start, and what the host is to know before its bytes come.
fn open(spec: &ReadSpec, guest: &Guest, what: &str) -> Result<(File, ToHost), Failure> {
    check(&spec.path).map_err(Failure::Problem)?;
    let root = guest.locate(&spec.root).map_err(Failure::Problem)?;
    let path = root.join(&spec.path);
    let parent = path.parent().expect("a file lies below its root");
    let kind = fs::symlink_metadata(&path).map_err(Failure::doing(what))?;
    if !kind.is_file() || !is_plain_directory(guest.root(), parent) {
        let problem = format!("{what}: not a regular file, or a symbolic link leads there");
        return Err(Failure::Problem(problem));
    }
    let mut hasher = Sha256::new();
    let mut open = || -> io::Result<(File, u64)> {
        let mut file = File::open(&path)?;
        let size = io::copy(&mut file, &mut hasher)?;
        file.rewind()?;
        Ok((file, size))
    };
    let (file, size) = open().map_err(Failure::doing(what))?;
    let announcement = ToHost::File {
        mode: kind.mode() & 0o7777,
        size,
        digest: hasher.finalize().into(),
    };
    Ok((file, announcement))
}
