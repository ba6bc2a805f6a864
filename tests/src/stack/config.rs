//! What the two services of a stack are told: one TOML file each. Credentials are not in them, they are in the environment.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::registry::Registry;

/// The bakery's file.
#[derive(Debug, Serialize)]
pub(super) struct BakeryConfig {
    pub(super) state: PathBuf,
    pub(super) agent: PathBuf,
    pub(super) ca_bundle: PathBuf,
    /// None may be in a snapshot.
    pub(super) canaries: Vec<String>,
    pub(super) nats: Nats,
    pub(super) objects: Objects,
    pub(super) qemu: Qemu,
    pub(super) git: Git,
    pub(super) registries: BTreeMap<String, Registry>,
}

/// The worker's file.
#[derive(Debug, Serialize)]
pub(super) struct WorkerConfig {
    pub(super) name: String,
    pub(super) state: PathBuf,
    pub(super) slots: u32,
    pub(super) trust: Vec<String>,
    /// Emulation is no boundary. This is a machine of our own that builds our own project.
    pub(super) untrusted_under_tcg: bool,
    pub(super) ca_bundle: PathBuf,
    pub(super) nats: Nats,
    pub(super) objects: Objects,
    pub(super) qemu: Qemu,
    pub(super) git: Git,
    pub(super) registries: BTreeMap<String, Registry>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Nats {
    pub(super) url: String,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Objects {
    pub(super) endpoint: String,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Qemu {
    pub(super) accelerator: String,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Git {
    pub(super) template: String,
}

/// Writes a file for a service to read.
pub(super) fn write(path: &Path, config: &impl Serialize) -> Result<()> {
    let text = toml::to_string_pretty(config).context("write a configuration as TOML")?;
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_told_in_toml() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("worker.toml");
        let config = WorkerConfig {
            name: "w1".to_owned(),
            state: "/state".into(),
            slots: 2,
            trust: vec!["untrusted".to_owned()],
            untrusted_under_tcg: true,
            nats: Nats {
                url: "nats://127.0.0.1:4222".to_owned(),
            },
            objects: Objects {
                endpoint: "http://127.0.0.1:8333".to_owned(),
            },
            qemu: Qemu {
                accelerator: "tcg".to_owned(),
            },
            ca_bundle: "/bundle.pem".into(),
            git: Git {
                template: "fetch".to_owned(),
            },
            registries: BTreeMap::new(),
        };
        write(&path, &config).unwrap();
        let read: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
        assert_eq!(read["slots"].as_integer(), Some(2));
        assert_eq!(read["nats"]["url"].as_str(), Some("nats://127.0.0.1:4222"));
    }
}
