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

pub mod caps;
mod known;
mod places;
mod pull;
pub mod tenants;
pub mod turns;
mod wake;

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::{self, AckKind, Message};
use bus::telemetry::Causes;
use schemas::{Token, Trust};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

use crate::fitness::Fitness;
use crate::presence::Presence;
use caps::{Cap, CapError, CapTurn, Caps};
use known::{Known, Outcome};
use pull::{Pool, PullError, Pulled};
use turns::{Line, Turns};
use wake::{Heard, Wake};

/// 8 pulls on their way at once: at half a millisecond each, 16,000 jobs a second.
const AT_ONCE: usize = 8;

/// Longest wait between two listings while idle: jobs that are given back wake nobody.
const LIST_EVERY: Duration = Duration::from_secs(5);

/// 100 ms from the first listing of a worker that has begun to listen to its second: a publish just before that was not heard, and the
/// stream may have stored it just after the first.
const LIST_AGAIN: Duration = Duration::from_millis(100);

/// 250 ms while busy, where no publish is heard: so long at most a flood hides a tenant that comes to the queue.
const LIST_WHILE_BUSY: Duration = Duration::from_millis(250);

/// How often, and for how long, the queue is listed after a bake: the jobs that waited for it run where they are parked, or
/// come back after [`crate::lifecycle::Why::NoSlot`]'s 100 ms, and that wakes nobody. The first look is late enough for a parked job to
/// have the slot first.
const AFTER_BAKE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// 1 s before a job that was pulled and cannot be run here is offered to others.
const GIVE_BACK_FOR: Duration = Duration::from_secs(1);

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
    presence: Presence,
    fitness: Fitness,
    known: Known,
    turns: Turns,
    pulls: JoinSet<Ended>,
    /// None while every slot is taken.
    wake: Option<Wake>,
    listed_at: Option<Instant>,
    /// Whether the last listing was the first since it listens.
    list_again: bool,
    /// Until when it is listed often.
    often_until: Option<Instant>,
}

/// A pull that came back, and the slot that it had.
type Ended = (Line, OwnedSemaphorePermit, Result<Reply, AskError>);

/// What a pull brought.
#[derive(Debug)]
enum Reply {
    Job(Box<Taken>),
    Nothing,
    NoRoom,
    NoConsumer,
}

/// Why a pull brought nothing.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Cap(#[from] CapError),
    #[error(transparent)]
    Pull(#[from] PullError),
}

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
            presence: parts.presence,
            fitness: parts.fitness,
            known: Known::default(),
            turns: Turns::default(),
            pulls: JoinSet::new(),
            wake: None,
            listed_at: None,
            list_again: false,
            often_until: None,
        }
    }

    /// Waits for a job and a slot to run it in. A caller that stops waiting loses nothing.
    pub async fn next(&mut self) -> (Taken, OwnedSemaphorePermit) {
        loop {
            if let Some(taken) = Box::pin(self.step()).await {
                return taken;
            }
        }
    }

    /// Gives back what is on its way.
    pub async fn close(mut self) {
        while let Some(ended) = self.pulls.join_next().await {
            if let Some((taken, _permit)) = self.end(ended) {
                give_back(taken).await;
            }
        }
    }

    /// One pull more, or one wait for what changes something.
    async fn step(&mut self) -> Option<(Taken, OwnedSemaphorePermit)> {
        if !self.fitness.allows(self.pulls.len()) {
            return self.rest().await;
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
        let list_at = self.list_at(now);
        let next_try = self.known.next_try(now);
        let look_at = next_try.map_or(list_at, |at| at.min(list_at));
        self.wait(Some(look_at)).await
    }

    /// While this host takes nothing.
    async fn rest(&mut self) -> Option<(Taken, OwnedSemaphorePermit)> {
        self.wake = None;
        tokio::select! {
            Some(ended) = self.pulls.join_next() => self.ended(ended).await,
            () = self.fitness.changed() => None,
        }
    }

    /// While every slot is taken, by jobs or by pulls.
    async fn full(&mut self) -> Option<(Taken, OwnedSemaphorePermit)> {
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
            // Once more, so that no publish falls between the two.
            self.listed_at = None;
        }
        let now = Instant::now();
        if now < self.list_at(now) {
            return;
        }
        self.list_again = self.listed_at.is_none();
        self.listed_at = Some(now);
        match self.pool.lines().await {
            Ok(lines) => self.known.listed(lines),
            Err(error) => warn!(error = %Causes(&error), "no look at the queue"),
        }
    }

    /// When the queue is listed next; now where it never was.
    fn list_at(&mut self, now: Instant) -> Instant {
        self.often_until = self.often_until.filter(|until| *until > now);
        let every = match (&self.wake, self.often_until) {
            (None, _) => LIST_WHILE_BUSY,
            (Some(_), _) if self.list_again => LIST_AGAIN,
            (Some(_), Some(_)) => AFTER_BAKE.0,
            (Some(_), None) => LIST_EVERY,
        };
        self.listed_at.map_or(now, |listed_at| listed_at + every)
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
        let (pool, caps) = (self.pool.clone(), self.caps.clone());
        self.pulls.spawn(async move {
            let reply = ask(&pool, &caps, &line, heard).await;
            (line, permit, reply)
        });
    }

    /// Waits for a pull to come back, or for whatever makes another worth its while, `look_at` at the latest.
    async fn wait(&mut self, look_at: Option<Instant>) -> Option<(Taken, OwnedSemaphorePermit)> {
        tokio::select! {
            Some(ended) = self.pulls.join_next() => return self.ended(ended).await,
            heard = heard(self.wake.as_mut(), &self.pool) => match heard {
                Heard::Job(line) => self.known.heard(line),
                Heard::Snapshot => self.often_until = Some(Instant::now() + AFTER_BAKE.1),
            },
            Ok(()) = self.freed.changed() => {}
            () = self.fitness.changed() => {}
            () = come(look_at) => {}
        }
        None
    }

    /// A pull that came back while it was waited for. What it brought is given back where this host takes nothing any more.
    async fn ended(
        &mut self,
        ended: Result<Ended, JoinError>,
    ) -> Option<(Taken, OwnedSemaphorePermit)> {
        let (taken, permit) = self.end(ended)?;
        if self.fitness.allows(self.pulls.len()) {
            return Some((taken, permit));
        }
        give_back(taken).await;
        None
    }

    fn end(&mut self, ended: Result<Ended, JoinError>) -> Option<(Taken, OwnedSemaphorePermit)> {
        let (line, permit, reply) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                error!(%error, "a pull panicked");
                return None;
            }
        };
        let (outcome, taken) = match reply {
            Ok(Reply::Job(taken)) => (Outcome::Job, Some((*taken, permit))),
            Ok(Reply::Nothing) => (Outcome::Nothing, None),
            Ok(Reply::NoRoom) => (Outcome::NoRoom, None),
            Ok(Reply::NoConsumer) => (Outcome::Unavailable, None),
            Err(error) => {
                warn!(error = %Causes(&error), "no look at the queue");
                (Outcome::Unavailable, None)
            }
        };
        self.known.end(&line, outcome, Instant::now());
        taken
    }
}

/// One job of a line, and its tenant's place.
async fn ask(pool: &Pool, caps: &Caps, line: &Line, heard: bool) -> Result<Reply, AskError> {
    let cap = match caps.take(&line.tenant).await? {
        CapTurn::Free => None,
        CapTurn::Held(cap) => Some(cap),
        CapTurn::Full => return Ok(Reply::NoRoom),
    };
    let reply = match pool.pull(line, heard).await {
        Ok(Pulled::Job(message)) => {
            let message = *message;
            return Ok(Reply::Job(Box::new(Taken { message, cap })));
        }
        Ok(Pulled::Nothing) => Ok(Reply::Nothing),
        Ok(Pulled::NoConsumer) => Ok(Reply::NoConsumer),
        Err(error) => Err(error.into()),
    };
    if let Some(cap) = cap {
        cap.release().await;
    }
    reply
}

async fn give_back(taken: Taken) {
    let Taken { message, cap } = taken;
    if let Err(error) = message.ack_with(AckKind::Nak(Some(GIVE_BACK_FOR))).await {
        warn!(%error, "not given back: it comes back when its time is over");
    }
    if let Some(cap) = cap {
        cap.release().await;
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
