//! The janitor: keeps the queue of jobs in order. It is a part of every bakery that serves, and one of them does it at a time.
//!
//! ```text
//! waits for the lease ──taken──▶ keeps order ──asked to end──▶ gives the lease back
//!          ▲                          │
//!          ╰────────── lost ──────────╯
//! ```
//!
//! | module | what it does |
//! | --- | --- |
//! | [`consumers`] | makes the consumers through which workers take jobs, and removes them |
//! | [`rounds`] | reads the queue, and sees to what is due |
//! | [`waiting`] | what waits, and when it is due |
//! | [`ending`], [`end`] | ends a job that no worker has, and how |
//!
//! What always holds: nothing is kept here that the next janitor does not find on the server; all it does can be done twice, so that one
//! which lost its lease a moment ago does no harm.

mod consumers;
mod end;
mod ending;
mod rounds;
mod waiting;

use async_nats::Client;
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{Context, kv};
use bus::lease::{Lease, Leases};
use bus::retry::{self, Failure, Policy};
use bus::telemetry::Causes;
use schemas::Token;
use schemas::names::{JANITOR_LEASE, stream};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::consumers::Consumers;
use self::ending::Ending;
use self::rounds::Rounds;

/// The janitor of one bakery, which waits until it is the one.
#[derive(Clone)]
pub(crate) struct Janitor {
    pub(crate) client: Client,
    pub(crate) jetstream: Context,
    pub(crate) leases: Leases,
    /// What jobs did so far.
    pub(crate) records: kv::Store,
    pub(crate) cancels: kv::Store,
    /// The bakery, as the results that it gives name it.
    pub(crate) name: Token,
}

/// Why the queue of jobs could not be asked or changed: the server is away, or denies it.
#[derive(Debug, thiserror::Error)]
#[error("{doing} of the queue of jobs")]
struct QueueError {
    doing: &'static str,
    source: async_nats::Error,
}

impl Janitor {
    /// Keeps the queue in order until `shutdown`, whenever it is this bakery's turn.
    pub(crate) async fn keep(self, shutdown: CancellationToken) {
        while let Some(lease) = shutdown.run_until_cancelled(Box::pin(self.elected())).await {
            info!("keeps the queue of jobs in order");
            self.keep_under(lease, &shutdown).await;
        }
    }

    /// Returns once this bakery is the one.
    async fn elected(&self) -> Lease {
        let take = || async {
            let taken = self.leases.take(JANITOR_LEASE, self.name.as_str()).await;
            taken.map_err(Failure::Transient)
        };
        loop {
            let taken = retry::with(Policy::FOREVER, "take the janitor's lease", take).await;
            match taken.expect("what is tried for ever does not fail") {
                Some(lease) => return lease,
                None => self.leases.free(JANITOR_LEASE).await,
            }
        }
    }

    async fn keep_under(&self, mut lease: Lease, shutdown: &CancellationToken) {
        let consumers = Consumers::new(self.queue().await);
        let rounds = Rounds::new(self.ending().await, self.cancels.clone());
        let keeping = async { tokio::join!(consumers.keep(), rounds.go()) };
        let keeping = shutdown.run_until_cancelled(Box::pin(keeping));
        match lease.while_held(keeping).await {
            Ok(_) => lease.release().await,
            Err(lost) => {
                warn!(error = %Causes(&lost), "keeps the queue of jobs in order no longer");
            }
        }
    }

    async fn ending(&self) -> Ending {
        Ending {
            client: self.client.clone(),
            jetstream: self.jetstream.clone(),
            queue: self.queue().await,
            leases: self.leases.clone(),
            records: self.records.clone(),
            bakery: self.name.clone(),
        }
    }

    async fn queue(&self) -> Stream<()> {
        let queue = self.jetstream.get_stream_no_info(stream::JOBS).await;
        queue.expect(
            "a handle on a stream is made without asking the server, and the name is a constant",
        )
    }
}

impl QueueError {
    /// For `map_err`: `doing` something of the queue failed.
    fn of<E: Into<async_nats::Error>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self {
            doing,
            source: error.into(),
        }
    }
}

#[cfg(test)]
mod tests;
