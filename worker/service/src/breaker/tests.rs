//! When a host pauses, for how long, and what ends the pause.

use tokio::time::{advance, sleep_until};

use super::*;

fn paused() -> Health {
    let health = Health::default();
    for _ in 0..FAILURES {
        assert_eq!(health.allows(), Allowed::All);
        health.host_failed("fork: no space");
    }
    health
}

/// How long nothing is taken.
fn pause(health: &Health) -> Duration {
    match health.allows() {
        Allowed::NoneUntil(until) => until - Instant::now(),
        Allowed::All | Allowed::One => Duration::ZERO,
    }
}

#[tokio::test(start_paused = true)]
async fn three_failures_in_a_row_pause_the_host_and_say_why() {
    let health = paused();
    assert_eq!(pause(&health), FIRST_PAUSE);
    let reason = health.reasons().borrow().clone().unwrap();
    assert!(reason.contains("fork: no space"), "{reason}");
    health.host_failed("of a job that ran already");
    assert_eq!(pause(&health), FIRST_PAUSE, "it is no longer for that");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_ran_ends_the_row() {
    let health = Health::default();
    for _ in 0..10 {
        health.host_failed("s3");
        health.host_failed("s3");
        health.guest_ran();
    }
    assert_eq!(health.allows(), Allowed::All);
    assert_eq!(*health.reasons().borrow(), None);
}

#[tokio::test(start_paused = true)]
async fn after_the_pause_one_job_is_tried_alone() {
    let health = paused();
    assert!(health.try_out().is_none());
    advance(FIRST_PAUSE).await;
    assert_eq!(health.allows(), Allowed::One);
    let trial = health.try_out().unwrap();
    assert_eq!(pause(&health), TRIAL, "no other beside it");
    health.guest_ran();
    drop(trial);
    assert_eq!(health.allows(), Allowed::All);
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_fails_doubles_the_pause_up_to_five_minutes() {
    let health = paused();
    let mut pauses = Vec::new();
    for _ in 0..6 {
        pauses.push(pause(&health).as_secs());
        sleep_until(Instant::now() + pause(&health)).await;
        let trial = health.try_out().unwrap();
        health.host_failed("s3");
        drop(trial);
    }
    assert_eq!(pauses, [30, 60, 120, 240, 300, 300]);
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_says_nothing_of_the_host_makes_room_for_another() {
    let health = paused();
    advance(FIRST_PAUSE).await;
    drop(health.try_out().unwrap());
    assert_eq!(health.allows(), Allowed::One);
    let _parked = health.try_out().unwrap();
    advance(TRIAL).await;
    assert_eq!(health.allows(), Allowed::One);
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_was_given_up_ends_no_later_one() {
    let health = paused();
    advance(FIRST_PAUSE).await;
    let parked = health.try_out().unwrap();
    advance(TRIAL).await;
    let _second = health.try_out().unwrap();
    drop(parked);
    assert_eq!(pause(&health), TRIAL, "the second is still tried");
}
