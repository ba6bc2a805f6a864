//! The table in the documentation of [`super`], as code.
//!
//! What always holds: every state is named in every function, so whoever adds one is asked what each event means to it.

use super::{Action, Event, State, Why};

/// The table; `None` for a pair that it does not have. `retry`: the host is to blame, and another attempt is left.
pub(super) fn transition(state: State, event: &Event, retry: bool) -> Option<(State, Action)> {
    let settled = if retry {
        back(Why::Trouble)
    } else {
        (State::Reporting, Action::Report)
    };
    match event {
        Event::Done => done(state, settled),
        Event::LastDone => last_done(state),
        Event::Ended(_) => ended(state, settled),
        Event::GuestLost(_) => guest_lost(state),
        Event::Missing => missing(state),
        Event::NoRecord => no_record(state),
        Event::NoPlace => no_room(state, Why::NoPlace),
        Event::NoSlot => no_room(state, Why::NoSlot),
        Event::Cancelled => cancelled(state),
        Event::Drained => state.may_be_cut().then_some(back(Why::Drained)),
        Event::LeaseLost => lease_lost(state),
    }
}

fn back(why: Why) -> (State, Action) {
    (State::Returning, Action::GiveBack(why))
}

fn done(state: State, settled: (State, Action)) -> Option<(State, Action)> {
    match state {
        State::Claimed | State::Parked => Some((State::Resolving, Action::Resolve)),
        State::Resolving => Some((State::Forking, Action::Fork)),
        State::Forking | State::Running => Some((State::Running, Action::RunStep)),
        State::Collecting => Some((State::Storing, Action::StoreLog)),
        State::Storing => Some(settled),
        State::Reporting => Some((State::Acknowledging, Action::Acknowledge)),
        State::Acknowledging | State::Returning => Some((State::Finished, Action::Stop)),
        State::Finished => None,
    }
}

fn ended(state: State, settled: (State, Action)) -> Option<(State, Action)> {
    match state {
        State::Claimed | State::Resolving | State::Parked | State::Storing => Some(settled),
        State::Forking | State::Collecting => Some((State::Storing, Action::StoreLog)),
        State::Running => Some((State::Collecting, Action::Collect)),
        State::Reporting => Some(back(Why::Trouble)),
        State::Acknowledging | State::Returning => Some((State::Finished, Action::Stop)),
        State::Finished => None,
    }
}

/// The log of a cancelled job is stored, and nothing more is read out of its guest.
fn cancelled(state: State) -> Option<(State, Action)> {
    match state {
        State::Resolving | State::Parked => Some((State::Reporting, Action::Report)),
        State::Forking | State::Running | State::Collecting => {
            Some((State::Storing, Action::StoreLog))
        }
        State::Claimed
        | State::Storing
        | State::Reporting
        | State::Acknowledging
        | State::Returning
        | State::Finished => None,
    }
}

fn last_done(state: State) -> Option<(State, Action)> {
    match state {
        State::Running => Some((State::Collecting, Action::Collect)),
        State::Claimed
        | State::Resolving
        | State::Parked
        | State::Forking
        | State::Collecting
        | State::Storing
        | State::Reporting
        | State::Acknowledging
        | State::Returning
        | State::Finished => None,
    }
}

fn guest_lost(state: State) -> Option<(State, Action)> {
    match state {
        State::Running | State::Collecting => Some((State::Storing, Action::StoreLog)),
        State::Claimed
        | State::Resolving
        | State::Parked
        | State::Forking
        | State::Storing
        | State::Reporting
        | State::Acknowledging
        | State::Returning
        | State::Finished => None,
    }
}

fn missing(state: State) -> Option<(State, Action)> {
    match state {
        State::Resolving => Some((State::Parked, Action::Park)),
        State::Claimed
        | State::Parked
        | State::Forking
        | State::Running
        | State::Collecting
        | State::Storing
        | State::Reporting
        | State::Acknowledging
        | State::Returning
        | State::Finished => None,
    }
}

fn no_record(state: State) -> Option<(State, Action)> {
    match state {
        State::Resolving | State::Parked => Some(back(Why::NoRecord)),
        State::Claimed
        | State::Forking
        | State::Running
        | State::Collecting
        | State::Storing
        | State::Reporting
        | State::Acknowledging
        | State::Returning
        | State::Finished => None,
    }
}

/// A parked job finds nothing here that it needs to wait, or to go on.
fn no_room(state: State, why: Why) -> Option<(State, Action)> {
    match state {
        State::Parked => Some(back(why)),
        State::Claimed
        | State::Resolving
        | State::Forking
        | State::Running
        | State::Collecting
        | State::Storing
        | State::Reporting
        | State::Acknowledging
        | State::Returning
        | State::Finished => None,
    }
}

/// Whatever had begun is dropped; what follows the result needs no lease.
fn lease_lost(state: State) -> Option<(State, Action)> {
    match state {
        State::Resolving
        | State::Parked
        | State::Forking
        | State::Running
        | State::Collecting
        | State::Storing
        | State::Reporting => Some((State::Finished, Action::Stop)),
        State::Claimed | State::Acknowledging | State::Returning | State::Finished => None,
    }
}
