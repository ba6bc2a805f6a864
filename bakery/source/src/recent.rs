//! Small archives that were read a moment ago: the jobs of one change that build the same source ask the object store once.
//!
//! What always holds: an archive is found under the address and the digest with which it was fetched, and so by nobody who could not have
//! fetched it; nothing is found for longer than [`FOR`] after its fetch, however often it is used.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;
use schemas::{ObjectUri, Sha256Digest};
use tokio::time::Instant;

use crate::archive::Archive;

/// 1 MiB once decompressed: of a larger archive, reading it costs more than asking for it.
const SMALL: u64 = 1 << 20;

/// 16 of them, so 16 MiB of the host's disk: as many sources as a worker has in hand at once.
const KEPT: NonZeroUsize = NonZeroUsize::new(16).expect("it is not zero");

/// 1 min: so long is an object that was deleted still built from.
const FOR: Duration = Duration::from_mins(1);

/// The archives that were read last.
#[derive(Debug)]
pub(crate) struct Recent(Mutex<Kept>);

type Kept = LruCache<(ObjectUri, Sha256Digest), Read>;

/// An archive, and when it was asked for.
#[derive(Debug)]
struct Read {
    archive: Archive,
    at: Instant,
}

impl Recent {
    /// The archive that was fetched from `uri` and had `digest`, if that was not long before `now`.
    pub(crate) fn find(
        &self,
        uri: &ObjectUri,
        digest: Sha256Digest,
        now: Instant,
    ) -> Option<Archive> {
        let key = (uri.clone(), digest);
        let mut kept = self.kept();
        let read = kept.get(&key)?;
        if now.duration_since(read.at) < FOR {
            return Some(read.archive.clone());
        }
        kept.pop(&key);
        None
    }

    /// Keeps what was fetched from `uri` and has `digest`, if it is small; it was asked for at `at`.
    pub(crate) fn keep(
        &self,
        uri: &ObjectUri,
        digest: Sha256Digest,
        archive: &Archive,
        at: Instant,
    ) {
        if archive.bytes() <= SMALL {
            let archive = archive.clone();
            let key = (uri.clone(), digest);
            self.kept().put(key, Read { archive, at });
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing in here panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(KEPT)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    /// An archive with one file of so many zeros.
    async fn archive(size: usize) -> Archive {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(size as u64);
        let zeros = vec![0; size];
        tar.append_data(&mut header, "a", zeros.as_slice()).unwrap();
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
        let just_before = FOR - Duration::from_millis(1);
        let looks = [Duration::ZERO, just_before, FOR, just_before];
        assert_eq!(looks.map(found), [true, true, false, false]);
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
    async fn a_large_one_is_not_kept_and_of_the_small_those_that_were_used_last() {
        let (recent, digest, at) = (Recent::default(), Sha256Digest::of("a"), Instant::now());
        recent.keep(&address(0), digest, &archive(1 << 20).await, at);
        assert!(recent.find(&address(0), digest, at).is_none());
        let small = archive(1).await;
        for number in 1..=KEPT.get() {
            recent.keep(&address(number), digest, &small, at);
        }
        assert!(recent.find(&address(1), digest, at).is_some());
        recent.keep(&address(0), digest, &small, at);
        let found = |number| recent.find(&address(number), digest, at).is_some();
        assert_eq!([0, 1, 2, 3].map(found), [true, true, false, true]);
    }
}
