//! `bakery inspect KEY`: all that is known of one snapshot, and who uses it.

use jiff::Timestamp;
use schemas::{HostClass, KeyPrefix, Sha256Digest, Token, Trust};
use serde::Serialize;
use store::{GateReport, Manifest};

use crate::human;
use crate::inventory::{Inventory, Kind, Summary};
use crate::list::{kind, short};

/// Why there is nothing to say.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// No snapshot has a key that begins so.
    #[error("no snapshot has a key that begins with {0}: `bakery list` shows those there are")]
    Unknown(KeyPrefix),
    /// More than one has.
    #[error("{count} snapshots have a key that begins with {prefix}: give more digits")]
    Ambiguous {
        /// What was asked for.
        prefix: KeyPrefix,
        /// How many there are.
        count: usize,
    },
}

/// All that is known of one snapshot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspected {
    /// It in short.
    #[serde(flatten)]
    pub summary: Summary,
    /// The name of the template that it is, or was derived from.
    pub template: String,
    /// Who uses it.
    pub used_by: Users,
    /// The whole manifest.
    pub contents: Manifest,
}

/// Who uses a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Users {
    /// Workers whose jobs use it at this moment.
    pub workers: Vec<Token>,
    /// The environments that were lately baked for it, and how many bakes of each are newer.
    pub environments: Vec<EnvironmentUse>,
    /// The names under which it is the current template.
    pub templates: Vec<Token>,
    /// The snapshots that were derived from it.
    pub children: Vec<Sha256Digest>,
}

/// An environment that was lately baked for a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EnvironmentUse {
    /// Whose.
    pub tenant: Token,
    /// How far the authors are trusted.
    pub trust: Trust,
    /// For which hosts.
    pub class: HostClass,
    /// Its name.
    pub environment: Token,
    /// How many of its bakes are newer.
    pub newer: usize,
}

impl Inventory {
    /// All that is known of the one snapshot whose key begins with `prefix`.
    pub fn inspect(&self, prefix: &KeyPrefix) -> Result<Inspected, InspectError> {
        let held: Vec<_> = self
            .snapshots
            .iter()
            .filter(|(key, _)| prefix.begins(key))
            .map(|(_, held)| held)
            .collect();
        match held[..] {
            [held] => Ok(Inspected {
                summary: self.summary(held),
                template: held.template().to_owned(),
                used_by: self.users(&held.manifest.key),
                contents: held.manifest.clone(),
            }),
            [] => Err(InspectError::Unknown(prefix.clone())),
            _ => Err(InspectError::Ambiguous {
                prefix: prefix.clone(),
                count: held.len(),
            }),
        }
    }

    fn users(&self, key: &Sha256Digest) -> Users {
        let workers = self.workers.iter();
        let workers = workers.filter(|worker| worker.snapshots.contains(key));
        let environments = self.recent.iter().filter_map(|recent| {
            let newer = recent.bakes.iter().position(|bake| bake.key == *key)?;
            let shelf = &recent.shelf;
            Some(EnvironmentUse {
                tenant: shelf.tenant.clone(),
                trust: shelf.trust,
                class: shelf.class.clone(),
                environment: shelf.environment.clone(),
                newer,
            })
        });
        let templates = self.templates.iter();
        let templates = templates.filter(|template| template.key == *key);
        Users {
            workers: workers.map(|worker| worker.name.clone()).collect(),
            environments: environments.collect(),
            templates: templates.map(|template| template.name.clone()).collect(),
            children: self.children(key).map(|child| child.manifest.key).collect(),
        }
    }
}

impl Inspected {
    /// The same for a person, with ages as of `now`.
    pub fn lines(&self, now: Timestamp) -> Vec<String> {
        let (summary, parts) = (&self.summary, &self.contents.parts);
        let mut lines = vec![
            format!("key        {}", summary.key),
            format!("manifest   {}", summary.manifest),
            format!("kind       {} {}", kind(summary.kind), summary.name),
        ];
        if let (Some(tenant), Some(trust)) = (&summary.tenant, summary.trust) {
            lines.push(format!("whose      {tenant}, {trust}"));
        }
        if let (Kind::Environment, Some(key)) = (summary.kind, parts.template_key) {
            lines.push(format!("template   {} {}", self.template, short(&key)));
        }
        lines.extend([
            format!("class      {}", summary.class),
            format!(
                "machine    {} vCPU, {} MiB, disk of {} MiB",
                parts.vcpu, parts.memory_mib, parts.disk_mib
            ),
            format!(
                "published  {} ({})",
                summary.created_at,
                human::age(summary.created_at, now)
            ),
            format!("current    {}", if summary.current { "yes" } else { "no" }),
            format!(
                "size       {} on a worker, {} in the object store",
                human::size(summary.size_bytes),
                human::size(summary.stored_bytes)
            ),
        ]);
        lines.extend(self.contents.files.iter().map(|file| {
            let (data, whole) = (human::size(file.data_bytes()), human::size(file.size_bytes));
            format!("  {:8} {data} of {whole}", file.name)
        }));
        let inputs = parts.inputs.iter();
        lines.extend(inputs.map(|(path, digest)| format!("input      {path} {digest}")));
        lines.push(gate(self.contents.details.gate.as_ref(), now));
        lines.extend(self.used_by.lines());
        lines.extend(packages(&self.contents.details.packages));
        lines
    }
}

impl Users {
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        lines.extend(
            self.templates
                .iter()
                .map(|name| format!("used by    template {name}")),
        );
        lines.extend(self.environments.iter().map(|used| {
            let newer = match used.newer {
                0 => "its newest".to_owned(),
                count => format!("{count} newer"),
            };
            format!(
                "used by    environment {} of {}, {} ({newer})",
                used.environment, used.tenant, used.trust
            )
        }));
        lines.extend(
            self.workers
                .iter()
                .map(|name| format!("used by    worker {name}")),
        );
        lines.extend(
            self.children
                .iter()
                .map(|key| format!("used by    snapshot {}", short(key))),
        );
        if lines.is_empty() {
            lines.push("used by    nobody".to_owned());
        }
        lines
    }
}

fn gate(report: Option<&GateReport>, now: Timestamp) -> String {
    let Some(report) = report else {
        return "checked    no".to_owned();
    };
    let forks: Vec<_> = report
        .forks
        .iter()
        .map(|fork| format!("{} ms", fork.answered_ms))
        .collect();
    let found = |good: bool, what: &str| format!("{what} {}", if good { "yes" } else { "NO" });
    format!(
        "checked    {}, in {} ms: forks answered after {}; {}, {}, {}; {} canaries, none found",
        human::age(report.checked_at, now),
        report.took_ms,
        forks.join(" and "),
        found(report.entropy_differs, "entropy differs"),
        found(report.uuid_differs, "identities differ"),
        found(report.disks_agree, "disks agree"),
        report.canaries
    )
}

fn packages(packages: &[String]) -> Vec<String> {
    if packages.is_empty() {
        return Vec::new();
    }
    let heading = format!("packages   {}", packages.len());
    let listed = packages.iter().map(|package| format!("  {package}"));
    std::iter::once(heading).chain(listed).collect()
}

#[cfg(test)]
mod tests;
