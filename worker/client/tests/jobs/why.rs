//! `sourdough why`.

use anyhow::{Context as _, Result, ensure};
use bus::lease::Leases;
use jiff::Timestamp;
use schemas::Token;
use schemas::event::EventKind;
use schemas::names::{bucket, cap_lease, event_subject, job_lease};
use serde_json::json;

use crate::fixture::Fixture;

#[tokio::test(flavor = "multi_thread")]
async fn where_a_job_stands_follows_what_happens_to_it() -> Result<()> {
    let Some(fixture) = Fixture::start().await? else {
        return Ok(());
    };
    let unknown = fixture.run(&["why", "no-such-job"]).await?;
    ensure!(unknown.code == Some(66) && unknown.out.contains("has no job no-such-job"));
    let (first, id) = (fixture.queue().await?, fixture.queue().await?);
    let said = fixture.standing(&id).await?;
    ensure!(said["standing"]["state"] == "no_worker", "{said}");

    let worker = json!({
        "name": fixture.tenant, "pool": fixture.tenant, "trust": ["untrusted"], "class": "qemu-a",
        "slots": 2, "running": 1, "parked": 0, "snapshots": [], "state": "ready", "time": Timestamp::now(),
    });
    let workers = fixture.bucket(bucket::WORKERS).await?;
    let state = worker.to_string();
    workers.put(fixture.tenant.as_str(), state.into()).await?;
    let said = fixture.standing(&id).await?;
    ensure!(
        said["standing"]
            == json!({
                "state": "waiting", "ahead": 1, "serving": {"workers": 1, "slots": 2, "running": 1}
            }),
        "{said}"
    );

    // Whoever is held by a worker is not ahead.
    let leases = Leases::open(&fixture.jetstream).await?;
    let hold = async |id: &Token| leases.take(&job_lease(&fixture.tenant, id), "w1").await;
    hold(&first).await?.context("a free lease")?;
    let said = fixture.standing(&id).await?;
    ensure!(said["standing"]["ahead"] == 0, "{said}");

    let tenants = fixture.bucket(bucket::TENANTS).await?;
    let limits = json!({"name": fixture.tenant, "concurrency": 1}).to_string();
    tenants.put(fixture.tenant.as_str(), limits.into()).await?;
    let cap = cap_lease(&fixture.tenant, 0);
    leases.take(&cap, "w1").await?.context("a free place")?;
    let said = fixture.standing(&id).await?;
    ensure!(said["standing"]["state"] == "at_cap", "{said}");

    let held = hold(&id).await?.context("a free lease")?;
    fixture.park(&id).await?;
    let said = fixture.run(&["why", id.as_str()]).await?;
    ensure!(
        said.out.contains("is parked with w1") && said.out.contains("bake of environment widget")
    );
    let event = json!({
        "job_id": id, "attempt": 1, "seq": 2, "time": Timestamp::now(), "kind": EventKind::Forked,
    });
    let subject = event_subject(&fixture.tenant, &id);
    fixture.publish(subject, event.to_string().into()).await?;
    fixture.begin(&id).await?;
    let said = fixture.standing(&id).await?;
    ensure!(
        said["standing"]["state"] == "running" && said["standing"]["worker"] == "w1",
        "{said}"
    );
    held.release().await;
    let said = fixture.standing(&id).await?;
    ensure!(said["standing"]["state"] == "lost", "{said}");
    fixture.finish(&id).await?;
    let said = fixture.standing(&id).await?;
    ensure!(
        said["standing"]["state"] == "finished" && said["not_known"] == json!([]),
        "{said}"
    );
    Ok(())
}
