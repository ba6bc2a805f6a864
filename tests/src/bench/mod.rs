//! `make bench`: what a fork costs on this machine, in `target/bench.json`.
//!
//! | figure | from | to |
//! | --- | --- | --- |
//! | `fork.first_command_ms_*` | the worker's claim (`timing.claimed_at`) | first byte of an `echo` step (`Time` of its first chunk) |
//! | `fork.vm_ready_ms_*` | the worker's claim | the VM's agent has answered (`timing.vm_ready_at`) |
//! | `fork.job_ms_*` | the job is stored | its result is made |
//! | `fork.driver_ms_*` | the call of the driver | first byte of the same `echo`; no queue, no source, no worker |
//! | `fork.cold_boot_ms_*` | the call of the driver | first byte of the same `echo`, from power on |
//!
//! Jobs run one after the other in environment `plain` on template `debian` (`tests/definitions`), whose snapshot is in the worker's
//! cache: the first job, which waits for it, is not counted. The worker reads both ends of a job's figure from one clock. The driver's
//! figures boot a root with the same packages and the same size of machine. 30 runs each, 10 for the cold boot; p99 of 30 is the
//! slowest.

mod driver;
mod figures;
mod jobs;
mod machine;

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

/// Measures, and writes the file.
pub async fn run(state: &State) -> Result<ExitCode> {
    let mut progress = Progress::start();
    let mut figures = Figures::default();
    let definitions = repository().join("tests/definitions");
    let options = StackOptions {
        directory: state.path().join("bench"),
        lifetime: Lifetime::Owner,
        slots: 1,
        definitions: ["template-debian.json", "environment-plain.json"]
            .map(|name| definitions.join(name))
            .into(),
        registries: Reachable::Npm,
        ca_bundle: CA_BUNDLE.into(),
    };
    let stack = Stack::start(&options, state, &mut progress).await?;
    let project = Project::of_file("README", "bench\n")?;
    progress
        .phase(
            "template and environment are baked, or found",
            stack.services.bake("plain", &project),
        )
        .await?;
    let queue = Queue::open(&stack.servers).await?;
    let jobs = progress
        .phase("jobs are measured", jobs::measure(&queue, "plain", RUNS))
        .await?;
    add_jobs(&mut figures, &jobs);
    stack.stop().await?;

    let parts = guest::parts(state, &Programs::find()?)?;
    let machine = guest::machine()?;
    let bench = driver::Bench::new(&parts, &options.directory, machine_of(machine))?;
    let forks = progress
        .phase("forks are measured", bench.forks(RUNS))
        .await?;
    figures.median("fork.driver", &forks);
    figures.percentile("fork.driver", &forks, 99);
    let boots = progress
        .phase("cold boots are measured", bench.cold_boots(COLD_RUNS))
        .await?;
    figures.median("fork.cold_boot", &boots);

    let programs = std::env::current_exe().context("find the path of this program")?;
    let target = programs
        .ancestors()
        .nth(2)
        .context("a program lies in target/<profile>")?;
    let path = target.join("bench.json");
    println!("{}", figures.write(&path)?);
    eprint!("\n{}\nwritten to {}\n", progress.table(), path.display());
    Ok(ExitCode::SUCCESS)
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
