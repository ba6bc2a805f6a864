//! The configuration file: TOML, read once, every mistake in it reported together.
//!
//! ```toml
//! name = "worker-1"                       # in results and in `build-workers`; default: the hostname
//! state = "/var/lib/sourdough/worker"     # caches, scratch files, slots; may be deleted between two jobs
//! pool = "default"
//! trust = ["trusted", "untrusted"]        # whose jobs it takes
//! untrusted_under_tcg = false             # software emulation is no security boundary: say so if you accept it
//! slots = 4                               # jobs at a time; default: as many as processors, memory and disk allow
//! slot_vcpu = 1                           # the largest guest that a slot takes; one size for all workers of a pool:
//! slot_memory_mib = 1024                  # a job whose template needs more gets `no_capacity`
//! slot_disk_mib = 4096                    # also what must be free before a job is pulled
//! max_parked = 64                         # jobs that wait for a bake at a time, without a slot; more are left to other workers
//! cache_max_mib = 20480                   # of snapshots on this disk; those used longest ago leave
//! ca_bundle = "/etc/ssl/certs/ca-certificates.crt"   # whom this host trusts when it fetches a source over https
//! log_max_bytes = 67108864                # of one job's output; the rest is dropped, and the result says so
//! drain_s = 30                            # after SIGTERM, before running jobs are given back
//! log = "human"                           # or "json"
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
//! [git]
//! template = "fetch"                      # the template in which sources are fetched from git; without it there are none
//!
//! [registries.npm]                        # what `network.registries: ["npm"]` means to a setup that runs here
//! hosts = ["registry.example.com:443"]    # (`on_missing: cold`); as in the bakery's configuration
//! networks = ["10.20.0.0/16"]             # where these hosts may lie besides public addresses
//! env = { npm_config_registry = "https://registry.example.com/" }
//! ```
//!
//! `SOURDOUGH_NATS_URL` stands above the file. Credentials for S3 are never in it: they come from the environment, a profile or
//! the machine's role.

mod load;
mod qemu;

use std::path::PathBuf;
use std::time::Duration;

use bus::nats::NatsConfig;
use bus::objects::ObjectsConfig;
use bus::telemetry::{Format, TelemetryConfig};
use schemas::guest::CA_BUNDLE;
use schemas::{Token, Trust};
use serde::Deserialize;
use setup::Registries;
use source::SourcesConfig;
use store::CacheConfig;

pub use load::ConfigError;
pub use qemu::{Accelerator, Qemu};

/// 1024 slots: more than any host has memory for.
pub const MAX_SLOTS: u32 = 1024;

/// What an operator says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The worker's name; one word, unique among running workers.
    #[serde(default = "hostname")]
    pub name: Token,
    /// Caches, scratch files and the slots of running VMs.
    pub state: PathBuf,
    /// The pool it serves.
    #[serde(default = "default_pool")]
    pub pool: Token,
    /// Whose jobs it takes. Default both.
    #[serde(default = "default_trust")]
    pub trust: Vec<Trust>,
    /// Whether untrusted jobs run under software emulation, which is no security boundary. Default false.
    #[serde(default)]
    pub untrusted_under_tcg: bool,
    /// Jobs at a time. Default: as many as the host allows, see [`crate::capacity`].
    #[serde(default)]
    pub slots: Option<u32>,
    /// Processors of the largest guest that a slot takes. Default 1, as a template's.
    #[serde(default = "default_slot_vcpu")]
    pub slot_vcpu: u32,
    /// Memory of the largest guest that a slot takes, in MiB. Default 1024, as a template's.
    #[serde(default = "default_slot_memory_mib")]
    pub slot_memory_mib: u32,
    /// Disk of the largest guest that a slot takes, in MiB; as much must be free before a job is pulled. Default 4096, as a template's.
    #[serde(default = "default_slot_disk_mib")]
    pub slot_disk_mib: u32,
    /// Jobs that wait for a bake at a time. Default 64: each keeps its message alive and watches two keys.
    #[serde(default = "default_max_parked")]
    pub max_parked: u32,
    /// Disk for snapshots, in MiB. Default 20 GiB: some twenty environments of 1 GiB of memory and what they have on disk.
    #[serde(default = "default_cache_max_mib")]
    pub cache_max_mib: u64,
    /// Certificate authorities that this host trusts when it fetches a source over https. Default where Debian keeps them.
    #[serde(default = "default_ca_bundle")]
    pub ca_bundle: PathBuf,
    /// Most bytes of one job's log. Default 64 MiB: more than anybody reads.
    #[serde(default = "default_log_max_bytes")]
    pub log_max_bytes: u64,
    /// Seconds that running jobs get after SIGTERM. Default 30: what service managers wait for at most, by default, is 90.
    #[serde(default = "default_drain_s")]
    pub drain_s: u64,
    /// What a line of the log looks like.
    #[serde(default = "default_log")]
    pub log: Format,
    /// Where NATS is.
    #[serde(default)]
    pub nats: NatsConfig,
    /// Where objects are.
    #[serde(default)]
    pub objects: ObjectsConfig,
    /// Where traces go. Default nowhere.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// How QEMU is run.
    #[serde(default)]
    pub qemu: Qemu,
    /// How sources are fetched from git.
    #[serde(default)]
    pub git: Git,
    /// What the names in an environment's `network.registries` mean to a setup that runs here. Default none.
    #[serde(default)]
    pub registries: Registries,
}

/// How sources are fetched from git.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Git {
    /// The template in which they are fetched; it has git. Default none: a job with such a source is refused here.
    pub template: Option<Token>,
}

impl Config {
    /// Whose jobs it takes, once the accelerator is considered.
    pub fn accepted(&self) -> Vec<Trust> {
        let isolates = self.qemu.accelerator != Accelerator::Tcg || self.untrusted_under_tcg;
        let accepted = |trust: &Trust| match trust {
            Trust::Trusted => true,
            Trust::Untrusted => isolates,
        };
        self.trust.iter().copied().filter(accepted).collect()
    }

    /// Where snapshots are kept, and how many.
    pub fn cache(&self, directory: PathBuf) -> CacheConfig {
        CacheConfig {
            directory,
            max_bytes: self.cache_max_mib.saturating_mul(1 << 20),
        }
    }

    /// How sources are fetched.
    pub fn sources(&self) -> SourcesConfig {
        SourcesConfig {
            fetch_template: self.git.template.clone(),
            ca_bundle: self.ca_bundle.clone(),
            ..SourcesConfig::default()
        }
    }

    /// What must be free of the disk before a job is pulled.
    pub fn slot_disk_bytes(&self) -> u64 {
        u64::from(self.slot_disk_mib) << 20
    }

    /// After SIGTERM, before running jobs are given back.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_s)
    }
}

fn hostname() -> Token {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let word: String = name
        .trim()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(64)
        .collect();
    word.parse().unwrap_or_else(|_| default_pool())
}

fn default_pool() -> Token {
    "default".parse().expect("a literal token")
}

fn default_trust() -> Vec<Trust> {
    vec![Trust::Trusted, Trust::Untrusted]
}

fn default_slot_vcpu() -> u32 {
    1
}

fn default_slot_memory_mib() -> u32 {
    1024
}

fn default_slot_disk_mib() -> u32 {
    4096
}

fn default_max_parked() -> u32 {
    64
}

fn default_cache_max_mib() -> u64 {
    20 << 10
}

fn default_ca_bundle() -> PathBuf {
    CA_BUNDLE.into()
}

fn default_log_max_bytes() -> u64 {
    64 << 20
}

fn default_drain_s() -> u64 {
    30
}

fn default_log() -> Format {
    Format::Human
}

#[cfg(test)]
mod tests;
