//! The right to a job: its delivery, its lease, and its tenant's place among the jobs that may run.
//!
//! ```text
//! claimed ──▶ held, a sign of life every 10 s ──┬─▶ acknowledged, then released
//!                        │                      └─▶ given back, then released
//!                        ╰─ not confirmed for 20 s, or somebody else's ──▶ lost: nothing more is said
//! ```
//!
//! What always holds: what is said of a delivery is said while the job's lease is surely held, since it would count for whoever has the
//! delivery by then.

use std::time::Duration;

use async_nats::jetstream::{AckKind, Message};
use bus::lease::{Lease, LeaseError};
use bus::telemetry::Causes;
use schemas::Token;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::heart::{Beat, Heart, Keep};
use crate::queue::caps::{Cap, CapTurn, Caps};
use crate::services::Services;
use crate::verdict::Verdict;
use schemas::reason::Reason;

/// 1 s for a word to be on its way: it waits where the connection is away and many others wait as well.
const SAY_WITHIN: Duration = Duration::from_secs(1);

/// How long the last words of an attempt may take to leave.
const FLUSH_FOR: Duration = Duration::from_secs(5);

/// 10 s for the server to confirm that it heard an acknowledgement.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(10);

/// The right to a job.
#[derive(Debug)]
pub struct Hold {
    heart: Heart,
    rights: Rights,
}

#[derive(Debug)]
struct Rights {
    message: Message,
    /// None for a body that is no job of its own: every worker would give it the same result.
    lease: Option<Lease>,
    /// None for a tenant without a cap, and while the job is parked.
    cap: Option<Cap>,
}

impl Hold {
    /// Of a message that was just claimed.
    pub fn new(message: Message, lease: Option<Lease>, cap: Option<Cap>) -> Self {
        Self {
            heart: Heart::new(),
            rights: Rights {
                message,
                lease,
                cap,
            },
        }
    }

    /// Whether the job is surely ours at this moment.
    pub(super) fn is_sure(&self) -> bool {
        self.rights.is_sure()
    }

    /// Does the work and keeps the job ours meanwhile; none where it was lost first.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        self.heart.during(work, &mut self.rights).await
    }

    /// Gives the tenant's place to its next job.
    pub(super) async fn release_place(&mut self) {
        if let Some(cap) = self.rights.cap.take() {
            cap.release().await;
        }
    }

    /// Takes a place for the tenant's job again; says whether it may go on.
    pub(super) async fn take_place(&mut self, caps: &Caps, tenant: &Token) -> bool {
        match caps.take(tenant).await {
            Ok(CapTurn::Free) => true,
            Ok(CapTurn::Held(cap)) => {
                self.rights.cap = Some(cap);
                true
            }
            Ok(CapTurn::Full | CapTurn::NotYet) => false,
            Err(error) => {
                warn!(error = %Causes(&error), %tenant, "no place among the tenant's jobs");
                false
            }
        }
    }

    /// Acknowledges the delivery of a job that has its result, and frees the job.
    pub async fn acknowledge(&mut self) -> Result<(), Verdict> {
        let acknowledged = timeout(ACKNOWLEDGE_WITHIN, self.rights.message.double_ack()).await;
        self.release().await;
        // The next delivery finds the result and acknowledges again.
        let problem = match acknowledged {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not confirmed within {ACKNOWLEDGE_WITHIN:?}"),
        };
        Err(Verdict::new(Reason::HostFailed, problem))
    }

    /// Has the job delivered again after `delay`, and frees it: in this order, since a word that comes after another has the job would be
    /// said of another's delivery. Every delay is longer than what is left to do here.
    pub async fn give_back(&mut self, services: &Services, delay: Duration) {
        if !self.is_sure() {
            return;
        }
        let told = say(&self.rights.message, AckKind::Nak(Some(delay))).await;
        let flushed = timeout(FLUSH_FOR, services.client.flush()).await;
        if !told || !matches!(flushed, Ok(Ok(()))) {
            warn!("not given back: it comes back when its time is over");
        }
        self.release().await;
    }

    /// Lets go of what nobody has taken.
    pub async fn release(&mut self) {
        if let Some(lease) = self.rights.lease.take() {
            lease.release().await;
        }
        self.release_place().await;
    }

    /// Lets go of a job that another worker may have by now.
    pub(super) async fn lose(&mut self) {
        self.rights.lease = None;
        self.release_place().await;
    }
}

impl Rights {
    fn is_sure(&self) -> bool {
        let until = self.held_until();
        until.is_none_or(|until| Instant::now() < until)
    }

    async fn renew_place(&mut self) -> Beat {
        let Some(cap) = &mut self.cap else {
            return Beat::Kept;
        };
        match cap.renew().await {
            Ok(()) => Beat::Kept,
            Err(error) => {
                warn!(error = %Causes(&error), "place not renewed");
                Beat::Unconfirmed
            }
        }
    }
}

impl Keep for Rights {
    fn held_until(&self) -> Option<Instant> {
        self.lease.as_ref().map(Lease::held_until)
    }

    async fn beat(&mut self) -> Beat {
        say(&self.message, AckKind::Progress).await;
        if let Some(lease) = &mut self.lease {
            match lease.renew().await {
                Ok(()) => {}
                Err(error @ LeaseError::Server { .. }) => {
                    warn!(error = %Causes(&error), "lease not renewed");
                    return Beat::Unconfirmed;
                }
                Err(error @ LeaseError::Lost { .. }) => {
                    info!(error = %Causes(&error), "lost");
                    return Beat::Lost;
                }
            }
        }
        self.renew_place().await
    }
}

/// Says something of a delivery; whether it is on its way.
pub(crate) async fn say(message: &Message, word: AckKind) -> bool {
    match timeout(SAY_WITHIN, message.ack_with(word)).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            warn!(%error, "nothing is said of the delivery");
            false
        }
        Err(_) => {
            warn!("nothing is said of the delivery: the connection takes no more");
            false
        }
    }
}
