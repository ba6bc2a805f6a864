//! The end-to-end cases: real nats-server, real S3, real bakery, real worker, real VMs.
//!
//! They share one stack, since a bake takes minutes under emulation, and run one after the other in this process, each on the
//! queue that the one before left empty. What they share is in [`stack`]; each file holds the cases of one subject.
//!
//! `cargo test -p e2e --test cases -- [PART OF A NAME]` runs some of them.

mod artifacts;
mod bakes;
mod endings;
mod guests;
mod publishers;
mod refusals;
mod stack;
mod waiting;
mod widget;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use futures_util::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use stack::{Cases, Shared};

/// A case: what must hold of the stack.
type Case = for<'a> fn(&'a mut Cases) -> LocalBoxFuture<'a, Result<()>>;

macro_rules! cases {
    ($($case:path;)*) => {
        [$((stringify!($case), (|cases| Box::pin($case(cases))) as Case)),*]
    };
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One worker with one slot, and each case looks at an empty queue afterwards.
    arguments.test_threads = Some(1);
    let runtime = Arc::new(Runtime::new().expect("a machine that runs a stack has threads"));
    let shared = Arc::new(Mutex::new(Shared::default()));
    let cases = cases! {
        publishers::a_job_that_python_published_has_a_result;
        publishers::of_two_reports_that_race_a_subscriber_hears_one;
        artifacts::an_artifact_is_in_s3_byte_for_byte;
        artifacts::a_required_artifact_that_nothing_matches_is_a_failure;
        artifacts::an_artifact_that_is_not_required_may_be_missing;
        endings::a_step_that_exits_with_3_is_a_failure_with_that_code;
        endings::a_step_that_a_signal_ends_is_a_failure_without_a_code;
        endings::a_step_that_runs_past_its_timeout_is_killed;
        endings::after_a_step_that_fails_no_other_runs;
        endings::output_beyond_the_cap_is_cut_and_the_rest_is_whole;
        refusals::a_body_that_is_no_json_is_answered_under_its_sequence;
        refusals::a_body_that_breaks_the_schema_is_answered_with_the_field;
        refusals::an_environment_that_nobody_defined_is_refused;
        refusals::a_source_that_is_not_there_is_refused;
        refusals::a_source_with_another_digest_is_refused;
        bakes::a_setup_that_fails_is_told_with_its_step_and_its_output_and_publishes_nothing;
        bakes::a_bake_of_what_nobody_defined_fails_in_words;
        bakes::a_job_whose_environment_is_not_baked_is_told_so;
        guests::a_step_has_exactly_the_normalised_environment;
        guests::a_step_has_no_network_but_its_own_loopback;
        guests::two_builds_of_one_tree_start_from_the_same_bytes;
        guests::nothing_of_a_build_is_left_for_the_next;
        waiting::a_worker_waits_for_servers_that_are_away_and_says_so;
        waiting::a_bakery_waits_for_servers_that_are_away_and_says_so;
        widget::two_builds_of_the_widget_have_one_digest;
        guests::a_worker_whose_state_is_deleted_between_two_jobs_goes_on;
        waiting::a_stack_that_is_asked_to_end_ends_in_order_and_leaves_no_process;
    };
    let trials = cases.map(|(name, case)| trial(name, case, &runtime, &shared));
    let conclusion = libtest_mimic::run(&arguments, trials.into());
    runtime.block_on(async { shared.lock().await.end().await });
    conclusion.exit_code()
}

fn trial(
    name: &'static str,
    case: Case,
    runtime: &Arc<Runtime>,
    shared: &Arc<Mutex<Shared>>,
) -> Trial {
    let (runtime, shared) = (Arc::clone(runtime), Arc::clone(shared));
    Trial::ignorable_test(name, move || {
        let start = Instant::now();
        let outcome = runtime.block_on(async { shared.lock().await.run(case).await });
        eprintln!("{:>8.1} s  {name}", start.elapsed().as_secs_f64());
        match outcome {
            Ok(None) => Ok(Completion::Completed),
            Ok(Some(reason)) => {
                println!("skipped: {name}: {reason}");
                Ok(Completion::ignored_with(reason))
            }
            Err(error) => Err(Failed::from(format!("{error:#}"))),
        }
    })
}
