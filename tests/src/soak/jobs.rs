//! What is published: short jobs, most of them steady, and what may come of each.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};
use schemas::{JobResult, Reason, Status};
use serde_json::{Value, json};

use super::SoakOptions;
use super::dice::Dice;
use crate::fake::Fate;
use crate::fleet::{Fleet, Guests};
use crate::queue::Queue;

/// 10 attempts, so that whatever is killed around it, a steady job ends well.
const MANY: u32 = 10;

/// What a job that is never to end well may try.
const THREE: u32 = 3;

/// 0.5 s between two jobs at most: with two workers of two slots they are never idle for long, and never far behind.
const PAUSE: Duration = Duration::from_millis(500);

/// What kind of job it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// It ends well.
    Steady,
    /// The same with an artifact.
    Artifact,
    /// Its guest dies.
    GuestDies,
    /// Its VMM fails each time, so that it wants all its attempts.
    ThreeAttempts,
}

/// One job of the soak.
#[derive(Debug)]
pub(super) struct Planned {
    /// Who publishes it.
    pub(super) publisher: Queue,
    /// Its body.
    pub(super) body: Value,
    pub(super) kind: Kind,
    /// Before it is published.
    pub(super) pause: Duration,
}

/// All jobs of a soak.
pub(super) fn roll(
    options: SoakOptions,
    tenants: &[Queue],
    dice: &mut Dice,
) -> Result<Vec<Planned>> {
    let strange = match options.guests {
        Guests::Fake => 1,
        // What is in a real one cannot be told to die.
        Guests::Real => 0,
    };
    let kinds = [
        (Kind::Steady, 15),
        (Kind::Artifact, 3),
        (Kind::GuestDies, strange),
        (Kind::ThreeAttempts, strange),
    ];
    let jobs = (0..options.jobs).map(|index| {
        let kind = dice.choose(&kinds);
        let publisher = tenants[index % tenants.len()].clone();
        Ok(Planned {
            body: body(&publisher, kind, dice)?,
            publisher,
            kind,
            pause: dice.between(Duration::ZERO, PAUSE),
        })
    });
    jobs.collect()
}

fn body(publisher: &Queue, kind: Kind, dice: &mut Dice) -> Result<Value> {
    let tenths = dice.below(10);
    let (fate, script, attempts) = match kind {
        Kind::Steady => (Fate::Steady, format!("echo begun; sleep 0.{tenths}"), MANY),
        Kind::Artifact => {
            let script = format!("sleep 0.{tenths}; head -c 3000000 /dev/urandom > made");
            (Fate::Steady, script, MANY)
        }
        Kind::GuestDies => (Fate::GuestDies, "echo begun; sleep 5".to_owned(), MANY),
        Kind::ThreeAttempts => (Fate::VmmFails, "echo begun; sleep 5".to_owned(), THREE),
    };
    let mut job = Fleet::job(publisher, fate, &script)?;
    job["retry"] = json!({"max_attempts": attempts});
    if kind == Kind::Artifact {
        job["artifacts"] = json!([{"name": "made", "paths": ["made"]}]);
    }
    Ok(job)
}

impl Kind {
    /// Every kind.
    pub(super) const ALL: [Self; 4] = [
        Self::Steady,
        Self::Artifact,
        Self::GuestDies,
        Self::ThreeAttempts,
    ];

    /// Whether a job of this kind may end so, where nobody cancelled it.
    pub(super) fn check(self, result: &JobResult) -> Result<()> {
        let reason = result.reason.known();
        let may = match self {
            Self::Steady | Self::Artifact => reason == Some(&Reason::Completed),
            Self::GuestDies => reason == Some(&Reason::GuestDied),
            // Why the last attempt failed depends on what was killed at that moment.
            Self::ThreeAttempts => result.status == Status::Error && tried(result) >= THREE,
        };
        ensure!(
            may,
            "{self}: {}, {} after {} attempts: {}",
            result.job_id,
            result.reason,
            tried(result),
            result.message
        );
        Ok(())
    }
}

/// Attempts that count: all but those that a worker gave back.
fn tried(result: &JobResult) -> u32 {
    let past = result.past_attempts.iter().filter(|past| past.counts());
    let past = u32::try_from(past.count()).unwrap_or(u32::MAX);
    // Where a worker's death was the last attempt, the result belongs to none.
    past.max(past.saturating_add(u32::from(
        result.reason.known() != Some(&Reason::MaxAttempts),
    )))
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Steady => "steady",
            Self::Artifact => "with an artifact",
            Self::GuestDies => "whose guest dies",
            Self::ThreeAttempts => "that want three attempts",
        })
    }
}
