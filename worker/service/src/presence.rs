//! What this worker has in hand: slots, places for parked jobs, snapshots in use. Everything that is counted here is counted
//! by a value that lives as long as what it counts.
//!
//! What always holds: a job runs only with a [`Slot`], of which there are as many as the configuration says; each change is
//! seen by whoever listens to [`Presence::changes`].

use std::collections::BTreeMap;
use std::sync::Arc;

use schemas::Sha256Digest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::scratch::{Begun, Scratch};

/// Slots and places, and what is in them. Clones share them.
#[derive(Clone, Debug)]
pub struct Presence {
    slots: Arc<Semaphore>,
    places: Arc<Semaphore>,
    counts: watch::Sender<Counts>,
    /// The [`Counts::uses`] that others have been told of.
    told: watch::Sender<u64>,
    /// Where slots have their disks.
    scratch: Option<Scratch>,
}

/// What a worker has in hand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs that hold a slot.
    pub running: u32,
    /// Jobs that wait for a bake.
    pub parked: u32,
    /// The keys of the snapshots that jobs use.
    pub snapshots: BTreeMap<Sha256Digest, Users>,
    /// How often a snapshot has come into use. What is said of this state covers all of them.
    pub uses: u64,
}

/// The jobs that use a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Users {
    /// How many.
    jobs: u32,
    /// Which of [`Counts::uses`] the first of them was.
    since: u64,
}

/// Room to run one job. Dropping it frees the slot.
#[derive(Debug)]
pub struct Slot {
    counts: watch::Sender<Counts>,
    _begun: Option<Begun>,
    _permit: OwnedSemaphorePermit,
}

/// Room for one parked job. Dropping it frees the place.
#[derive(Debug)]
pub struct Place {
    counts: watch::Sender<Counts>,
    _permit: OwnedSemaphorePermit,
}

/// A snapshot that a job uses, until this is dropped.
#[derive(Debug)]
pub struct InUse {
    counts: watch::Sender<Counts>,
    key: Sha256Digest,
}

impl Presence {
    /// With `slots` for running jobs and `places` for parked ones.
    pub fn new(slots: u32, places: u32) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(slots as usize)),
            places: Arc::new(Semaphore::new(places as usize)),
            counts: watch::Sender::default(),
            told: watch::Sender::default(),
            scratch: None,
        }
    }

    /// The same, whose slots have their disks there.
    #[must_use]
    pub fn on(self, scratch: Scratch) -> Self {
        Self {
            scratch: Some(scratch),
            ..self
        }
    }

    /// The right to a slot, as soon as there is one. It counts as running once a job has it: [`Presence::fill`].
    pub async fn permit(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.slots).acquire_owned().await;
        permit.expect("nothing closes the slots")
    }

    /// The same, if there is one now.
    pub fn try_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }

    /// A slot for a job.
    pub fn fill(&self, permit: OwnedSemaphorePermit) -> Slot {
        self.counts.send_modify(|counts| counts.running += 1);
        Slot {
            counts: self.counts.clone(),
            _begun: self.scratch.as_ref().map(Scratch::begins),
            _permit: permit,
        }
    }

    /// A place for a job that waits, if there is one.
    pub fn park(&self) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        self.counts.send_modify(|counts| counts.parked += 1);
        Some(Place {
            counts: self.counts.clone(),
            _permit: permit,
        })
    }

    /// Says that a job uses the snapshot with that key.
    pub fn uses(&self, key: Sha256Digest) -> InUse {
        self.counts.send_modify(|counts| {
            let since = counts.uses + 1;
            let users = counts.snapshots.entry(key).or_insert_with(|| {
                counts.uses = since;
                Users { jobs: 0, since }
            });
            users.jobs += 1;
        });
        InUse {
            counts: self.counts.clone(),
            key,
        }
    }

    /// Takes in that others have been told of a state with these [`Counts::uses`].
    pub fn told(&self, uses: u64) {
        self.told.send_replace(uses);
    }

    /// Waits until others have been told that the snapshot is in use.
    pub async fn known(&self, in_use: &InUse) {
        let since = self.counts.borrow().snapshots.get(&in_use.key).copied();
        let since = since.map_or(0, |users| users.since);
        let mut told = self.told.subscribe();
        let heard = told.wait_for(|uses| *uses >= since).await;
        let _uses = heard.expect("this presence holds the sender");
    }

    /// What is in hand now, and every change of it.
    pub fn changes(&self) -> watch::Receiver<Counts> {
        self.counts.subscribe()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.counts.send_modify(|counts| counts.running -= 1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counts.send_modify(|counts| counts.parked -= 1);
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.counts.send_modify(|counts| {
            if let Some(users) = counts.snapshots.get_mut(&self.key) {
                users.jobs -= 1;
            }
            counts.snapshots.retain(|_, users| users.jobs > 0);
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn slots_and_places_are_no_more_than_there_are() {
        let presence = Presence::new(1, 1);
        let slot = presence.fill(presence.try_permit().unwrap());
        assert!(presence.try_permit().is_none());
        let place = presence.park().unwrap();
        assert!(presence.park().is_none());
        let changes = presence.changes();
        assert_eq!((changes.borrow().running, changes.borrow().parked), (1, 1));
        drop((slot, place));
        assert!(presence.try_permit().is_some() && presence.park().is_some());
        assert_eq!(*changes.borrow(), Counts::default());
    }

    #[test]
    fn a_snapshot_is_in_use_until_its_last_user_is_gone() {
        let presence = Presence::new(2, 0);
        let key = Sha256Digest::of("widget");
        let mut changes = presence.changes();
        let first = presence.uses(key);
        let second = presence.uses(key);
        drop(first);
        assert!(changes.borrow_and_update().snapshots.contains_key(&key));
        drop(second);
        assert!(changes.has_changed().unwrap());
        assert!(changes.borrow().snapshots.is_empty());
    }
    #[tokio::test]
    async fn a_snapshot_is_known_to_be_in_use_once_others_were_told_of_this_use() {
        let presence = Presence::new(2, 0);
        let key = Sha256Digest::of("widget");
        let said = || {
            let uses = presence.changes().borrow().uses;
            presence.told(uses);
        };
        let known = async |in_use: &InUse| presence.known(in_use).now_or_never().is_some();
        let first = presence.uses(key);
        assert!(!known(&first).await);
        said();
        assert!(known(&first).await);
        let second = presence.uses(key);
        assert!(known(&second).await, "it was told of the first");
        drop((first, second));
        let third = presence.uses(key);
        assert!(
            !known(&third).await,
            "it may have been told meanwhile that nobody uses it"
        );
        said();
        assert!(known(&third).await);
    }
}
