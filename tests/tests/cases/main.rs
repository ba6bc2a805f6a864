//! The end-to-end cases: real nats-server, real S3, real bakery, real worker, real VMs.
//!
//! They share one stack, since a bake takes minutes under emulation, and run one after the other in this process, each on the
//! queue that the one before left empty. The bakery bakes the templates meanwhile, so what needs no bake comes first. What they
//! share is in [`stack`]; each file holds the cases of one subject.
//!
//! `cargo test -p e2e --test cases -- [PART OF A NAME]` runs some of them.

mod artifacts;
mod bakes;
mod commands;
mod deaths;
mod endings;
mod guests;
mod keys;
mod killed;
mod languages;
mod missing;
mod publishers;
mod questions;
mod refusals;
mod sources;
mod stack;
mod store;
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
        guests::a_step_has_exactly_the_normalised_environment;
        guests::a_step_has_no_network_but_its_own_loopback;
        guests::two_builds_of_one_tree_start_from_the_same_bytes;
        guests::nothing_of_a_build_is_left_for_the_next;
        waiting::a_worker_waits_for_servers_that_are_away_and_says_so;
        waiting::a_bakery_waits_for_servers_that_are_away_and_says_so;
        sources::a_host_that_the_operator_does_not_allow_is_refused;
        sources::an_archive_is_fetched_over_https_and_its_digest_is_checked;
        commands::the_registries_of_this_machines_clients_are_detected;
        bakes::a_setup_that_fails_is_told_with_its_step_and_its_output_and_publishes_nothing;
        bakes::a_bake_of_what_nobody_defined_fails_in_words;
        keys::a_changed_lockfile_is_a_new_key_and_one_bake_and_the_old_snapshot_serves_on;
        keys::a_changed_file_that_is_no_input_is_the_same_key;
        keys::an_environment_that_a_job_brings_along_is_baked_for_it;
        keys::a_definition_that_changes_is_baked_for_the_last_source_without_a_job;
        keys::a_template_that_changes_is_baked_again_and_then_its_environments_last_source;
        keys::trusted_and_untrusted_jobs_of_one_lockfile_have_a_snapshot_each;
        missing::eight_jobs_that_miss_at_once_are_one_bake_and_eight_results;
        missing::a_job_that_runs_cold_is_set_up_by_itself_and_publishes_nothing;
        missing::a_job_that_would_rather_fail_than_wait_fails;
        missing::a_bake_that_fails_ends_the_job_that_waits_and_answers_the_next_at_once;
        missing::a_snapshot_that_would_hold_a_canary_is_not_published;
        publishers::python_has_a_source_baked_and_then_built;
        store::a_chunk_with_one_flipped_bit_is_refused_and_the_snapshot_baked_again;
        commands::a_snapshot_is_listed_and_inspected_with_what_is_in_it;
        sources::a_commit_is_built_and_the_second_job_fetches_nothing;
        sources::other_content_under_a_commits_name_is_refused;
        sources::a_branch_that_leads_elsewhere_is_refused;
        sources::a_submodule_is_built_where_the_tree_has_it;
        widget::two_builds_of_the_widget_have_one_digest;
        languages::a_python_project_with_an_sdist_in_c_is_baked_and_built;
        languages::a_rust_crate_with_dependencies_is_baked_and_built;
        missing::a_job_starts_within_a_second_of_the_bake_that_it_waits_for;
        killed::of_two_bakeries_one_is_killed_in_mid_bake_and_the_other_finishes;
        killed::a_bakery_that_is_killed_at_any_stage_of_a_bake_is_followed_by_one_that_finishes;
        deaths::a_vmm_that_is_killed_is_the_hosts_trouble_and_tried_again;
        deaths::a_worker_that_is_killed_takes_its_vm_along_and_the_next_builds_again;
        deaths::a_worker_that_is_frozen_past_its_lease_kills_its_vm_when_it_is_thawed;
        commands::a_collection_takes_what_it_told_of_and_the_rest_can_be_forked;
        store::whatever_was_published_was_whole_at_that_moment;
        guests::a_worker_whose_state_is_deleted_between_two_jobs_goes_on;
        waiting::a_stack_that_is_asked_to_end_ends_in_order_and_leaves_no_process;
    };
    let trials = cases.map(|(name, case)| trial(name, case, &runtime, &shared));
    let conclusion = libtest_mimic::run(&arguments, trials.into());
    // Of a whole run that went well nothing is kept: it is some 3 GiB.
    let is_over = arguments.filter.is_none() && !conclusion.has_failed();
    runtime.block_on(async { shared.lock().await.end(is_over).await });
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
