//! What a fake guest says of itself.
//!
//! What always holds: unless a test has asked for trouble, random bytes and clock are the host's, and the disk is what lies in the
//! guest's tree, its memory excepted.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use uuid::Uuid;
use wire::{Probed, SurveySpec, Surveyed};

use super::Trouble;
use super::guest::Guest;
use super::server::Failure;

/// How late the clock of a guest with that trouble is: an hour.
const LATE: Duration = Duration::from_hours(1);

/// What no two guests share, and the time.
pub(super) fn probe(guest: &Guest) -> Probed {
    let trouble = guest.trouble();
    let mut random = [0; 32];
    let mut uuid = Uuid::nil();
    if trouble != Some(Trouble::RandomRepeats) {
        getrandom::fill(&mut random).expect("a Linux host has getrandom(2)");
        uuid = Uuid::new_v4();
    }
    let realtime = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut realtime = realtime.expect("the host's clock is past 1970");
    if trouble == Some(Trouble::ClockIsLate) {
        realtime -= LATE;
    }
    let hostname = fs::read_to_string(guest.root().join("etc/hostname")).unwrap_or_default();
    Probed {
        random,
        uuid: uuid.to_string(),
        realtime,
        hostname: hostname.trim().to_owned(),
    }
}

/// What the disk looks like; the whole of it, whatever is asked for.
pub(super) fn survey(spec: &SurveySpec, guest: &Guest) -> Result<Surveyed, Failure> {
    let mut disk = Disk::default();
    if guest.trouble() == Some(Trouble::DiskDiffers) {
        disk.hasher.update(b"another");
    }
    disk.add(guest.root(), guest.root())
        .map_err(Failure::doing(&spec.tree))?;
    Ok(Surveyed {
        digest: disk.hasher.finalize().into(),
        entries: disk.entries,
    })
}

#[derive(Default)]
struct Disk {
    hasher: Sha256,
    entries: u64,
}

impl Disk {
    /// Adds what lies below `path`: names, modes, and the bytes of files. The hostname is a file here, and each start writes it.
    fn add(&mut self, root: &Path, path: &Path) -> io::Result<()> {
        let mut paths = fs::read_dir(path)?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        for path in paths {
            let name = path.strip_prefix(root).expect("it lies below");
            if name == Path::new("run") || name == Path::new("etc/hostname") {
                continue;
            }
            let metadata = fs::symlink_metadata(&path)?;
            self.entries += 1;
            self.hasher.update(name.as_os_str().as_encoded_bytes());
            self.hasher.update(metadata.mode().to_le_bytes());
            if metadata.is_dir() {
                self.add(root, &path)?;
            } else if metadata.is_file() {
                self.hasher.update(metadata.size().to_le_bytes());
                self.hasher.update(fs::read(&path)?);
            }
        }
        Ok(())
    }
}
