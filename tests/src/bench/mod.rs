//! `make bench`: what forks, bakes, snapshots and the queue cost on this machine, in `target/bench.json`.
//!
//! | figure | from | to |
//! | --- | --- | --- |
//! | `fork.first_command_ms_*` | the worker's claim (`timing.claimed_at`) | first byte of an `echo` step (`Time` of its first chunk) |
//! | `fork.vm_ready_ms_*` | the worker's claim | the VM's agent has answered (`timing.vm_ready_at`) |
//! | `fork.job_ms_*` | the job is stored | its result is made |
//! | `fork.driver_ms_*` | the call of the driver | first byte of the same `echo`; no queue, no source, no worker |
//! | `fork.cold_boot_ms_*` | the call of the driver | first byte of the same `echo`, from power on |
//! | `store.dedup_ratio` | | bytes of `widget` with a second lockfile that neither the first nor the template has, over the stored size of all its chunks |
//! | `store.fetch_ms_*` | the call of the store, its cache empty | the whole snapshot of `widget` on disk and verified |
//! | `store.zstd_ms_*` | `zstd -d` of the same files packed as one | it has ended |
//! | `store.fetch_vs_zstd` | | the quotient of the two medians, of 3 |
//! | `store.peak_memory_mib` | | the highest `VmHWM` of the processes that fetched |
//! | `bake.rebake_ms_*` | the driver derives from a snapshot | the same setup has run, and the guest is frozen again |
//! | `bake.from_cold_ms_*` | the driver boots | the same |
//! | `bake.rebake_over_template` | | the quotient of the two medians, of 5 |
//! | `queue.claim_ms_*` | the job is stored (`timing.queued_at`) | the claim of an idle worker (`timing.claimed_at`), of 100 |
//! | `queue.report_ms_*` | the last step has finished (`timing.steps_finished_at`) | the result is stored (its time in the stream); no artifacts |
//! | `queue.jobs_per_s_fake` | | 3,000 no-op jobs that all wait, from the first claim to the last result, one worker of 32 slots with its state in memory; nats-server writes to disk within 2 min, as it does by default |
//! | `queue.jobs_per_s_own_source` | | the same with 1,000 jobs, each with a source of its own; the others have one, which the worker keeps |
//! | `queue.jobs_per_s_bare` | | the same messages in a stream of their own, pulled and acknowledged one after the other |
//! | `queue.bare_over_fake` | | the quotient of the two |
//! | `queue.idle_cpu_percent` | | of one processor, a worker that waits, over 20 s |
//!
//! The figures of the queue are those of a worker with fake guests on servers of its own, whose nats-server writes to disk at once where nothing else is said. Other jobs run one after the other in environment `plain` on template `debian` (`tests/definitions`), whose snapshot is in the worker's
//! cache: the first job, which waits for it, is not counted. The worker reads both ends of a job's figure from one clock. The driver's
//! figures boot a root with the same packages and the same size of machine. 30 runs each, 10 for the cold boot; p99 of 30 is the
//! slowest.

mod driver;
mod fetch;
mod figures;
mod jobs;
mod machine;
mod queue;
mod store;

pub use fetch::run as fetch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use schemas::guest::CA_BUNDLE;
use vm::Machine;

use crate::guest;
use crate::launch::Lifetime;
use crate::programs::Programs;
use crate::progress::Progress;
use crate::project::Project;
use crate::queue::Queue;
use crate::stack::{Reachable, Stack, StackOptions};
use crate::state::{State, repository};
use figures::Figures;
use jobs::Measured;

/// As many as are needed for a median that repeats within a few percent.
const RUNS: usize = 30;

/// A cold boot takes seconds, and varies less.
const COLD_RUNS: usize = 10;

/// Of each kind of bake, which takes seconds.
const BAKE_RUNS: usize = 5;

/// Measures, writes the file, and fails where a figure is not within its bound.
pub async fn run(state: &State) -> Result<ExitCode> {
    let mut progress = Progress::start();
    let mut figures = Figures::default();
    let options = options(state);
    let stack = Stack::start(&options, state, &mut progress).await?;
    let measuring = with_stack(&stack, &options.directory, &mut progress, &mut figures);
    Box::pin(measuring).await?;
    stack.stop().await?;
    without_stack(state, &options.directory, &mut progress, &mut figures).await?;
    let measuring = Box::pin(queue::measure(state, &mut figures));
    progress.phase("the queue is measured", measuring).await?;
    let path = report_path()?;
    println!("{}", figures.write(&path)?);
    eprint!("\n{}\nwritten to {}\n", progress.table(), path.display());
    figures.check()?;
    Ok(ExitCode::SUCCESS)
}

/// Measures the queue alone, in a minute, and writes no file; fails as [`run`] does.
pub async fn run_queue(state: &State) -> Result<ExitCode> {
    let mut figures = Figures::default();
    Box::pin(queue::measure(state, &mut figures)).await?;
    println!("{}", figures.print()?);
    figures.check_those_of("queue.")?;
    Ok(ExitCode::SUCCESS)
}

fn options(state: &State) -> StackOptions {
    StackOptions {
        directory: state.path().join("bench"),
        lifetime: Lifetime::Owner,
        slots: 1,
        definitions: [
            "tests/definitions/template-debian.json",
            "tests/definitions/environment-plain.json",
            "deploy/demo/template-node.json",
            "deploy/demo/environment-widget.json",
        ]
        .map(|name| repository().join(name))
        .into(),
        registries: Reachable::Npm,
        ca_bundle: CA_BUNDLE.into(),
    }
}

/// What takes a worker and a bakery.
async fn with_stack(
    stack: &Stack,
    directory: &Path,
    progress: &mut Progress,
    figures: &mut Figures,
) -> Result<()> {
    let project = Project::of_file("README", "bench\n")?;
    let baking = stack.services.bake("plain", &project);
    progress
        .phase("template and environment are baked, or found", baking)
        .await?;
    let queue = Queue::open(&stack.servers).await?;
    let jobs = progress
        .phase("jobs are measured", jobs::measure(&queue, "plain", RUNS))
        .await?;
    add_jobs(figures, &jobs);
    let measuring = store::measure(stack, &queue, directory, figures);
    progress
        .phase("the store is measured", Box::pin(measuring))
        .await
}

/// What takes the driver alone.
async fn without_stack(
    state: &State,
    directory: &Path,
    progress: &mut Progress,
    figures: &mut Figures,
) -> Result<()> {
    let parts = guest::parts(state, &Programs::find()?)?;
    let bench = driver::Bench::new(&parts, directory, machine_of(guest::machine()?))?;
    let forks = progress
        .phase("forks are measured", bench.forks(RUNS))
        .await?;
    figures.median("fork.driver", &forks);
    figures.percentile("fork.driver", &forks, 99);
    let boots = progress
        .phase("cold boots are measured", bench.cold_boots(COLD_RUNS))
        .await?;
    figures.median("fork.cold_boot", &boots);
    let [derived, booted] = progress
        .phase("bakes are measured", bench.bakes(BAKE_RUNS))
        .await?;
    figures.median("bake.rebake", &derived);
    figures.median("bake.from_cold", &booted);
    figures.quotient("bake.rebake_over_template", &derived, &booted);
    Ok(())
}

/// `target/bench.json`.
fn report_path() -> Result<PathBuf> {
    let program = std::env::current_exe().context("find the path of this program")?;
    let target = program.ancestors().nth(2);
    let target = target.context("a program lies in target/<profile>")?;
    Ok(target.join("bench.json"))
}

fn add_jobs(figures: &mut Figures, jobs: &[Measured]) {
    let all =
        |part: fn(&Measured) -> std::time::Duration| jobs.iter().map(part).collect::<Vec<_>>();
    for (name, measured) in [
        ("fork.first_command", all(|job| job.first_byte)),
        ("fork.vm_ready", all(|job| job.vm_ready)),
        ("fork.job", all(|job| job.whole)),
    ] {
        figures.median(name, &measured);
        figures.percentile(name, &measured, 99);
    }
}

fn machine_of(resources: schemas::template::Resources) -> Machine {
    Machine {
        vcpu: resources.vcpu,
        memory_mib: resources.memory_mib,
    }
}
