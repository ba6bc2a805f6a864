//! Fleets under load and faults: real nats-server with its streams on disk, real S3, the real bakery, the worker with fake guests.
//!
//! Most of what a case takes is waiting: for a lease that nobody renews any more, for a message to come again. So they run side by side,
//! each in a pool of its own on one set of servers; those that kill servers have their own. Those that measure run alone.
//!
//! `cargo test -p e2e --test fleet -- [PART OF A NAME]` runs some of them.

// The futures of the cases hold those of clients and servers.
#![recursion_limit = "256"]

mod caps;
mod disk;
mod drains;
mod fairness;
mod frozen;
mod guests;
mod hosts;
mod kills;
mod memory;
mod servers;
mod soak;
mod stage;
mod support;
mod trace;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

use stage::{Case, Company, Stage};

macro_rules! cases {
    ($($company:ident $case:path;)*) => {
        [$((stringify!($case), Company::$company, (|fleet| Box::pin($case(fleet))) as Case)),*]
    };
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let stage = Stage::start();
    let cases = cases! {
        Alone fairness::a_flood_of_one_tenant_does_not_delay_the_single_job_of_another;
        Alone fairness::a_low_priority_is_served_while_a_high_one_is_flooded;
        Together kills::a_worker_that_is_killed_at_any_stage_of_a_job_is_followed_by_one_that_finishes;
        Together kills::a_worker_that_is_killed_with_a_parked_job_costs_it_no_attempt;
        Together kills::a_job_that_kills_its_workers_runs_out_of_attempts_and_is_a_dead_letter;
        Together frozen::a_worker_that_is_frozen_past_its_lease_publishes_no_second_result;
        Together frozen::a_message_that_comes_to_a_second_worker_meets_the_lease_of_the_first;
        Together frozen::one_job_that_is_published_twice_has_one_result;
        Together servers::a_nats_server_that_is_killed_in_mid_job_and_comes_back_loses_nothing;
        Together servers::an_s3_server_that_is_away_for_half_a_minute_costs_no_attempt;
        Together drains::a_worker_that_is_told_to_end_finishes_its_job_and_takes_no_other;
        Together drains::a_job_that_is_longer_than_the_drain_is_given_back_and_keeps_its_attempts;
        Together drains::a_second_signal_gives_the_job_back_at_once;
        Together drains::a_worker_that_is_told_to_end_waits_for_no_bake;
        Together hosts::a_host_on_which_no_guest_starts_pauses_and_loses_no_job;
        Together memory::a_worker_is_no_larger_after_six_hundred_jobs_than_after_two_hundred;
        Together disk::a_worker_without_scratch_space_says_so_and_leaves_jobs_to_others;
        Together guests::fifty_guests_that_die_at_once_are_fifty_failures_and_the_fleet_goes_on;
        Together guests::a_vmm_that_fails_is_tried_again_until_the_attempts_are_spent;
        Together caps::a_tenants_cap_holds_over_two_workers;
        Together trace::a_job_is_one_trace_from_its_claim_to_its_report;
        Together soak::a_short_soak_loses_no_job_and_leaves_nothing;
    };
    // All at once: each waits more than it works.
    arguments.test_threads = Some(cases.len());
    let trials = cases.map(|(name, company, case)| trial(name, company, case, &stage));
    let conclusion = libtest_mimic::run(&arguments, trials.into());
    let ended = stage.end();
    if let Err(error) = &ended {
        eprintln!("end the fleet: {error:#}");
    }
    match ended {
        Ok(()) => conclusion.exit_code(),
        Err(_) => ExitCode::FAILURE,
    }
}

fn trial(name: &'static str, company: Company, case: Case, stage: &Stage) -> Trial {
    let stage = stage.clone();
    Trial::test(name, move || {
        let outcome = stage.run(name, company, case);
        outcome.map_err(|error| Failed::from(format!("{error:#}")))
    })
}
