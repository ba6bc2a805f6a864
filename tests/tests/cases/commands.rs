//! The bakery's commands, against a bakery's real work.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::queue;
use e2e::stack::Service;
use e2e::wait;
use schemas::Reason;
use serde_json::{Value, json};

use crate::guests::empty;
use crate::stack::{Cases, LOCKED};

/// 1 min: a worker says every 10 s what its jobs use.
const TOLD_WITHIN: Duration = Duration::from_mins(1);

pub(crate) async fn a_snapshot_is_listed_and_inspected_with_what_is_in_it(
    cases: &mut Cases,
) -> Result<()> {
    let key = cases.fresh_key().await?;
    let list = bakery(cases, &["list"]).await?;
    ensure!(list.contains(&key[..12]) && list.contains(LOCKED), "{list}");
    let listed: Value = serde_json::from_str(&bakery(cases, &["list", "--json"]).await?)?;
    ensure!(listed.to_string().contains(&key), "{listed}");
    let inspected = bakery(cases, &["inspect", &key[..12]]).await?;
    ensure!(
        inspected.contains(&key) && inspected.contains("lock"),
        "{inspected}"
    );
    let inspected = bakery(cases, &["inspect", &key, "--json"]).await?;
    let inspected: Value = serde_json::from_str(&inspected)?;
    let gate = ["entropy_differs", "uuid_differs", "disks_agree"];
    let text = inspected.to_string();
    ensure!(
        gate.iter()
            .all(|check| text.contains(&format!("\"{check}\":true"))),
        "{inspected:#}"
    );
    Ok(())
}

pub(crate) async fn a_collection_takes_what_it_told_of_and_the_rest_can_be_forked(
    cases: &mut Cases,
) -> Result<()> {
    let (_lock, old_source) = cases.locked_source(&[]).await?;
    let old = cases.key_for(&old_source).await?;
    let (lock, source) = cases.locked_source(&[]).await?;
    let key = cases.key_for(&source).await?;
    cases.inspection.findings().await?;
    let collector = collector(cases)?;
    // A grace this short is for stores that nobody publishes to.
    cases.stack_mut()?.kill_bakery().await?;
    let collected = collects(cases, &collector, &old).await;
    cases.stack_mut()?.start_bakery().await?;
    collected?;
    let missing = cases.snapshots.missing(&key).await?;
    ensure!(missing.is_empty(), "{missing:?}");
    empty(&cases.directory.join("worker"))?;
    let mut job = queue::job(&source, LOCKED, "cat made");
    job["on_missing"] = json!("fail");
    let forked = cases.ends_with(&job, Reason::Completed).await?;
    ensure!(cases.log(&forked).await? == lock);
    let mut job = queue::job(&old_source, LOCKED, "true");
    job["on_missing"] = json!("fail");
    cases.ends_with(&job, Reason::SnapshotUnavailable).await?;
    Ok(())
}

/// The bakery's program with a configuration that leaves one snapshot of each environment and spares nothing for being young.
fn collector(cases: &Cases) -> Result<Service> {
    let bakery = &cases.stack()?.services.bakery;
    let directory = cases.directory.join("collector");
    bakery.sibling("collector", &directory, |config| {
        config.insert("keep".to_owned(), 1.into());
        config.insert("gc_grace_s".to_owned(), 1.into());
    })
}

/// Asks what would go, which takes nothing, and has it taken.
async fn collects(cases: &Cases, collector: &Service, old: &str) -> Result<()> {
    let before = cases.snapshots.keys().await?;
    let dry_run = ["gc", "--dry-run", "--json"];
    // Until the worker has said that no job uses it any more, and the grace is over.
    let told = wait::until("an old snapshot to be of no use", TOLD_WITHIN, async || {
        let told = collected(&printed(collector, &dry_run).await?)?;
        Ok(told.contains(old).then_some(told))
    })
    .await?;
    ensure!(cases.snapshots.keys().await? == before, "a dry run took");
    let taken = collected(&printed(collector, &["gc", "--json"]).await?)?;
    ensure!(taken == told, "{taken:?}, told of were {told:?}");
    let left = cases.snapshots.keys().await?;
    let expected: BTreeSet<_> = before.difference(&taken).cloned().collect();
    ensure!(left == expected, "{left:?}, not {expected:?}");
    Ok(())
}

/// The keys that a collection names.
fn collected(report: &str) -> Result<BTreeSet<String>> {
    let report: Value = serde_json::from_str(report).context("a report in JSON")?;
    let collected = report["collected"].as_array().context("collected")?;
    let keys = collected.iter().map(|gone| gone["key"].as_str());
    let keys = keys.map(|key| key.map(str::to_owned).context("a key"));
    keys.collect()
}

pub(crate) async fn the_registries_of_this_machines_clients_are_detected(
    cases: &mut Cases,
) -> Result<()> {
    let detected = bakery(cases, &["registries", "--detect"]).await?;
    let detected: toml::Table = detected.parse().context("a configuration in TOML")?;
    let registries = detected["registries"].as_table().context("registries")?;
    let names: BTreeSet<_> = registries.keys().map(String::as_str).collect();
    let expected = BTreeSet::from(["cargo", "npm", "pip"]);
    ensure!(names.is_superset(&expected), "{names:?}");
    Ok(())
}

/// What a command of the bakery prints.
async fn bakery(cases: &Cases, arguments: &[&str]) -> Result<String> {
    printed(&cases.stack()?.services.bakery, arguments).await
}

async fn printed(service: &Service, arguments: &[&str]) -> Result<String> {
    let output = service.command(arguments).output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "bakery {}: {}\n{said}",
        arguments.join(" "),
        output.status
    );
    Ok(String::from_utf8(output.stdout)?)
}
