//! The bakery's commands, against a bakery's real work.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use e2e::queue;
use schemas::Reason;
use serde_json::Value;

use crate::stack::{Cases, LOCKED, key_of};

pub(crate) async fn a_snapshot_is_listed_and_inspected_with_what_is_in_it(
    cases: &mut Cases,
) -> Result<()> {
    let key = fresh_key(cases).await?;
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

pub(crate) async fn a_collection_that_only_tells_leaves_everything(
    cases: &mut Cases,
) -> Result<()> {
    let before = cases.snapshots.keys().await?;
    let told = bakery(cases, &["gc", "--dry-run", "--json"]).await?;
    let _told: Value = serde_json::from_str(&told).context("what would go, as JSON")?;
    let after = cases.snapshots.keys().await?;
    ensure!(after.is_superset(&before), "{before:?}, then {after:?}");
    Ok(())
}

pub(crate) async fn the_registries_of_this_machines_clients_are_detected(
    cases: &mut Cases,
) -> Result<()> {
    // Detected when the stack was started, and told to the bakery.
    let text = std::fs::read_to_string(&cases.stack()?.services.bakery.config)?;
    let config: toml::Table = text.parse()?;
    let registries = config["registries"].as_table().context("registries")?;
    let names: BTreeSet<_> = registries.keys().map(String::as_str).collect();
    let expected = BTreeSet::from(["cargo", "npm", "pip"]);
    ensure!(names.is_superset(&expected), "{names:?}");
    Ok(())
}

/// The key of a snapshot that was just baked.
async fn fresh_key(cases: &Cases) -> Result<String> {
    let (_lock, source) = cases.locked_source(&[]).await?;
    let job = queue::job(&source, LOCKED, "true");
    let result = cases.ends_with(&job, Reason::Completed).await?;
    key_of(&result)
}

/// What a command of the bakery prints.
async fn bakery(cases: &Cases, arguments: &[&str]) -> Result<String> {
    let output = cases
        .stack()?
        .services
        .bakery
        .command(arguments)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "bakery {}: {}\n{said}",
        arguments.join(" "),
        output.status
    );
    Ok(String::from_utf8(output.stdout)?)
}
