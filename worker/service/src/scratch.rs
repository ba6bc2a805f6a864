//! The disk on which running jobs have theirs: a job is pulled only while a slot's disk is free for it, for every pull on its way, and for
//! every job that began since the last look, whose writes were not seen yet.
//!
//! What a guest may write is free when it starts, not set aside: disks are sparse, and few jobs fill theirs. The shared cache of
//! snapshots lies on the same disk and keeps to its own limit; what it may still grow by is taken off once, when slots are computed.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

/// 1 s: what a look is good for. A guest that writes as fast as a disk can does not fill a slot's space in that.
pub const GOOD_FOR: Duration = Duration::from_secs(1);

/// The scratch space. Clones share what was seen.
#[derive(Clone, Debug)]
pub struct Scratch {
    directory: PathBuf,
    need_bytes: u64,
    seen: Arc<Mutex<Seen>>,
    /// Why there is no room.
    reason: watch::Sender<Option<String>>,
}

/// A job that begins to write. Dropping it says that it has ended.
#[derive(Debug)]
pub struct Begun {
    seen: Arc<Mutex<Seen>>,
    /// The look after which it began.
    after: Option<Instant>,
}

/// The last look, and what came after it.
#[derive(Debug)]
struct Seen {
    /// None before the first.
    at: Option<Instant>,
    free_bytes: u64,
    /// Jobs that began since, and run.
    begun: u32,
}

impl Scratch {
    /// That of `directory`, of which a slot needs `need_bytes`.
    pub fn new(directory: PathBuf, need_bytes: u64) -> Self {
        Self {
            directory,
            need_bytes,
            seen: Arc::default(),
            reason: watch::Sender::default(),
        }
    }

    /// Whether one more slot's disk has room beside those of so many pulls on their way. A disk that cannot be asked has: a job says better what is wrong
    /// with it.
    pub fn has_room(&self, pulls: usize) -> bool {
        let mut seen = self.seen();
        let now = Instant::now();
        if seen.at.is_none_or(|at| now >= at + GOOD_FOR) {
            (seen.at, seen.begun) = (Some(now), 0);
            match self.free_bytes() {
                Ok(free) => {
                    seen.free_bytes = free;
                    self.say(shortage(free, self.need_bytes));
                }
                Err(error) => warn!(directory = %self.directory.display(), %error, "free space"),
            }
        }
        seen.has_room(self.need_bytes, pulls)
    }

    /// One more job begins: what it will write is not seen yet.
    pub fn begins(&self) -> Begun {
        let mut seen = self.seen();
        seen.begun += 1;
        Begun {
            seen: Arc::clone(&self.seen),
            after: seen.at,
        }
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

    fn seen(&self) -> MutexGuard<'_, Seen> {
        locked(&self.seen)
    }

    /// It is logged under the watch's lock, so that the words of two looks come in order; no log asks for the reason.
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

impl Drop for Begun {
    fn drop(&mut self) {
        let mut seen = locked(&self.seen);
        // One that began before the last look is not counted any more.
        if seen.at == self.after {
            seen.begun -= 1;
        }
    }
}

fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    fn has_room(&self, need_bytes: u64, pulls: usize) -> bool {
        let jobs = u64::from(self.begun) + pulls as u64 + 1;
        need_bytes.saturating_mul(jobs) <= self.free_bytes
    }
}

/// Before the first look: nothing is known to be missing.
impl Default for Seen {
    fn default() -> Self {
        Self {
            at: None,
            free_bytes: u64::MAX,
            begun: 0,
        }
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
    fn room_for_one_is_not_room_for_all_slots() {
        let seen = |begun| Seen {
            at: None,
            free_bytes: 10,
            begun,
        };
        let room = |begun, pulls| seen(begun).has_room(4, pulls);
        assert!(room(0, 0) && room(0, 1));
        assert!(!room(0, 2), "two may come");
        assert!(!room(1, 1), "one began and one may come");
    }

    #[test]
    fn a_disk_is_asked_for_what_it_has() {
        let directory = tempfile::tempdir().unwrap();
        let room = |need| Scratch::new(directory.path().to_owned(), need);
        assert!(room(1).has_room(0));
        let none = room(u64::MAX);
        assert!(!none.has_room(0));
        let reason = none.reasons().borrow().clone().unwrap();
        assert!(reason.contains("a slot needs"), "{reason}");
        assert!(room(1).free_bytes().unwrap() > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_is_good_for_a_second_and_the_next_forgets_what_began_before() {
        let directory = tempfile::tempdir().unwrap();
        let free = Scratch::new(directory.path().to_owned(), 1).free_bytes();
        let scratch = Scratch::new(directory.path().to_owned(), free.unwrap() / 3 * 2);
        assert!(scratch.has_room(0));
        drop(scratch.begins());
        assert!(scratch.has_room(0), "it has ended");
        let begun = scratch.begins();
        assert!(!scratch.has_room(0));
        assert_eq!(*scratch.reasons().borrow(), None, "there is room for one");
        // What is gone cannot be asked, and a look that failed changes nothing of what was seen.
        drop(directory);
        tokio::time::advance(GOOD_FOR).await;
        assert!(scratch.has_room(0));
        drop(begun);
        assert!(scratch.has_room(0));
    }
}
