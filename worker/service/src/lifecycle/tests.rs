//! The table in the documentation, and what follows from it.

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

fn events(reason: Reason) -> [(&'static str, Event); 11] {
    let verdict = Verdict::new(reason, "because");
    [
        ("Done", Event::Done),
        ("LastDone", Event::LastDone),
        ("Ended", Event::Ended(verdict.clone())),
        ("GuestLost", Event::GuestLost(verdict)),
        ("Missing", Event::Missing),
        ("NoRecord", Event::NoRecord),
        ("NoPlace", Event::NoPlace),
        ("NoSlot", Event::NoSlot),
        ("Cancelled", Event::Cancelled),
        ("Drained", Event::Drained),
        ("LeaseLost", Event::LeaseLost),
    ]
}

#[test]
fn the_code_does_what_the_table_in_the_documentation_says() {
    let source = include_str!("../lifecycle.rs");
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

#[test]
fn a_cancelled_job_stays_cancelled_whatever_was_heard_before_or_comes_after() {
    for reason in [Reason::HostFailed, Reason::StepExitNonzero] {
        let mut lifecycle = Lifecycle {
            state: State::Running,
            ..Lifecycle::new(true)
        };
        lifecycle.next(&Event::Ended(Verdict::new(reason, "because")));
        assert_eq!(lifecycle.next(&Event::Cancelled), Action::StoreLog);
        let upload = Verdict::new(Reason::UploadFailed, "because");
        assert_eq!(lifecycle.next(&Event::Ended(upload)), Action::Report);
        assert_eq!(lifecycle.verdict().reason, Reason::Cancelled);
    }
}

#[test]
fn whoever_lost_the_lease_says_nothing_more() {
    for state in STATES {
        let next = transition(state, &Event::LeaseLost, true);
        assert!(next.is_none_or(|next| next == (State::Finished, Action::Stop)));
    }
}
