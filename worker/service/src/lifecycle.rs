//! What a worker does with a job, one action after the other.
//!
//! ```text
//! | state | event | next state | action |
//! | Claimed | Done | Resolving | Resolve |
//! | Claimed | Ended | Reporting | Report |
//! | Resolving | Done | Forking | Fork |
//! | Resolving | Missing | Parked | Park |
//! | Resolving | NoRecord | Returning | GiveBack(NoRecord) |
//! | Resolving | Ended | Reporting | Report |
//! | Resolving | Cancelled | Reporting | Report |
//! | Resolving | Drained | Returning | GiveBack(Drained) |
//! | Resolving | LeaseLost | Finished | Stop |
//! | Parked | Done | Resolving | Resolve |
//! | Parked | NoRecord | Returning | GiveBack(NoRecord) |
//! | Parked | NoPlace | Returning | GiveBack(NoPlace) |
//! | Parked | NoSlot | Returning | GiveBack(NoSlot) |
//! | Parked | Ended | Reporting | Report |
//! | Parked | Cancelled | Reporting | Report |
//! | Parked | Drained | Returning | GiveBack(Drained) |
//! | Parked | LeaseLost | Finished | Stop |
//! | Forking | Done | Running | RunStep |
//! | Forking | Ended | Storing | StoreLog |
//! | Forking | Cancelled | Storing | StoreLog |
//! | Forking | Drained | Returning | GiveBack(Drained) |
//! | Forking | LeaseLost | Finished | Stop |
//! | Running | Done | Running | RunStep |
//! | Running | LastDone | Collecting | Collect |
//! | Running | Ended | Collecting | Collect |
//! | Running | GuestLost | Storing | StoreLog |
//! | Running | Cancelled | Storing | StoreLog |
//! | Running | Drained | Returning | GiveBack(Drained) |
//! | Running | LeaseLost | Finished | Stop |
//! | Collecting | Done | Storing | StoreLog |
//! | Collecting | Ended | Storing | StoreLog |
//! | Collecting | GuestLost | Storing | StoreLog |
//! | Collecting | Cancelled | Storing | StoreLog |
//! | Collecting | Drained | Returning | GiveBack(Drained) |
//! | Collecting | LeaseLost | Finished | Stop |
//! | Storing | Done | Reporting | Report |
//! | Storing | Ended | Reporting | Report |
//! | Storing | Drained | Returning | GiveBack(Drained) |
//! | Storing | LeaseLost | Finished | Stop |
//! | Reporting | Done | Acknowledging | Acknowledge |
//! | Reporting | Ended | Returning | GiveBack(Trouble) |
//! | Reporting | LeaseLost | Finished | Stop |
//! | Acknowledging | Done | Finished | Stop |
//! | Acknowledging | Ended | Finished | Stop |
//! | Returning | Done | Finished | Stop |
//! | Returning | Ended | Finished | Stop |
//! ```
//!
//! A verdict of the host's own trouble, where another attempt is left, leads to `Returning` instead of `Reporting`. Any
//! other pair of state and event cannot happen.
//!
//! What always holds: a job that is acknowledged has a result; whoever lost a job's lease says nothing more of it; the first verdict that
//! is not success stays, but for a request to end the job, which stands above all; a job that is parked has recorded no attempt until a
//! host's trouble ends its wait.

mod transition;

use crate::verdict::Verdict;
use transition::transition;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A worker has it.
    Claimed,
    /// Its source and snapshot are being fetched, and its attempt recorded.
    Resolving,
    /// It waits for a bake, without a slot and without an attempt.
    Parked,
    /// Its VM is being started.
    Forking,
    /// Its steps run.
    Running,
    /// Its artifacts are being read out.
    Collecting,
    /// Its log is being stored.
    Storing,
    /// Its result is being published.
    Reporting,
    /// Its message is being acknowledged.
    Acknowledging,
    /// Its message is being given back.
    Returning,
    /// Nothing more is to be done.
    Finished,
}

impl State {
    /// Whether a worker that ends stops in the middle of it. What tells others how the job stands is brought to its end.
    pub fn may_be_cut(self) -> bool {
        match self {
            Self::Resolving
            | Self::Parked
            | Self::Forking
            | Self::Running
            | Self::Collecting
            | Self::Storing => true,
            Self::Claimed
            | Self::Reporting
            | Self::Acknowledging
            | Self::Returning
            | Self::Finished => false,
        }
    }

    /// Whether a request to end the job cuts it off. A step is told to end instead, and the log of a job is stored whatever its end.
    pub fn is_cut_by_cancel(self) -> bool {
        match self {
            Self::Resolving | Self::Parked | Self::Forking | Self::Collecting => true,
            Self::Claimed
            | Self::Running
            | Self::Storing
            | Self::Reporting
            | Self::Acknowledging
            | Self::Returning
            | Self::Finished => false,
        }
    }
}

/// What came of the last action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is done, and there is more to do.
    Done,
    /// It is done, and it was the last step.
    LastDone,
    /// The job has this verdict now.
    Ended(Verdict),
    /// The guest is gone: nothing can be read out of it any more.
    GuestLost(Verdict),
    /// Its environment has no snapshot for its source, and the job waits for one.
    Missing,
    /// Its attempt could not be recorded.
    NoRecord,
    /// As many jobs are parked here as may be.
    NoPlace,
    /// Its snapshot is there, and all slots of this worker, or all places of its tenant, are taken.
    NoSlot,
    /// Its end was asked for.
    Cancelled,
    /// This worker ends, and gives it back.
    Drained,
    /// Another worker may have it by now.
    LeaseLost,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Fetch source and snapshot, and record the attempt if they are there.
    Resolve,
    /// Release the slot, request the bake and wait for its end.
    Park,
    /// Start the VM and put the source in. In a fork of the template the setup runs between the two.
    Fork,
    /// Run the next step.
    RunStep,
    /// Read the artifacts out.
    Collect,
    /// Store the log.
    StoreLog,
    /// Publish the result.
    Report,
    /// Acknowledge the message.
    Acknowledge,
    /// Give the message back.
    GiveBack(Why),
    /// Nothing.
    Stop,
}

/// Why a message is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The host failed.
    Trouble,
    /// Its attempt could not be recorded.
    NoRecord,
    /// No more jobs may be parked here.
    NoPlace,
    /// Its snapshot is there, and no slot is.
    NoSlot,
    /// This worker ends.
    Drained,
}

/// One attempt at a job.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    state: State,
    verdict: Verdict,
    may_retry: bool,
}

impl Lifecycle {
    /// A job that was just claimed. `may_retry`: another attempt is left after this one.
    pub fn new(may_retry: bool) -> Self {
        Self {
            state: State::Claimed,
            verdict: Verdict::success(),
            may_retry,
        }
    }

    /// Where the job stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// How it ended, if nothing more happens.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Takes in what came of the last action, and says what is next.
    ///
    /// # Panics
    /// On a pair of state and event that the table does not have: an executor's mistake.
    pub fn next(&mut self, event: &Event) -> Action {
        match event {
            Event::Ended(verdict) | Event::GuestLost(verdict) => self.hear(verdict),
            Event::Cancelled => self.verdict = Verdict::cancelled(),
            Event::Done
            | Event::LastDone
            | Event::Missing
            | Event::NoRecord
            | Event::NoPlace
            | Event::NoSlot
            | Event::Drained
            | Event::LeaseLost => {}
        }
        let retry = self.may_retry && self.verdict.is_retried();
        let (state, action) = transition(self.state, event, retry)
            .expect("an executor answers an action only with what the table has for it");
        self.state = state;
        action
    }

    /// The first verdict that is not success is the job's; what fails afterwards, fails because of it.
    fn hear(&mut self, verdict: &Verdict) {
        if self.verdict == Verdict::success() {
            self.verdict = verdict.clone();
        }
    }
}

#[cfg(test)]
mod tests;
