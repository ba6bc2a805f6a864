//! What a worker does with a job, one action after the other.
//!
//! ```text
//! | state | event | next state | action |
//! | Claimed | Done | Resolving | Resolve |
//! | Claimed | Ended | Reporting | Report |
//! | Resolving | Done | Forking | Fork |
//! | Resolving | Ended | Reporting | Report |
//! | Forking | Done | Running | RunStep |
//! | Forking | Ended | Reporting | Report |
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
//! | Reporting | Ended | Returning | GiveBack |
//! | Acknowledging | Done | Finished | Stop |
//! | Acknowledging | Ended | Finished | Stop |
//! | Returning | Done | Finished | Stop |
//! | Returning | Ended | Finished | Stop |
//! ```
//!
//! A verdict of the host's own trouble, where another attempt is left, leads to `Returning` instead of `Reporting`. Any
//! other pair of state and event cannot happen.
//!
//! What always holds: a job that is acknowledged has a result; the first verdict that is not success stays.

use crate::verdict::Verdict;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A worker has it.
    Claimed,
    /// Its source and snapshot are being fetched.
    Resolving,
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
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Fetch source and snapshot.
    Resolve,
    /// Start the VM and put the source in.
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
    GiveBack,
    /// Nothing.
    Stop,
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
        (State::Returning, Action::GiveBack)
    } else {
        (State::Reporting, Action::Report)
    };
    let finished = (State::Finished, Action::Stop);
    let storing = (State::Storing, Action::StoreLog);
    let collecting = (State::Collecting, Action::Collect);
    match (state, event) {
        (State::Claimed, Event::Done) => Some((State::Resolving, Action::Resolve)),
        (State::Resolving, Event::Done) => Some((State::Forking, Action::Fork)),
        (State::Forking | State::Running, Event::Done) => Some((State::Running, Action::RunStep)),
        (State::Running, Event::LastDone | Event::Ended(_)) => Some(collecting),
        (State::Running | State::Collecting, Event::GuestLost(_))
        | (State::Collecting, Event::Done | Event::Ended(_)) => Some(storing),
        (State::Claimed | State::Resolving | State::Forking, Event::Ended(_))
        | (State::Storing, Event::Done | Event::Ended(_)) => Some(settled),
        (State::Reporting, Event::Done) => Some((State::Acknowledging, Action::Acknowledge)),
        (State::Reporting, Event::Ended(_)) => Some((State::Returning, Action::GiveBack)),
        (State::Acknowledging | State::Returning, Event::Done | Event::Ended(_)) => Some(finished),
        (State::Collecting, Event::LastDone)
        | (State::Finished, Event::Done | Event::Ended(_))
        | (
            State::Claimed
            | State::Resolving
            | State::Forking
            | State::Storing
            | State::Reporting
            | State::Acknowledging
            | State::Returning
            | State::Finished,
            Event::LastDone | Event::GuestLost(_),
        ) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::reason::Reason;

    const STATES: [State; 10] = [
        State::Claimed,
        State::Resolving,
        State::Forking,
        State::Running,
        State::Collecting,
        State::Storing,
        State::Reporting,
        State::Acknowledging,
        State::Returning,
        State::Finished,
    ];

    fn events(reason: Reason) -> [(&'static str, Event); 4] {
        let verdict = Verdict::new(reason, "because");
        [
            ("Done", Event::Done),
            ("LastDone", Event::LastDone),
            ("Ended", Event::Ended(verdict.clone())),
            ("GuestLost", Event::GuestLost(verdict)),
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
        let after = |reason, may_retry| {
            let mut lifecycle = Lifecycle {
                state: State::Forking,
                ..Lifecycle::new(may_retry)
            };
            lifecycle.next(&Event::Ended(Verdict::new(reason, "because")))
        };
        assert_eq!(after(Reason::HostFailed, true), Action::GiveBack);
        assert_eq!(after(Reason::HostFailed, false), Action::Report);
        assert_eq!(after(Reason::InvalidJob, true), Action::Report);
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
