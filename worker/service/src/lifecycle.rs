//! What a worker does with a job, one action after the other.
//!
//! ```text
//! | state | event | next state | action |
//! | Claimed | Done | Resolving | Resolve |
//! | Claimed | Ended | Reporting | Report |
//! | Resolving | Done | Forking | Fork |
//! | Resolving | Missing | Parked | Park |
//! | Resolving | NoRecord | Returning | GiveBack(NoRecord) |
//! | Resolving | Raced | Finished | Stop |
//! | Resolving | Ended | Reporting | Report |
//! | Parked | Done | Resolving | Resolve |
//! | Parked | NoRecord | Returning | GiveBack(NoRecord) |
//! | Parked | Raced | Finished | Stop |
//! | Parked | NoPlace | Returning | GiveBack(NoPlace) |
//! | Parked | NoSlot | Returning | GiveBack(NoSlot) |
//! | Parked | Ended | Reporting | Report |
//! | Forking | Done | Running | RunStep |
//! | Forking | Ended | Storing | StoreLog |
//! | Running | Done | Running | RunStep |
//! | Running | LastDone | Collecting | Collect |
//! | Running | Ended | Collecting | Collect |
//! | Running | GuestLost | Storing | StoreLog |
//! | Collecting | Done | Storing | StoreLog |
//! | Collecting | Ended | Storing | StoreLog |
//! | Collecting | GuestLost | Storing | StoreLog |
//! | Storing | Done | Reporting | Report |
//! | Storing | Ended | Reporting | Report |
//! | Reporting | Done | Acknowledging | Acknowledge |
//! | Reporting | Ended | Returning | GiveBack(Trouble) |
//! | Acknowledging | Done | Finished | Stop |
//! | Acknowledging | Ended | Finished | Stop |
//! | Returning | Done | Finished | Stop |
//! | Returning | Ended | Finished | Stop |
//! ```
//!
//! A verdict of the host's own trouble, where another attempt is left, leads to `Returning` instead of `Reporting`. Any
//! other pair of state and event cannot happen.
//!
//! What always holds: a job that is acknowledged has a result; the first verdict that is not success stays; a job that is
//! parked has recorded no attempt until a host's trouble ends its wait.

use std::time::Duration;

use crate::verdict::Verdict;

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
    /// Another worker recorded an attempt at it meanwhile: what is said of the message now would count for that one.
    Raced,
    /// As many jobs are parked here as may be.
    NoPlace,
    /// Its snapshot is there, and all slots of this worker are taken.
    NoSlot,
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
}

impl Why {
    /// Before the server gives the message to somebody again.
    pub fn delay(self) -> Duration {
        match self {
            // Long enough for a server to come back.
            Self::Trouble => Duration::from_secs(10),
            Self::NoRecord => Duration::from_secs(5),
            // A bake takes minutes; another worker has a place at once, and then this one is not asked again.
            Self::NoPlace => Duration::from_secs(30),
            // At once, for all practical purposes: an idle worker looks for it a moment after a bake's end.
            Self::NoSlot => Duration::from_millis(100),
        }
    }
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
        if let Event::Ended(verdict) | Event::GuestLost(verdict) = event {
            self.hear(verdict);
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

/// The table; `None` for a pair that it does not have. `retry`: the host is to blame, and another attempt is left.
fn transition(state: State, event: &Event, retry: bool) -> Option<(State, Action)> {
    let settled = if retry {
        (State::Returning, Action::GiveBack(Why::Trouble))
    } else {
        (State::Reporting, Action::Report)
    };
    let finished = (State::Finished, Action::Stop);
    let storing = (State::Storing, Action::StoreLog);
    let collecting = (State::Collecting, Action::Collect);
    let back = |why| Some((State::Returning, Action::GiveBack(why)));
    match (state, event) {
        (State::Claimed | State::Parked, Event::Done) => Some((State::Resolving, Action::Resolve)),
        (State::Resolving, Event::Done) => Some((State::Forking, Action::Fork)),
        (State::Resolving, Event::Missing) => Some((State::Parked, Action::Park)),
        (State::Resolving | State::Parked, Event::NoRecord) => back(Why::NoRecord),
        (State::Parked, Event::NoPlace) => back(Why::NoPlace),
        (State::Parked, Event::NoSlot) => back(Why::NoSlot),
        (State::Forking | State::Running, Event::Done) => Some((State::Running, Action::RunStep)),
        (State::Running, Event::LastDone | Event::Ended(_)) => Some(collecting),
        (State::Forking, Event::Ended(_))
        | (State::Running | State::Collecting, Event::GuestLost(_))
        | (State::Collecting, Event::Done | Event::Ended(_)) => Some(storing),
        (State::Claimed | State::Resolving | State::Parked, Event::Ended(_))
        | (State::Storing, Event::Done | Event::Ended(_)) => Some(settled),
        (State::Reporting, Event::Done) => Some((State::Acknowledging, Action::Acknowledge)),
        (State::Reporting, Event::Ended(_)) => back(Why::Trouble),
        (State::Resolving | State::Parked, Event::Raced)
        | (State::Acknowledging | State::Returning, Event::Done | Event::Ended(_)) => {
            Some(finished)
        }
        (State::Finished, Event::Done | Event::Ended(_))
        | (
            State::Claimed
            | State::Resolving
            | State::Parked
            | State::Forking
            | State::Collecting
            | State::Storing
            | State::Reporting
            | State::Acknowledging
            | State::Returning
            | State::Finished,
            Event::LastDone,
        )
        | (
            State::Claimed
            | State::Resolving
            | State::Parked
            | State::Forking
            | State::Storing
            | State::Reporting
            | State::Acknowledging
            | State::Returning
            | State::Finished,
            Event::GuestLost(_),
        )
        | (
            State::Claimed
            | State::Parked
            | State::Forking
            | State::Running
            | State::Collecting
            | State::Storing
            | State::Reporting
            | State::Acknowledging
            | State::Returning
            | State::Finished,
            Event::Missing,
        )
        | (
            State::Claimed
            | State::Forking
            | State::Running
            | State::Collecting
            | State::Storing
            | State::Reporting
            | State::Acknowledging
            | State::Returning
            | State::Finished,
            Event::NoRecord | Event::Raced,
        )
        | (
            State::Claimed
            | State::Resolving
            | State::Forking
            | State::Running
            | State::Collecting
            | State::Storing
            | State::Reporting
            | State::Acknowledging
            | State::Returning
            | State::Finished,
            Event::NoPlace | Event::NoSlot,
        ) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::reason::Reason;

    const STATES: [State; 11] = [
        State::Claimed,
        State::Resolving,
        State::Parked,
        State::Forking,
        State::Running,
        State::Collecting,
        State::Storing,
        State::Reporting,
        State::Acknowledging,
        State::Returning,
        State::Finished,
    ];

    fn events(reason: Reason) -> [(&'static str, Event); 9] {
        let verdict = Verdict::new(reason, "because");
        [
            ("Done", Event::Done),
            ("LastDone", Event::LastDone),
            ("Ended", Event::Ended(verdict.clone())),
            ("GuestLost", Event::GuestLost(verdict)),
            ("Missing", Event::Missing),
            ("NoRecord", Event::NoRecord),
            ("Raced", Event::Raced),
            ("NoPlace", Event::NoPlace),
            ("NoSlot", Event::NoSlot),
        ]
    }

    #[test]
    fn the_code_does_what_the_table_in_the_documentation_says() {
        let source = include_str!("lifecycle.rs");
        let documented: Vec<&str> = source
            .lines()
            .filter_map(|line| line.strip_prefix("//! | "))
            .filter(|row| !row.starts_with("state"))
            .map(|row| row.trim_end_matches(" |"))
            .collect();
        let mut actual = Vec::new();
        for state in STATES {
            for (name, event) in events(Reason::StepExitNonzero) {
                if let Some((next, action)) = transition(state, &event, false) {
                    actual.push(format!("{state:?} | {name} | {next:?} | {action:?}"));
                }
            }
        }
        let mut documented: Vec<String> = documented.into_iter().map(str::to_owned).collect();
        documented.sort();
        actual.sort();
        assert_eq!(documented, actual);
    }

    #[test]
    fn only_the_hosts_trouble_is_tried_again_and_only_while_an_attempt_is_left() {
        let after = |verdict, may_retry| {
            let mut lifecycle = Lifecycle {
                state: State::Resolving,
                ..Lifecycle::new(may_retry)
            };
            lifecycle.next(&Event::Ended(verdict))
        };
        let verdict = |reason| Verdict::new(reason, "because");
        let trouble = Action::GiveBack(Why::Trouble);
        assert_eq!(after(verdict(Reason::HostFailed), true), trouble);
        assert_eq!(after(verdict(Reason::HostFailed), false), Action::Report);
        assert_eq!(after(verdict(Reason::InvalidJob), true), Action::Report);
        let asked_for = verdict(Reason::SnapshotUnavailable).for_good();
        assert_eq!(after(asked_for, true), Action::Report);
    }

    #[test]
    fn a_job_parks_between_two_resolutions_and_then_runs() {
        let mut lifecycle = Lifecycle::new(true);
        let events = [Event::Done, Event::Missing, Event::Done, Event::Done];
        let actions = events.map(|event| lifecycle.next(&event));
        let expected = [Action::Resolve, Action::Park, Action::Resolve, Action::Fork];
        assert_eq!(actions, expected);
    }

    #[test]
    fn the_first_verdict_stays() {
        let mut lifecycle = Lifecycle::new(false);
        for event in [Event::Done, Event::Done, Event::Done] {
            lifecycle.next(&event);
        }
        let [exit, upload] = [Reason::StepExitNonzero, Reason::UploadFailed]
            .map(|reason| Event::Ended(Verdict::new(reason, "because")));
        lifecycle.next(&exit);
        lifecycle.next(&upload);
        assert_eq!(lifecycle.verdict().reason, Reason::StepExitNonzero);
    }
}
