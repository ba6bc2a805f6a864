//! The queue as a worker sees it: which lines have jobs, whose turn it is, and taking one.
//!
//! ```text
//!          listing, publishes                a free slot
//! caps ──▶ known ───────────────▶ turns ───────────────────▶ pull ──▶ a job, with its tenant's place
//! ```
//!
//! What always holds: nothing is pulled that cannot be run at once: a pull has a slot, its tenant a place, and the host room and health.
//! Between pulls the worker waits to be woken by a publish, by a place that is given back or by a new snapshot, with a timer behind it,
//! and holds no slot meanwhile: a parked job whose bake ends may have it.

mod ask;
pub mod caps;
mod known;
mod listing;
mod places;
mod pull;
pub mod tenants;
pub mod turns;
mod wake;

use async_nats::Client;
use async_nats::jetstream::{self, Message};
use bus::telemetry::Causes;
use schemas::{Token, Trust};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::fitness::{Fit, Fitness};
use crate::presence::{Counts, Presence};
use ask::{Ended, Pulls, ask};
use caps::{Cap, Caps};
use known::{Known, Outcome};
use listing::Listing;
use pull::Pool;
use turns::{Line, Turns};
use wake::{Heard, Wake};

/// 8 pulls on their way at once: at half a millisecond each, 16,000 jobs a second.
const AT_ONCE: usize = 8;

/// A job that was taken.
#[derive(Debug)]
pub struct Taken {
    /// The delivery.
    pub message: Message,
    /// Its tenant's place among the jobs that may run at a time; none for a tenant without a cap.
    pub cap: Option<Cap>,
}

/// What a queue is made of.
#[derive(Debug)]
pub struct QueueParts {
    /// NATS.
    pub client: Client,
    /// Its streams.
    pub jetstream: jetstream::Context,
    /// The pool.
    pub pool: Token,
    /// Whose jobs are taken.
    pub trust: Vec<Trust>,
    /// Where new snapshots are heard of.
    pub snapshots: String,
    /// How many jobs of a tenant run at a time.
    pub caps: Caps,
    /// The slots.
    pub presence: Presence,
    /// Whether this host can run a job.
    pub fitness: Fitness,
}

/// The queue. Jobs that were pulled and not yet given out are in it: it ends with [`Queue::close`].
#[derive(Debug)]
pub struct Queue {
    pool: Pool,
    snapshots: String,
    caps: Caps,
    freed: watch::Receiver<u64>,
    counts: watch::Receiver<Counts>,
    presence: Presence,
    fitness: Fitness,
    known: Known,
    turns: Turns,
    pulls: Pulls,
    /// None while every slot is taken.
    wake: Option<Wake>,
    listing: Listing,
}

/// A job, and a slot to run it in.
type Given = (Taken, OwnedSemaphorePermit);

impl Queue {
    /// The queue of one pool.
    pub fn new(parts: QueueParts) -> Self {
        Self {
            pool: Pool {
                client: parts.client,
                jetstream: parts.jetstream,
                name: parts.pool,
                trust: parts.trust,
            },
            snapshots: parts.snapshots,
            freed: parts.caps.freed(),
            caps: parts.caps,
            counts: parts.presence.changes(),
            presence: parts.presence,
            fitness: parts.fitness,
            known: Known::default(),
            turns: Turns::default(),
            pulls: Pulls::default(),
            wake: None,
            listing: Listing::default(),
        }
    }

    /// Waits for a job and a slot to run it in. A caller that stops waiting loses nothing.
    pub async fn next(&mut self) -> Given {
        loop {
            if let Some(given) = Box::pin(self.step()).await {
                return given;
            }
        }
    }

    /// Gives back what is on its way.
    pub async fn close(self) {
        self.pulls.close().await;
    }

    /// One pull more, or one wait for what changes something.
    async fn step(&mut self) -> Option<Given> {
        if let Fit::NotBefore(until) = self.fitness.allows(self.pulls.len()) {
            return self.rest(until).await;
        }
        let Some(permit) = self.presence.try_permit() else {
            return self.full().await;
        };
        self.look().await;
        if let Some(line) = self.choose() {
            self.begin(line, permit);
            return None;
        }
        drop(permit);
        let now = Instant::now();
        let list_at = self.listing.next(now, self.wake.is_some());
        let next_try = self.known.next_try(now);
        let look_at = next_try.map_or(list_at, |at| at.min(list_at));
        self.wait(Some(look_at)).await
    }

    /// While this host takes nothing, which may be for want of space: a job that ends leaves some.
    async fn rest(&mut self, until: Instant) -> Option<Given> {
        self.wake = None;
        tokio::select! {
            Some(ended) = self.pulls.next() => return self.ended(ended),
            Ok(()) = self.counts.changed() => {}
            () = self.fitness.rest(until) => {}
        }
        None
    }

    /// While every slot is taken, by jobs or by pulls.
    async fn full(&mut self) -> Option<Given> {
        if self.pulls.is_empty() {
            self.wake = None;
            drop(self.presence.permit().await);
            None
        } else {
            self.wait(None).await
        }
    }

    /// Lists the queue where that is due, or where nothing is known to wait.
    async fn look(&mut self) {
        let idle = self.pulls.is_empty() && self.ready().is_empty();
        if idle && self.wake.is_none() {
            self.wake = Some(Wake::listen(&self.pool, &self.snapshots).await);
            self.listing.listens();
        }
        let now = Instant::now();
        if now < self.listing.next(now, self.wake.is_some()) {
            return;
        }
        let lines = self.pool.lines().await;
        let took = lines.is_ok().then(|| now.elapsed());
        self.listing.listed(now, took);
        match lines {
            Ok(lines) => self.known.listed(lines),
            Err(error) => warn!(error = %Causes(&error), "no look at the queue"),
        }
    }

    /// The lines that may be pulled from.
    fn ready(&self) -> Vec<Line> {
        if self.pulls.len() >= AT_ONCE {
            return Vec::new();
        }
        let lines = self.known.ready(Instant::now());
        let has_room = lines.filter(|line| self.caps.may_have_room(&line.tenant));
        has_room.cloned().collect()
    }

    /// Whose turn it is.
    fn choose(&mut self) -> Option<Line> {
        let ready = self.ready();
        let weight_of = |tenant: &Token| self.caps.terms(tenant).weight;
        self.turns.next(&ready, weight_of)
    }

    fn begin(&mut self, line: Line, permit: OwnedSemaphorePermit) {
        let heard = self.known.begin(&line);
        let pull = ask(self.pool.clone(), self.caps.clone(), line.clone(), heard);
        self.pulls.begin(line, heard, permit, pull);
    }

    /// Waits for a pull to come back, or for whatever makes another worth its while, `look_at` at the latest.
    async fn wait(&mut self, look_at: Option<Instant>) -> Option<Given> {
        tokio::select! {
            Some(ended) = self.pulls.next() => return self.ended(ended),
            heard = heard(self.wake.as_mut(), &self.pool) => match heard {
                Heard::Job(line) => self.known.heard(line),
                Heard::Snapshot => self.listing.baked(Instant::now()),
            },
            Ok(()) = self.freed.changed() => {}
            () = self.fitness.changed() => {}
            () = come(look_at) => {}
        }
        None
    }

    /// A pull that came back while it was waited for. What it brought is given back where this host takes nothing any more.
    fn ended(&mut self, ended: Ended) -> Option<Given> {
        let now = Instant::now();
        self.known.end(&ended.line, ended.outcome, now);
        if ended.heard && ended.outcome == Outcome::Nothing {
            self.listing.missed(now);
        }
        let (taken, permit) = ended.job?;
        match self.fitness.allows(self.pulls.len()) {
            Fit::Yes => Some((taken, permit)),
            Fit::NotBefore(_) => {
                self.pulls.give_back(taken);
                None
            }
        }
    }
}

async fn come(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn heard(wake: Option<&mut Wake>, pool: &Pool) -> Heard {
    match wake {
        Some(wake) => wake.next(pool).await,
        None => std::future::pending().await,
    }
}
