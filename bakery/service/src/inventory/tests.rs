//! Inventories for tests, and what is said of one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemas::Trust;
use serde_json::json;
use store::{KEY_VERSION, KeyParts, Manifest};

use super::*;

/// The moment at which the tests look.
pub(crate) fn now() -> Timestamp {
    "2024-06-01T00:00:00Z".parse().unwrap()
}

pub(crate) fn class() -> HostClass {
    "fake-1-none-0123abcd".parse().unwrap()
}

/// A template that was published so many days ago.
pub(crate) fn template(name: &str, days: i64) -> Held {
    held(json!({"name": name}), None, days)
}

/// An environment of the tenant `acme` that was derived from `template` so many days ago.
pub(crate) fn environment(name: &str, template: &Held, days: i64) -> Held {
    let definition = json!({"name": name, "template": template.manifest.name()});
    held(definition, Some(template.manifest.key), days)
}

fn held(definition: serde_json::Value, template_key: Option<Sha256Digest>, days: i64) -> Held {
    let tenant = template_key.map(|_| "acme".parse().unwrap());
    let parts = KeyParts {
        version: KEY_VERSION,
        trust: tenant.as_ref().map(|_| Trust::Untrusted),
        tenant,
        template_key,
        definition,
        kernel: Sha256Digest::of("kernel"),
        agent: Sha256Digest::of("agent"),
        root: None,
        host_class: class(),
        cpu_model: "host".into(),
        vcpu: 1,
        memory_mib: 256,
        disk_mib: 256,
        inputs: BTreeMap::new(),
        egress: json!(null),
        ca: None,
        // Every one of them has a key of its own.
        salt: days.to_string(),
    };
    let manifest = json!({
        "schema": store::MANIFEST_SCHEMA, "key": parts.key(), "parts": parts, "files": [], "packages": [],
        "created_at": now() - jiff::SignedDuration::from_hours(24 * days),
    });
    let manifest = Manifest::parse(manifest.to_string().as_bytes()).unwrap();
    Held {
        digest: Sha256Digest::of(manifest.to_bytes()),
        manifest,
    }
}

/// All of these, with nothing that points to them. Templates serve 30 days.
pub(crate) fn inventory(snapshots: &[&Held]) -> Inventory {
    let snapshots = snapshots
        .iter()
        .map(|held| (held.manifest.key, (*held).clone()));
    let serves = Duration::from_hours(30 * 24);
    Inventory {
        snapshots: snapshots.collect(),
        time_to_live: BTreeMap::from([("node".parse().unwrap(), serves)]),
        ..Inventory::default()
    }
}

impl Inventory {
    /// With `held` as the current template of its name.
    pub(crate) fn with_template(mut self, held: &Held) -> Self {
        self.templates.push(CurrentTemplate {
            class: class(),
            name: held.manifest.name().parse().unwrap(),
            key: held.manifest.key,
        });
        self
    }

    /// With these as what the environment `name` was last baked for.
    pub(crate) fn with_recent(mut self, name: &str, bakes: &[&Held]) -> Self {
        let bake = |held: &&Held| {
            let digest = json!({"sha256": Sha256Digest::of("source")});
            let source =
                json!({"archive": {"uri": "s3://build-sources/acme/a.tar.zst", "digest": digest}});
            RecentBake {
                key: held.manifest.key,
                source: serde_json::from_value(source).unwrap(),
                asked_at: now(),
            }
        };
        self.recent.push(Recent {
            shelf: Shelf {
                class: class(),
                trust: Trust::Untrusted,
                tenant: "acme".parse().unwrap(),
                environment: name.parse().unwrap(),
            },
            bakes: bakes.iter().map(bake).collect(),
        });
        self
    }

    /// With a worker whose jobs use this.
    pub(crate) fn with_user(mut self, worker: &str, held: &Held) -> Self {
        let state = json!({
            "name": worker, "pool": "default", "trust": ["untrusted"], "class": class(), "slots": 1, "running": 1, "parked": 0,
            "snapshots": [held.manifest.key], "state": "ready", "time": now(),
        });
        let state = WorkerState::parse(state.to_string().as_bytes()).unwrap();
        self.workers.push(state);
        self
    }
}

#[test]
fn templates_come_first_and_the_newest_of_a_name_before_older_ones() {
    let old = template("node", 9);
    let (new, widget) = (template("node", 1), environment("widget", &old, 2));
    let inventory = inventory(&[&widget, &old, &new])
        .with_template(&new)
        .with_recent("widget", &[&widget]);
    let listed: Vec<_> = inventory
        .summaries()
        .into_iter()
        .map(|summary| (summary.key, summary.kind, summary.current))
        .collect();
    let expected = [
        (new.manifest.key, Kind::Template, true),
        (old.manifest.key, Kind::Template, false),
        (widget.manifest.key, Kind::Environment, true),
    ];
    assert_eq!(listed, expected);
    let children: Vec<_> = inventory.children(&old.manifest.key).collect();
    assert_eq!(children, [&widget]);
}
