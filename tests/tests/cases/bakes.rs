//! What a worker says of an environment that cannot be baked.

use anyhow::{Result, ensure};
use async_nats::jetstream::kv;
use e2e::queue;
use futures_util::TryStreamExt as _;
use schemas::Reason;
use schemas::names::bucket;

use crate::stack::{Cases, PLAIN};

pub(crate) async fn a_setup_that_fails_is_told_with_its_step_and_its_output(
    cases: &mut Cases,
) -> Result<()> {
    // The template is there before, so that only this bake could publish anything.
    cases.output_of("true").await?;
    let before = published(cases).await?;
    let job = queue::job(&cases.source, "broken", "true");
    let result = cases.ends_with(&job, Reason::BakeFailed).await?;
    ensure!(result.message.contains("deps"), "{}", result.message);
    ensure!(
        result.message.contains("about to fail"),
        "{}",
        result.message
    );
    ensure!(
        published(cases).await? == before,
        "a bake that failed published something"
    );
    let job = queue::job(&cases.source, PLAIN, "true");
    cases.ends_with(&job, Reason::Completed).await.map(drop)
}

/// How many pointers to snapshots there are.
async fn published(cases: &Cases) -> Result<usize> {
    let snapshots: kv::Store = cases
        .queue
        .jetstream()
        .get_key_value(bucket::SNAPSHOTS)
        .await?;
    Ok(snapshots.keys().await?.try_collect::<Vec<_>>().await?.len())
}
