//! What the two services of a stack are told: one TOML file each. Credentials are not in them, they are in the environment.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::registry::Registry;
use super::{Servers, StackOptions};

/// The template in which sources are fetched from git; `deploy/demo` has it.
const FETCH_TEMPLATE: &str = "fetch";

/// The bakery's file.
#[derive(Debug, Serialize)]
pub(super) struct BakeryConfig {
    pub(super) state: PathBuf,
    pub(super) agent: PathBuf,
    /// None may be in a snapshot.
    pub(super) canaries: Vec<String>,
    #[serde(flatten)]
    pub(super) shared: Shared,
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
    #[serde(flatten)]
    pub(super) shared: Shared,
}

/// What both are told.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Shared {
    ca_bundle: PathBuf,
    nats: Nats,
    objects: Objects,
    qemu: Qemu,
    git: Git,
    registries: BTreeMap<String, Registry>,
}

#[derive(Debug, Clone, Serialize)]
struct Nats {
    url: String,
}

#[derive(Debug, Clone, Serialize)]
struct Objects {
    endpoint: String,
}

#[derive(Debug, Clone, Serialize)]
struct Qemu {
    accelerator: String,
}

#[derive(Debug, Clone, Serialize)]
struct Git {
    template: String,
}

impl Shared {
    /// What the services of a stack have in common.
    pub(super) fn of(
        options: &StackOptions,
        servers: &Servers,
        registries: &BTreeMap<String, Registry>,
    ) -> Self {
        Self {
            ca_bundle: options.ca_bundle.clone(),
            nats: Nats {
                url: servers.nats.url().to_owned(),
            },
            objects: Objects {
                endpoint: servers.s3.endpoint().to_owned(),
            },
            qemu: Qemu {
                accelerator: "tcg".to_owned(),
            },
            git: Git {
                template: FETCH_TEMPLATE.to_owned(),
            },
            registries: registries.clone(),
        }
    }
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
            shared: Shared {
                ca_bundle: "/bundle.pem".into(),
                nats: Nats {
                    url: "nats://127.0.0.1:4222".to_owned(),
                },
                objects: Objects {
                    endpoint: "http://127.0.0.1:8333".to_owned(),
                },
                qemu: Qemu {
                    accelerator: "tcg".to_owned(),
                },
                git: Git {
                    template: "fetch".to_owned(),
                },
                registries: BTreeMap::new(),
            },
        };
        write(&path, &config).unwrap();
        let read: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
        assert_eq!(read["slots"].as_integer(), Some(2));
        assert_eq!(read["nats"]["url"].as_str(), Some("nats://127.0.0.1:4222"));
    }
}
