//! The configuration file: TOML, read once, every mistake in it reported together.
//!
//! ```toml
//! state = "/var/lib/sourdough"            # caches, kernels, slots of running VMs; one bakery at a time
//! replicas = 1                            # of streams and buckets: 1 for one NATS server, 3 for a cluster
//! log = "human"                           # or "json"
//! agent = "/usr/lib/sourdough/sourdough-agent"    # default: beside this program
//! ca_bundle = "/etc/ssl/certs/ca-certificates.crt"
//! cache_max_mib = 20480                   # of snapshots on this machine's disk; those in use may exceed it
//! keep = 3                                # snapshots that `bakery gc` leaves of each environment, the newest
//! gc_grace_s = 86400                      # nothing younger is collected: a bake may be about to use it
//!
//! canaries = ["a-secret-of-this-host"]    # 16 bytes or more, that must be in no snapshot; default: none
//!
//! [nats]                                  # bus::nats::NatsConfig
//! [objects]                               # bus::objects::ObjectsConfig
//!
//! [telemetry]
//! otlp_endpoint = "http://collector.example.com:4317"   # where traces go; without it there are none
//! sample_ratio = 1.0                      # which share of the traces that begin here
//!
//! [qemu]
//! program = "qemu-system-x86_64"
//! accelerator = "tcg"                     # or "kvm"
//!
//! [kernel]                                # a Debian package, or both an image and a folder of modules
//! package = "linux-image-cloud-amd64"
//!
//! [debian]
//! sources = "/etc/apt/sources.list.d/debian.sources"   # default: the host's own
//!
//! [oci."registry.example.com:5000"]       # a registry that templates may take images from
//! plain_http = false
//! auth_file = "/etc/sourdough/registry.json"      # what `skopeo login --authfile` wrote; default: none
//!
//! [archives]                              # where root archives of templates may lie besides the bucket for sources
//! hosts = ["files.example.com:443"]
//! networks = ["10.20.0.0/16"]
//!
//! [registries.npm]                        # what `network.registries: ["npm"]` means
//! hosts = ["registry.example.com:443"]
//! networks = ["10.20.0.0/16"]             # where these hosts may lie besides public addresses
//! env = { npm_config_registry = "https://registry.example.com/" }
//!
//! [git]
//! template = "fetch"                      # in which commits are fetched; it needs git and certificate authorities. Default: none
//! ```
//!
//! `SOURDOUGH_NATS_URL`, `SOURDOUGH_NATS_NKEY_FILE` and `SOURDOUGH_NATS_CREDENTIALS_FILE` stand above the file. Credentials for S3
//! are never in it: they come from the environment, a profile or the machine's role.

mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bus::nats::NatsConfig;
use bus::objects::ObjectsConfig;
use bus::telemetry::{Format, TelemetryConfig};
use serde::Deserialize;
use settings::Settings;

use crate::gate::Secret;
use setup::Registries;
use source::SourcesConfig;
use toml::Table;

/// What an operator says.
#[derive(Debug, Clone)]
pub struct Config {
    /// Caches, kernels and the slots of running VMs.
    pub state: PathBuf,
    /// How many copies of each stream and bucket a cluster keeps.
    pub replicas: usize,
    /// What a line of the log looks like.
    pub log: Format,
    /// The agent's program.
    pub agent: PathBuf,
    /// The certificate authorities that templates with `ca: host` take over.
    pub ca_bundle: PathBuf,
    /// Where NATS is.
    pub nats: NatsConfig,
    /// Where objects are.
    pub objects: ObjectsConfig,
    /// Where traces go.
    pub telemetry: TelemetryConfig,
    /// How QEMU is run.
    pub qemu: Qemu,
    /// Where the kernel comes from.
    pub kernel: Kernel,
    /// The apt sources that templates are made from.
    pub debian_sources: PathBuf,
    /// Registries that templates may take OCI images from, by host and perhaps port.
    pub oci: BTreeMap<String, OciRegistry>,
    /// Hosts that root archives of templates may be fetched from. Default none: the bucket for sources is always open to them.
    pub archives: egress::Rule,
    /// The size that the cache of snapshots is kept below, in bytes. Default 20 GiB: some twenty snapshots.
    pub cache_max_bytes: u64,
    /// How many snapshots of each environment a collection leaves, the newest. Default 3: the main branch and two others.
    pub keep: usize,
    /// The age below which nothing is collected. Default one day: longer than any bake takes.
    pub gc_grace: Duration,
    /// Values that no snapshot may hold: every bake is searched for them before it is published.
    pub canaries: Vec<Secret>,
    /// How sources are fetched.
    pub sources: SourcesConfig,
    /// What the names in an environment's `network.registries` mean.
    pub registries: Registries,
}

/// How QEMU is run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Qemu {
    /// The program.
    pub program: PathBuf,
    /// What executes guest code.
    pub accelerator: Accelerator,
}

/// What executes guest code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// Software emulation, which works everywhere.
    #[default]
    Tcg,
    /// The processor, where its KVM runs stock kernels.
    Kvm,
}

/// A registry that templates may take OCI images from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OciRegistry {
    /// Whether it is spoken to without TLS. Default false. What it sends is checked against the template's digest either way.
    pub plain_http: bool,
    /// A file with a login, as `skopeo login --authfile` writes it. Default none.
    pub auth_file: Option<PathBuf>,
}

/// Where the kernel comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kernel {
    /// A package of the host's apt sources. It is downloaded and unpacked, never installed.
    Package(String),
    /// Files of the operator's own.
    Files {
        /// The image.
        image: PathBuf,
        /// Its folder of modules, `lib/modules/<version>`.
        modules: PathBuf,
    },
}

/// Everything that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[error("configuration {}:{}", path.display(), listed(problems))]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// Each mistake, with the setting that it is in.
    pub problems: Vec<String>,
}

impl Config {
    /// Reads the file; `variable` looks an environment variable up.
    pub fn load(
        path: &Path,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let failed = |problems| ConfigError {
            path: path.to_owned(),
            problems,
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| failed(vec![format!("cannot be read: {error}")]))?;
        Self::parse(&text, variable).map_err(failed)
    }

    /// Reads the text of a file.
    fn parse(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<String>> {
        let table = text.parse::<Table>();
        let table = table.map_err(|error| vec![not_toml(text, &error)])?;
        Settings::new(table).read_all(variable)
    }
}

impl Default for Qemu {
    fn default() -> Self {
        Self {
            program: "qemu-system-x86_64".into(),
            accelerator: Accelerator::default(),
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        })
    }
}

/// Where and why. The line itself is not quoted: it may hold a password.
fn not_toml(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    format!(
        "line {line}: is not TOML: {}",
        error.message().trim().replace('\n', " ")
    )
}

fn listed(problems: &[String]) -> String {
    let lines: Vec<_> = problems.iter().map(String::as_str).collect();
    format!("\n  {}", lines.join("\n  "))
}

#[cfg(test)]
mod tests;
