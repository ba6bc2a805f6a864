//! Pulls on their way, each a task of its own with the slot that it may fill, and jobs on their way back.
//!
//! What always holds: every pull that began ends once, with its line, also one that panicked; whoever stops waiting loses nothing.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::AckKind;
use bus::telemetry::Causes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{Id, JoinSet};
use tracing::{error, warn};

use super::Taken;
use super::caps::{CapError, CapTurn, Caps};
use super::known::Outcome;
use super::pull::{Pool, PullError, Pulled};
use super::turns::Line;
use crate::attempt::say;

/// 1 s before a job that was pulled and cannot be run here is offered to others.
const GIVE_BACK_FOR: Duration = Duration::from_secs(1);

/// The pulls of one queue.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    tasks: JoinSet<(OwnedSemaphorePermit, Result<Reply, AskError>)>,
    /// What each of them asks for, and whether a job of it was heard of.
    lines: HashMap<Id, (Line, bool)>,
    returns: JoinSet<()>,
}

/// A pull that came back.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) line: Line,
    /// Whether a job of it was heard of.
    pub(super) heard: bool,
    pub(super) outcome: Outcome,
    /// The job, and the slot for it.
    pub(super) job: Option<(Taken, OwnedSemaphorePermit)>,
}

/// What a pull brought.
#[derive(Debug)]
pub(super) enum Reply {
    Job(Box<Taken>),
    Nothing,
    NoRoom,
    /// Its consumer is not there yet, or its tenant's place.
    NotYet,
}

/// Why a pull brought nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Cap(#[from] CapError),
    #[error(transparent)]
    Pull(#[from] PullError),
}

impl Pulls {
    /// A pull from that line goes on its way; `heard` says that a job was published just now.
    pub(super) fn begin<F>(
        &mut self,
        line: Line,
        heard: bool,
        permit: OwnedSemaphorePermit,
        pull: F,
    ) where
        F: Future<Output = Result<Reply, AskError>> + Send + 'static,
    {
        let task = self.tasks.spawn(async move { (permit, pull.await) });
        self.lines.insert(task.id(), (line, heard));
    }

    /// How many are on their way.
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether none is.
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Waits for one to come back; none where none is on its way.
    pub(super) async fn next(&mut self) -> Option<Ended> {
        let (id, job, outcome) = match self.tasks.join_next_with_id().await? {
            Ok((id, (permit, reply))) => {
                let (outcome, taken) = read(reply);
                (id, taken.map(|taken| (taken, permit)), outcome)
            }
            Err(error) => {
                error!(%error, "a pull panicked");
                (error.id(), None, Outcome::Unavailable)
            }
        };
        let begun = self.lines.remove(&id);
        let (line, heard) = begun.expect("every pull began with its line");
        Some(Ended {
            line,
            heard,
            outcome,
            job,
        })
    }

    /// Offers a job to others.
    pub(super) fn give_back(&mut self, taken: Taken) {
        while self.returns.try_join_next().is_some() {}
        self.returns.spawn(give_back(taken));
    }

    /// Gives back what is on its way.
    pub(super) async fn close(mut self) {
        while let Some(ended) = self.next().await {
            if let Some((taken, _permit)) = ended.job {
                self.give_back(taken);
            }
        }
        while self.returns.join_next().await.is_some() {}
    }
}

fn read(reply: Result<Reply, AskError>) -> (Outcome, Option<Taken>) {
    match reply {
        Ok(Reply::Job(taken)) => (Outcome::Job, Some(*taken)),
        Ok(Reply::Nothing) => (Outcome::Nothing, None),
        Ok(Reply::NoRoom) => (Outcome::NoRoom, None),
        Ok(Reply::NotYet) => (Outcome::Unavailable, None),
        Err(error) => {
            warn!(error = %Causes(&error), "no look at the queue");
            (Outcome::Unavailable, None)
        }
    }
}

/// One job of a line, and its tenant's place; `heard` says that one was published just now.
pub(super) async fn ask(
    pool: Pool,
    caps: Caps,
    line: Line,
    heard: bool,
) -> Result<Reply, AskError> {
    let cap = match caps.take(&line.tenant).await? {
        CapTurn::Free => None,
        CapTurn::Held(cap) => Some(cap),
        CapTurn::Full => return Ok(Reply::NoRoom),
        CapTurn::NotYet => return Ok(Reply::NotYet),
    };
    let reply = match pool.pull(&line, heard).await {
        Ok(Pulled::Job(message)) => {
            let message = *message;
            return Ok(Reply::Job(Box::new(Taken { message, cap })));
        }
        Ok(Pulled::Nothing) => Ok(Reply::Nothing),
        Ok(Pulled::NoConsumer) => Ok(Reply::NotYet),
        Err(error) => Err(error.into()),
    };
    if let Some(cap) = cap {
        cap.release().await;
    }
    reply
}

async fn give_back(taken: Taken) {
    let Taken { message, cap } = taken;
    // Where that is not heard, it comes back when its time is over.
    let _said = say(&message, AckKind::Nak(Some(GIVE_BACK_FOR))).await;
    if let Some(cap) = cap {
        cap.release().await;
    }
}

#[cfg(test)]
mod tests {
    use schemas::{Priority, Trust};

    use super::*;
    use crate::presence::Presence;

    #[tokio::test]
    async fn a_pull_that_panics_ends_and_leaves_its_slot() {
        let (presence, mut pulls) = (Presence::new(1, 0), Pulls::default());
        let line = Line {
            priority: Priority::default(),
            tenant: "a".parse().unwrap(),
            trust: Trust::Trusted,
        };
        let permit = presence.try_permit().unwrap();
        pulls.begin(line.clone(), false, permit, async {
            panic!("a mistake of ours")
        });
        let ended = pulls.next().await.unwrap();
        assert_eq!((ended.line, ended.outcome), (line, Outcome::Unavailable));
        assert!(ended.job.is_none() && presence.try_permit().is_some());
        assert!(pulls.next().await.is_none());
    }
}
