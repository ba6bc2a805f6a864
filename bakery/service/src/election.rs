//! Which bakery bakes, of all that could: the one that holds the lease of what is to be baked.
//!
//! ```text
//! wanted ─ there? ──yes─▶ found
//!    ▲       └─no─ take the lease ─ mine ─▶ bake, renewing ─▶ published, lease released
//!    │                 └─ another's ─ wait until it is free ──╮
//!    └────────────────────────────────────────────────────────╯
//! ```
//!
//! A bakery that is asked to end drops its work and gives the lease back, so that the next need not wait until it expires.
//!
//! What always holds: of all bakeries at most one makes a snapshot at a time; one that dies or cannot reach the server loses the lease, and
//! the next looks again before it bakes; in one process one guest is made at a time, since a bake takes all the memory that its guest has.

use bus::lease::{Lease, LeaseError, Leases};
use schemas::Token;
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::error::BakeError;

/// The turns of one bakery.
pub(crate) struct Election {
    leases: Option<Leases>,
    name: Token,
    /// Cancelled when the bakery is asked to end.
    shutdown: CancellationToken,
    /// Held while a guest is made.
    oven: Mutex<()>,
}

/// What came of asking for a turn.
pub(crate) enum Turn<T> {
    /// The work was done, and this is what came of it.
    Done(T),
    /// Another bakery was at it, and no longer is: look again at what there is.
    LookAgain,
}

impl Election {
    /// Among all bakeries that use these leases, until `shutdown`. `name` is for people who look at the leases.
    pub(crate) fn among(leases: Leases, name: Token, shutdown: CancellationToken) -> Self {
        Self {
            leases: Some(leases),
            name,
            shutdown,
            oven: Mutex::new(()),
        }
    }

    /// For a bakery whose store nobody else uses.
    #[cfg(test)]
    pub(crate) fn alone() -> Self {
        Self {
            leases: None,
            name: "alone".parse().expect("a plain word is a token"),
            shutdown: CancellationToken::new(),
            oven: Mutex::new(()),
        }
    }

    /// Does `work` if nobody else is at what `lease` stands for; else waits until nobody is.
    pub(crate) async fn turn<T>(
        &self,
        lease: &str,
        work: impl Future<Output = Result<T, BakeError>>,
    ) -> Result<Turn<T>, BakeError> {
        match self.turn_now(lease, work).await? {
            Some(done) => Ok(Turn::Done(done)),
            None => Ok(self.wait_for(lease).await),
        }
    }

    /// As [`Election::turn`], for work that makes a guest: its lease is not taken before this bakery can begin, so that another that is idle
    /// can.
    pub(crate) async fn turn_at_the_oven<T>(
        &self,
        lease: &str,
        work: impl Future<Output = Result<T, BakeError>>,
    ) -> Result<Turn<T>, BakeError> {
        let oven = self.oven.lock().await;
        let done = self.turn_now(lease, work).await?;
        drop(oven);
        match done {
            Some(done) => Ok(Turn::Done(done)),
            None => Ok(self.wait_for(lease).await),
        }
    }

    /// Held while a guest is made, by work that did something else before.
    pub(crate) async fn oven(&self) -> MutexGuard<'_, ()> {
        self.oven.lock().await
    }

    /// None where somebody else is at it.
    async fn turn_now<T>(
        &self,
        lease: &str,
        work: impl Future<Output = Result<T, BakeError>>,
    ) -> Result<Option<T>, BakeError> {
        let Some(leases) = &self.leases else {
            return work.await.map(Some);
        };
        let Some(held) = leases.take(lease, self.name.as_str()).await? else {
            return Ok(None);
        };
        let work = self.shutdown.run_until_cancelled(work);
        done_under(held, work).await.map(Some)
    }

    async fn wait_for<T>(&self, lease: &str) -> Turn<T> {
        info!(lease, "another bakery is at it");
        if let Some(leases) = &self.leases {
            leases.free(lease).await;
        }
        Turn::LookAgain
    }
}

/// Does the work, and gives the lease back whatever came of it; one that was lost is not ours to give.
async fn done_under<T>(
    mut lease: Lease,
    work: impl Future<Output = Option<Result<T, BakeError>>>,
) -> Result<T, BakeError> {
    match lease.while_held(work).await {
        Ok(done) => {
            lease.release().await;
            done.unwrap_or(Err(BakeError::Ending))
        }
        Err(lost @ (LeaseError::Lost { .. } | LeaseError::Server { .. })) => Err(lost.into()),
    }
}
