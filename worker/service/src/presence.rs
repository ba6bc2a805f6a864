//! What this worker has in hand: slots, places for parked jobs, snapshots in use. Everything that is counted here is counted
//! by a value that lives as long as what it counts.
//!
//! What always holds: a job runs only with a [`Slot`], of which there are as many as the configuration says; each change is
//! seen by whoever listens to [`Presence::changes`].

use std::collections::BTreeMap;
use std::sync::Arc;

use schemas::Sha256Digest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Slots and places, and what is in them. Clones share them.
#[derive(Clone, Debug)]
pub struct Presence {
    slots: Arc<Semaphore>,
    places: Arc<Semaphore>,
    counts: watch::Sender<Counts>,
}

/// What a worker has in hand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs that hold a slot.
    pub running: u32,
    /// Jobs that wait for a bake.
    pub parked: u32,
    /// The keys of the snapshots that jobs use, and how many jobs use each.
    pub snapshots: BTreeMap<Sha256Digest, u32>,
}

/// Room to run one job. Dropping it frees the slot.
#[derive(Debug)]
pub struct Slot {
    counts: watch::Sender<Counts>,
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
        self.counts
            .send_modify(|counts| *counts.snapshots.entry(key).or_default() += 1);
        InUse {
            counts: self.counts.clone(),
            key,
        }
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
                *users -= 1;
            }
            counts.snapshots.retain(|_, users| *users > 0);
        });
    }
}

#[cfg(test)]
mod tests {
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
}
