//! What there is: every published snapshot, and what points to it. Read once; what is said of it is decided without a server.
//!
//! ```text
//! build-snapshots      key.<key> ─▶ manifest      template.<class>.<name> ─▶ current key      recent.<…> ─▶ an environment's last keys
//! build-workers        <worker> ─▶ the keys that its jobs use
//! build-environments   template.<name> ─▶ how long it serves
//! ```
//!
//! What always holds: what cannot be read ends the reading. A collection that did not know of a worker would take its snapshots away.

mod held;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemas::bake::RecentBake;
use schemas::worker::WorkerState;
use schemas::{HostClass, Sha256Digest, Token};

pub use held::{Held, Kind, Summary};
pub use read::{Storehouse, UnknownKey};

use crate::history::Shelf;

/// What there is.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// Every published snapshot, by its key.
    pub snapshots: BTreeMap<Sha256Digest, Held>,
    /// Which template is current, for each class and name.
    pub templates: Vec<CurrentTemplate>,
    /// What environments were last baked for.
    pub recent: Vec<Recent>,
    /// The workers that are alive.
    pub workers: Vec<WorkerState>,
    /// How long the snapshots of a template serve, by its name.
    pub time_to_live: BTreeMap<Token, Duration>,
}

/// The template that environments are derived from now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentTemplate {
    /// For which hosts.
    pub class: HostClass,
    /// Its name.
    pub name: Token,
    /// Its snapshot.
    pub key: Sha256Digest,
}

/// What an environment was last baked for, the newest first.
#[derive(Debug, Clone)]
pub struct Recent {
    /// Which environment.
    pub shelf: Shelf,
    /// Its bakes.
    pub bakes: Vec<RecentBake>,
}

impl Inventory {
    /// The keys that jobs use at this moment.
    pub fn in_use(&self) -> BTreeSet<Sha256Digest> {
        let workers = self.workers.iter();
        workers
            .flat_map(|worker| worker.snapshots.iter().copied())
            .collect()
    }

    /// Whether a new bake or job would take this snapshot: a template's current one, and an environment's newest.
    pub fn is_current(&self, key: &Sha256Digest) -> bool {
        let newest = |recent: &Recent| recent.bakes.first().is_some_and(|bake| bake.key == *key);
        self.templates.iter().any(|template| template.key == *key) || self.recent.iter().any(newest)
    }

    /// Every snapshot in short: templates first, then by name, the newest first.
    pub fn summaries(&self) -> Vec<Summary> {
        let mut summaries: Vec<_> = self
            .snapshots
            .values()
            .map(|held| self.summary(held))
            .collect();
        summaries.sort_by(|one, other| {
            let order =
                |summary: &Summary| (summary.kind, summary.name.clone(), summary.tenant.clone());
            order(one)
                .cmp(&order(other))
                .then(other.created_at.cmp(&one.created_at))
        });
        summaries
    }

    /// One snapshot in short.
    pub fn summary(&self, held: &Held) -> Summary {
        Summary::new(held, self.is_current(&held.manifest.key))
    }

    /// The snapshots that were derived from the template `key`.
    pub fn children(&self, key: &Sha256Digest) -> impl Iterator<Item = &Held> {
        let key = *key;
        let all = self.snapshots.values();
        all.filter(move |held| held.manifest.parts.template_key == Some(key))
    }
}

#[cfg(test)]
pub(crate) mod tests;
