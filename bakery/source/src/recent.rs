//! Small archives in the object store that were read a moment ago: jobs that build one source, one after another, ask for it about once a
//! minute.
//!
//! What always holds: an archive is found under the address and the digest with which it was fetched, and so by nobody who could not have
//! fetched it; nothing is found for longer than [`FOR`] after its fetch, however often it is used. What was not found again lies there until
//! the next fetch of any source.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schemas::{ObjectUri, Sha256Digest};
use tokio::time::Instant;

use crate::archive::Archive;

/// 1 MiB, its index in memory included: the sources of small packages are below it. To read a larger one again takes longer than what is
/// spared by not asking for it.
const LARGEST: u64 = 1 << 20;

/// 16 archives: 16 MiB of this host's disk and memory together, for sources that several tenants build at a time. Of more, those that were
/// fetched last.
const MOST: usize = 16;

/// 1 min: the jobs of one push come within it, and no longer is an object built from that was deleted.
const FOR: Duration = Duration::from_mins(1);

/// The archives that were fetched last, the oldest in front.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<VecDeque<Fetch>>);

/// One that was fetched, and when it was asked for.
#[derive(Debug)]
struct Fetch {
    uri: ObjectUri,
    digest: Sha256Digest,
    archive: Archive,
    at: Instant,
}

impl Recent {
    /// The archive that was fetched from `uri` and had `digest`, if that was less than [`FOR`] before `now`.
    pub(crate) fn find(
        &self,
        uri: &ObjectUri,
        digest: Sha256Digest,
        now: Instant,
    ) -> Option<Archive> {
        let mut kept = self.kept();
        let old = expired(&mut kept, now);
        let mut newest_first = kept.iter().rev();
        let found = newest_first.find(|fetch| fetch.digest == digest && fetch.uri == *uri);
        let archive = found.map(|fetch| fetch.archive.clone());
        drop(kept);
        // It closes files, for which nobody waits.
        drop(old);
        archive
    }

    /// Keeps what was fetched from `uri` and has `digest`, if it is small; it was asked for at `at`.
    pub(crate) fn keep(
        &self,
        uri: &ObjectUri,
        digest: Sha256Digest,
        archive: &Archive,
        at: Instant,
    ) {
        if archive.footprint() > LARGEST {
            return;
        }
        let fetch = Fetch {
            uri: uri.clone(),
            digest,
            archive: archive.clone(),
            at,
        };
        let mut kept = self.kept();
        let mut old = expired(&mut kept, at);
        kept.push_back(fetch);
        let too_many = kept.len().saturating_sub(MOST);
        old.extend(kept.drain(..too_many));
        drop(kept);
        drop(old);
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Fetch>> {
        // Nothing in here panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes out what is too old at `now`.
fn expired(kept: &mut VecDeque<Fetch>, now: Instant) -> VecDeque<Fetch> {
    let all = std::mem::take(kept).into_iter();
    let (old, new) = all.partition(|fetch| now.duration_since(fetch.at) >= FOR);
    *kept = new;
    old
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    /// An archive with one file of so many zeros.
    async fn archive(size: usize) -> Archive {
        archive_of("a", size).await
    }

    async fn archive_of(path: &str, size: usize) -> Archive {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(size as u64);
        let zeros = vec![0; size];
        tar.append_data(&mut header, path, zeros.as_slice())
            .unwrap();
        let mut file = tempfile::tempfile().unwrap();
        zstd::stream::copy_encode(tar.into_inner().unwrap().as_slice(), &mut file, 3).unwrap();
        let into = std::env::temp_dir();
        Archive::open(file, &Limits::default(), &into)
            .await
            .unwrap()
    }

    fn address(number: usize) -> ObjectUri {
        ObjectUri::new("sources", &format!("acme/{number}")).unwrap()
    }

    #[tokio::test]
    async fn an_archive_is_found_for_a_minute_after_its_fetch_however_often() {
        let (recent, digest, at) = (Recent::default(), Sha256Digest::of("a"), Instant::now());
        recent.keep(&address(1), digest, &archive(1).await, at);
        let found = |after| recent.find(&address(1), digest, at + after).is_some();
        let just_before = FOR.mul_f64(0.999);
        assert_eq!(
            [Duration::ZERO, just_before, FOR].map(found),
            [true, true, false]
        );
    }

    #[tokio::test]
    async fn it_is_found_under_its_own_address_and_digest() {
        let (recent, digest, at) = (Recent::default(), Sha256Digest::of("a"), Instant::now());
        recent.keep(&address(1), digest, &archive(1).await, at);
        assert!(recent.find(&address(2), digest, at).is_none());
        let other = Sha256Digest::of("b");
        assert!(recent.find(&address(1), other, at).is_none());
        assert!(recent.find(&address(1), digest, at).is_some());
    }

    #[tokio::test]
    async fn a_large_one_is_not_kept_be_it_large_on_disk_or_in_memory() {
        let (recent, digest, at) = (Recent::default(), Sha256Digest::of("a"), Instant::now());
        let deep = "d/".repeat(2000) + "a";
        let large = [archive(1 << 20).await, archive_of(&deep, 1).await];
        for archive in large {
            assert!(archive.footprint() > LARGEST);
            recent.keep(&address(0), digest, &archive, at);
            assert!(recent.find(&address(0), digest, at).is_none());
        }
        let almost = archive((1 << 20) - 4096).await;
        recent.keep(&address(0), digest, &almost, at);
        assert!(recent.find(&address(0), digest, at).is_some());
    }

    #[tokio::test]
    async fn those_that_were_fetched_last_are_kept_and_what_is_too_old_is_let_go() {
        let (recent, digest, at) = (Recent::default(), Sha256Digest::of("a"), Instant::now());
        let small = archive(1).await;
        for number in 0..=MOST {
            recent.keep(&address(number), digest, &small, at);
        }
        let found = |number| recent.find(&address(number), digest, at).is_some();
        assert_eq!([0, 1, MOST].map(found), [false, true, true]);
        recent.keep(&address(0), digest, &small, at + FOR);
        assert_eq!(recent.kept().len(), 1);
    }
}
