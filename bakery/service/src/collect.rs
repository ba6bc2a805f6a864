//! `bakery gc`: takes away the snapshots that nobody needs.
//!
//! | a snapshot | stays |
//! | --- | --- |
//! | that a job of a worker uses | always |
//! | older than its template's `ttl_s` | no |
//! | that is a template's current one | yes |
//! | among the last `keep` of an environment | yes |
//! | from which one that stays was derived | yes |
//! | any other | no |
//!
//! Nothing younger than the grace goes either; that, and which chunks go, the store decides.

use std::collections::BTreeMap;
use std::time::Duration;

use bus::lease::Leases;
use jiff::Timestamp;
use schemas::{Sha256Digest, names};
use serde::Serialize;
use store::{Collected, Collection};

use crate::config::Config;
use crate::human;
use crate::inventory::{Held, Inventory, Storehouse};
use crate::list::short;
use crate::progress_bar::Bar;

/// 30 days, as a template has that says nothing: for snapshots of templates that are no longer defined.
const DEFAULT_TIME_TO_LIVE: Duration = Duration::from_hours(30 * 24);

/// Why a snapshot stays. Of several reasons, the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A job of a worker uses it.
    InUse,
    /// It is a template's current one.
    CurrentTemplate,
    /// It is among the last of an environment.
    Recent,
    /// One that stays was derived from it.
    TemplateOfKept,
}

/// What a collection did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether it only told.
    pub dry_run: bool,
    /// The snapshots that went.
    pub collected: Vec<Gone>,
    /// How many chunks went.
    pub chunks: u64,
    /// How many bytes of the object store that freed.
    pub bytes: u64,
    /// The snapshots that stay for a reason.
    pub kept: BTreeMap<String, Reason>,
}

/// A snapshot that went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gone {
    /// Its key.
    pub key: Sha256Digest,
    /// The name in its definition.
    pub name: String,
    /// Its size in the object store, chunks that others share included.
    pub stored_bytes: u64,
}

/// Why nothing was collected, where another collection runs.
#[derive(Debug, thiserror::Error)]
#[error("somebody else collects now: try again later")]
pub struct Busy;

/// Collects, or with `dry_run` only tells what would go. Of all who would collect, one does at a time.
pub async fn run(config: &Config, dry_run: bool, bar: &Bar) -> anyhow::Result<Report> {
    let storehouse = Box::pin(Storehouse::open(config, "bakery-gc")).await?;
    let collecting = Box::pin(collect(config, &storehouse, dry_run, bar));
    if dry_run {
        return collecting.await;
    }
    let leases = Leases::open(&storehouse.jetstream).await?;
    let lease = leases.take(names::COLLECT_LEASE, "bakery-gc").await?;
    let mut lease = lease.ok_or(Busy)?;
    let collected = lease.while_held(collecting).await?;
    lease.release().await;
    collected
}

async fn collect(
    config: &Config,
    storehouse: &Storehouse,
    dry_run: bool,
    bar: &Bar,
) -> anyhow::Result<Report> {
    let inventory = Box::pin(storehouse.inventory(bar)).await?;
    let kept = retained(&inventory, config.keep, Timestamp::now());
    bar.turn_to("collecting");
    let plan = Collection {
        keep: kept.keys().copied().collect(),
        grace: config.gc_grace,
        dry_run,
    };
    let collected = Box::pin(storehouse.store.collect(&plan)).await?;
    Ok(Report::new(dry_run, collected, &kept))
}

/// Which snapshots stay, and why: see the table above. `keep` is how many of each environment.
pub fn retained(
    inventory: &Inventory,
    keep: usize,
    now: Timestamp,
) -> BTreeMap<Sha256Digest, Reason> {
    let alive = |key: &Sha256Digest| {
        let held = inventory.snapshots.get(key);
        held.is_some_and(|held| !has_outlived(inventory, held, now))
    };
    let mut kept = BTreeMap::new();
    let mut stay = |keys: Vec<Sha256Digest>, reason: Reason| {
        for key in keys {
            kept.entry(key).or_insert(reason);
        }
    };
    stay(inventory.in_use().into_iter().collect(), Reason::InUse);
    let templates = inventory.templates.iter().map(|template| template.key);
    stay(templates.filter(alive).collect(), Reason::CurrentTemplate);
    let recent = inventory.recent.iter().flat_map(|recent| {
        let keys = recent.bakes.iter().map(|bake| bake.key);
        keys.filter(|key| inventory.snapshots.contains_key(key))
            .take(keep)
    });
    stay(recent.filter(alive).collect(), Reason::Recent);
    let parents = parents(inventory, &kept);
    for key in parents.into_iter().filter(alive) {
        kept.entry(key).or_insert(Reason::TemplateOfKept);
    }
    kept
}

/// The templates of those that stay.
fn parents(inventory: &Inventory, kept: &BTreeMap<Sha256Digest, Reason>) -> Vec<Sha256Digest> {
    let held = kept.keys().filter_map(|key| inventory.snapshots.get(key));
    held.filter_map(|held| held.manifest.parts.template_key)
        .collect()
}

/// Whether a snapshot is older than the operator lets those of its template become.
fn has_outlived(inventory: &Inventory, held: &Held, now: Timestamp) -> bool {
    let limit = held.template().parse().ok();
    let limit = limit.and_then(|name| inventory.time_to_live.get(&name));
    let limit = limit.copied().unwrap_or(DEFAULT_TIME_TO_LIVE);
    // A clock that runs behind that of a bakery makes nothing old.
    let age = Duration::try_from(now.duration_since(held.manifest.created_at));
    age.is_ok_and(|age| age > limit)
}

impl Report {
    fn new(dry_run: bool, collected: Collected, kept: &BTreeMap<Sha256Digest, Reason>) -> Self {
        let gone = collected.snapshots.into_iter().map(|gone| Gone {
            key: gone.key,
            name: gone.name,
            stored_bytes: gone.bytes,
        });
        Self {
            dry_run,
            collected: gone.collect(),
            chunks: collected.chunks,
            bytes: collected.bytes,
            kept: kept
                .iter()
                .map(|(key, reason)| (key.to_string(), *reason))
                .collect(),
        }
    }

    /// The same for a person.
    pub fn lines(&self) -> Vec<String> {
        let goes = if self.dry_run { "would go" } else { "gone" };
        let mut lines: Vec<_> = self
            .collected
            .iter()
            .map(|gone| {
                let (key, size) = (short(&gone.key), human::size(gone.stored_bytes));
                format!("{goes}: {key}  {}  {size}", gone.name)
            })
            .collect();
        lines.push(format!(
            "{goes}: {} snapshots, {} chunks, {}; {} snapshots stay",
            self.collected.len(),
            self.chunks,
            human::size(self.bytes),
            self.kept.len()
        ));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::tests::{environment, inventory, now, template};

    /// What stays of these, in their order.
    fn reasons(inventory: &Inventory, held: &[&Held]) -> Vec<Option<Reason>> {
        let kept = retained(inventory, 2, now());
        held.iter()
            .map(|held| kept.get(&held.manifest.key).copied())
            .collect()
    }

    #[test]
    fn the_last_of_an_environment_stay_with_their_templates() {
        let (old, current) = (template("node", 20), template("node", 1));
        let widgets = [1, 2, 3].map(|days| environment("widget", &old, days));
        let [first, second, third] = &widgets;
        let all = [&old, &current, first, second, third];
        let inventory = inventory(&all)
            .with_template(&current)
            .with_recent("widget", &[first, second, third]);
        let expected = [
            Some(Reason::TemplateOfKept),
            Some(Reason::CurrentTemplate),
            Some(Reason::Recent),
            Some(Reason::Recent),
            None,
        ];
        assert_eq!(reasons(&inventory, &all), expected);
    }

    #[test]
    fn what_was_asked_for_and_never_baked_takes_nobodys_place() {
        let node = template("node", 1);
        let widgets = [1, 2, 3].map(|days| environment("widget", &node, days));
        let [failed, second, third] = &widgets;
        let inventory =
            inventory(&[&node, second, third]).with_recent("widget", &[failed, second, third]);
        let expected = [None, Some(Reason::Recent), Some(Reason::Recent)];
        assert_eq!(reasons(&inventory, &[failed, second, third]), expected);
    }

    #[test]
    fn nothing_older_than_its_templates_time_to_live_stays() {
        let (old, foreign) = (template("node", 31), template("gone", 31));
        let (young, younger) = (environment("widget", &old, 29), template("gone", 29));
        let widget = environment("gadget", &old, 31);
        let all = [&old, &foreign, &young, &younger, &widget];
        let mut inventory = inventory(&all)
            .with_template(&old)
            .with_template(&foreign)
            .with_template(&younger)
            .with_recent("widget", &[&young])
            .with_recent("gadget", &[&widget]);
        let (recent, current) = (Some(Reason::Recent), Some(Reason::CurrentTemplate));
        assert_eq!(
            reasons(&inventory, &all),
            [None, None, recent, current, None]
        );

        let limit = Duration::from_hours(40 * 24);
        inventory
            .time_to_live
            .insert("node".parse().unwrap(), limit);
        assert_eq!(
            reasons(&inventory, &all),
            [current, None, recent, current, recent]
        );
    }

    #[test]
    fn what_a_running_job_uses_stays_however_old_it_is() {
        let node = template("node", 400);
        let widget = environment("widget", &node, 399);
        let inventory = inventory(&[&node, &widget]).with_user("w1", &widget);
        assert_eq!(
            reasons(&inventory, &[&node, &widget]),
            [None, Some(Reason::InUse)]
        );
    }

    #[test]
    fn a_snapshot_that_nothing_points_to_goes() {
        let node = template("node", 1);
        let widget = environment("widget", &node, 1);
        let inventory = inventory(&[&node, &widget]);
        assert_eq!(reasons(&inventory, &[&node, &widget]), [None, None]);
    }

    #[test]
    fn a_dry_run_says_what_would_go() {
        let key = Sha256Digest::of("a");
        let gone = store::Gone {
            key,
            name: "widget".into(),
            bytes: 2 << 20,
        };
        let collected = Collected {
            snapshots: vec![gone],
            chunks: 4,
            bytes: 1 << 20,
        };
        let kept = BTreeMap::from([(key, Reason::InUse)]);
        let lines = Report::new(true, collected, &kept).lines();
        assert_eq!(
            lines[0],
            format!("would go: {}  widget  2.0 MiB", short(&key))
        );
        assert_eq!(
            lines[1],
            "would go: 1 snapshots, 4 chunks, 1.0 MiB; 1 snapshots stay"
        );
    }
}
