//! A worker whose scratch space is full.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::fleet::{Fleet, in_memory};
use e2e::launch::Lifetime;
use e2e::wait;
use nix::unistd::Uid;
use schemas::Reason;
use schemas::worker::WorkerCondition;

use crate::support::{ends_with, job, pool, settles};

/// 1 min for a worker to look at its disk again, which it does before each job.
const SAID_WITHIN: Duration = Duration::from_mins(1);

/// What the worker has for its state.
const DISK_MIB: u32 = 64;

pub(crate) async fn a_worker_without_scratch_space_says_so_and_leaves_jobs_to_others(
    fleet: &Fleet,
) -> Result<()> {
    if !Uid::effective().is_root() {
        println!("skipped: a full scratch disk: only root mounts one");
        return Ok(());
    }
    let pool = pool("disk");
    let queue = fleet.queue.in_pool(&pool);
    let small = |config: &mut toml::Table| {
        config.insert("slot_disk_mib".to_owned(), 16.into());
    };
    let full = in_memory(fleet.worker("disk-full", &pool, 1, small)?, DISK_MIB)?;
    let other = fleet.worker("disk-other", &pool, 1, small)?;
    let worker = full.start(Lifetime::Owner).await?;
    let first = job(&queue, "true")?;
    queue.publish(first.to_string()).await?;
    ends_with(fleet, &queue, &first, Reason::Completed).await?;
    // Its own view of the disk, from outside of its namespace.
    let state = full.directory.join(full.name);
    let state = state.strip_prefix("/").context("an absolute path")?;
    let ballast = Path::new("/proc")
        .join(worker.id().to_string())
        .join("root")
        .join(state);
    let ballast = ballast.join("ballast");
    fs::write(&ballast, vec![1; 56 << 20]).context("fill a disk")?;
    says(fleet, WorkerCondition::Paused).await?;
    let second = job(&queue, "true")?;
    queue.publish(second.to_string()).await?;
    let helper = other.start(Lifetime::Owner).await?;
    let result = ends_with(fleet, &queue, &second, Reason::Completed).await?;
    anyhow::ensure!(result.worker.as_str() == "disk-other", "{result:?}");
    fs::remove_file(&ballast).context("clear a disk")?;
    says(fleet, WorkerCondition::Ready).await?;
    settles(fleet, &queue, vec![(&full, worker), (&other, helper)]).await
}

/// Waits until the worker says that it is in `condition`; and why, where that is not plain.
async fn says(fleet: &Fleet, condition: WorkerCondition) -> Result<()> {
    let what = format!("the worker to be {condition:?}");
    wait::until(&what, SAID_WITHIN, async || {
        let said = fleet.said_by("disk-full").await?;
        let said = said.context("it says what it is")?;
        if said.state.known() != Some(&condition) {
            return Ok(None);
        }
        let why = said.reason.unwrap_or_default();
        let is_plain = condition == WorkerCondition::Ready;
        anyhow::ensure!(
            is_plain || why.contains("disk") || why.contains("scratch"),
            "{why:?}"
        );
        Ok(Some(()))
    })
    .await
}
