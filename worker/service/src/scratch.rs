//! The disk on which running jobs have theirs: a job is pulled only while one slot's disk is free.
//!
//! What a guest may write is free when it starts, not set aside: disks are sparse, and few jobs fill theirs. The shared cache of
//! snapshots lies on the same disk and keeps to its own limit; what it may still grow by is taken off once, when slots are computed.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

/// 1 s: what a look is good for. A guest that writes as fast as a disk can does not fill a slot's space in that.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// The scratch space. Clones share what was seen.
#[derive(Clone, Debug)]
pub struct Scratch {
    directory: PathBuf,
    need_bytes: u64,
    seen_at: Arc<Mutex<Option<Instant>>>,
    /// Why there is no room.
    reason: watch::Sender<Option<String>>,
}

impl Scratch {
    /// That of `directory`, of which a slot needs `need_bytes`.
    pub fn new(directory: PathBuf, need_bytes: u64) -> Self {
        Self {
            directory,
            need_bytes,
            seen_at: Arc::default(),
            reason: watch::Sender::default(),
        }
    }

    /// Whether one more slot's disk has room. A disk that cannot be asked has: a job says better what is wrong with it.
    pub fn has_room(&self) -> bool {
        let mut seen_at = self.seen_at.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if seen_at.is_none_or(|at| now >= at + GOOD_FOR) {
            *seen_at = Some(now);
            match self.free_bytes() {
                Ok(free) => self.say(shortage(free, self.need_bytes)),
                Err(error) => warn!(directory = %self.directory.display(), %error, "free space"),
            }
        }
        self.reason.borrow().is_none()
    }

    /// Why there is no room, and every change of that.
    pub fn reasons(&self) -> watch::Receiver<Option<String>> {
        self.reason.subscribe()
    }

    /// Bytes that may be written.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let disk = statvfs(&self.directory)?;
        Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
    }

    fn say(&self, reason: Option<String>) {
        self.reason.send_if_modified(|said| {
            match (said.as_deref(), reason.as_deref()) {
                (None, Some(reason)) => warn!(reason, "no jobs are taken"),
                (Some(_), None) => info!("jobs are taken again: there is scratch space"),
                (None, None) | (Some(_), Some(_)) => {}
            }
            let changed = *said != reason;
            *said = reason;
            changed
        });
    }
}

/// In words, what is missing; none where there is enough.
fn shortage(free_bytes: u64, need_bytes: u64) -> Option<String> {
    (free_bytes < need_bytes).then(|| {
        let (free, need) = (gibibytes(free_bytes), gibibytes(need_bytes));
        format!("scratch: {free} free, a slot needs {need}")
    })
}

/// As `1.5 GiB`; the free space is rounded down, so that it never reads as enough.
fn gibibytes(bytes: u64) -> String {
    let tenths = u128::from(bytes) * 10 / (1 << 30);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_in_words() {
        assert_eq!(shortage(4 << 30, 4 << 30), None);
        assert_eq!(
            shortage(1 << 30, 4 << 30).as_deref(),
            Some("scratch: 1.0 GiB free, a slot needs 4.0 GiB")
        );
        assert_eq!(gibibytes((4 << 30) - 1), "3.9 GiB");
    }

    #[test]
    fn a_disk_is_asked_for_what_it_has() {
        let directory = tempfile::tempdir().unwrap();
        let room = |need| Scratch::new(directory.path().to_owned(), need);
        assert!(room(1).has_room());
        let none = room(u64::MAX);
        assert!(!none.has_room());
        assert!(
            none.reasons()
                .borrow()
                .as_deref()
                .unwrap()
                .contains("a slot needs")
        );
        assert!(room(1).free_bytes().unwrap() > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_is_good_for_a_second() {
        let directory = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(directory.path().to_owned(), 1);
        assert!(scratch.has_room());
        // What is gone cannot be asked, and a look that failed changes nothing.
        drop(directory);
        tokio::time::advance(GOOD_FOR).await;
        assert!(scratch.has_room());
    }
}
