//! Reading the settings one by one, so that one mistake does not hide another.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bus::nats::{Login, NatsConfig};
use bus::objects::ObjectsConfig;
use bus::telemetry::{Format, TelemetryConfig};
use schemas::Token;
use schemas::guest::CA_BUNDLE;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use setup::{Registries, Registry};
use source::SourcesConfig;
use toml::{Table, Value};

use super::{Config, Kernel, OciRegistry, Qemu};

/// Where Debian keeps its sources since release 12, and before.
const DEBIAN_SOURCES: [&str; 2] = [
    "/etc/apt/sources.list.d/debian.sources",
    "/etc/apt/sources.list",
];

/// 20 GiB: some twenty snapshots.
const CACHE_MAX_MIB: u64 = 20_480;

/// One day: longer than any bake takes.
const GC_GRACE_S: u64 = 86_400;

/// Debian's kernel for virtual machines: a tenth of the modules, and what the initramfs needs.
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";

/// The settings that have not been read yet, and what was wrong with those that have.
pub(super) struct Settings {
    table: Table,
    problems: Vec<String>,
}

impl Settings {
    pub(super) fn new(table: Table) -> Self {
        Self {
            table,
            problems: Vec::new(),
        }
    }

    /// The configuration, or everything that is wrong with it.
    pub(super) fn read_all(
        mut self,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Config, Vec<String>> {
        let config = self.config(variable);
        self.refuse_unknown();
        match config {
            Some(config) if self.problems.is_empty() => Ok(config),
            Some(_) | None => Err(self.problems),
        }
    }

    fn config(&mut self, variable: impl Fn(&str) -> Option<String>) -> Option<Config> {
        let state = self.take("state");
        if state.is_none() && self.problems.is_empty() {
            self.problems.push("state: is missing".to_owned());
        }
        let replicas = self.take_or("replicas", 1);
        if !(1..=5).contains(&replicas) {
            let problem = format!("replicas: must be between 1 and 5, is {replicas}");
            self.problems.push(problem);
        }
        let nats = self.take_or("nats", NatsConfig::default());
        let ca_bundle: PathBuf = self.take_or("ca_bundle", CA_BUNDLE.into());
        let git = self.take_or("git", GitFields::default());
        Some(Config {
            canaries: self.take_or("canaries", Vec::new()),
            sources: SourcesConfig {
                fetch_template: git.template,
                ca_bundle: ca_bundle.clone(),
                ..SourcesConfig::default()
            },
            replicas,
            log: self.take_or("log", Format::default()),
            agent: self.take("agent").unwrap_or_else(beside_this_program),
            ca_bundle,
            nats: with_variables(nats, &variable),
            telemetry: self.telemetry(variable),
            objects: self.take_or("objects", ObjectsConfig::default()),
            qemu: self.take_or("qemu", Qemu::default()),
            kernel: self.kernel(),
            debian_sources: self.debian_sources(),
            oci: self.oci(),
            archives: self.take_or("archives", egress::Rule::default()),
            cache_max_bytes: self.cache_max_bytes(),
            keep: self.keep(),
            gc_grace: Duration::from_secs(self.take_or("gc_grace_s", GC_GRACE_S)),
            registries: self.registries(),
            state: state?,
        })
    }

    /// The setting `name`, if it is there and can be read.
    fn take<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let value = self.table.remove(name)?;
        self.read(name, value)
    }

    fn take_or<T: DeserializeOwned>(&mut self, name: &str, default: T) -> T {
        self.take(name).unwrap_or(default)
    }

    fn read<T: DeserializeOwned>(&mut self, name: &str, value: Value) -> Option<T> {
        let read = value.try_into();
        read.map_err(|error: toml::de::Error| {
            let problem = error.to_string().trim().replace('\n', " ");
            self.problems.push(format!("{name}: {problem}"));
        })
        .ok()
    }

    fn telemetry(&mut self, variable: impl Fn(&str) -> Option<String>) -> TelemetryConfig {
        let mut telemetry = self.take_or("telemetry", TelemetryConfig::default());
        telemetry.complete(variable);
        self.problems.extend(telemetry.problems());
        telemetry
    }

    fn kernel(&mut self) -> Kernel {
        let default = Kernel::Package(KERNEL_PACKAGE.to_owned());
        let Some(fields) = self.take::<KernelFields>("kernel") else {
            return default;
        };
        match (fields.package, fields.image, fields.modules) {
            (Some(package), None, None) => Kernel::Package(package),
            (None, None, None) => default,
            (None, Some(image), Some(modules)) => Kernel::Files { image, modules },
            (Some(_) | None, _, _) => {
                let problem = "kernel: must have `package`, or both `image` and `modules`";
                self.problems.push(problem.to_owned());
                default
            }
        }
    }

    fn debian_sources(&mut self) -> PathBuf {
        let fields: DebianFields = self.take_or("debian", DebianFields::default());
        let mut candidates = DEBIAN_SOURCES.map(PathBuf::from).into_iter();
        let [newer, _] = DEBIAN_SOURCES;
        fields
            .sources
            .or_else(|| candidates.find(|path| path.is_file()))
            .unwrap_or_else(|| newer.into())
    }

    /// Registries for images. A host without a dot or a port would be taken for a part of an image's path.
    fn oci(&mut self) -> BTreeMap<String, OciRegistry> {
        let registries: BTreeMap<String, OciRegistry> = self.take_or("oci", BTreeMap::new());
        for host in registries.keys() {
            if !host.contains(['.', ':']) && host != "localhost" {
                let problem = format!("oci.{host}: must be a host, as registry.example.com:5000");
                self.problems.push(problem);
            }
        }
        registries
    }

    fn cache_max_bytes(&mut self) -> u64 {
        let mib: u64 = self.take_or("cache_max_mib", CACHE_MAX_MIB);
        mib.saturating_mul(1 << 20)
    }

    fn keep(&mut self) -> usize {
        let keep = self.take_or("keep", 3);
        if keep == 0 {
            self.problems.push("keep: must be at least 1".to_owned());
        }
        keep
    }

    /// Each registry by itself, so that one mistake does not hide another.
    fn registries(&mut self) -> Registries {
        let mut registries = Registries::new();
        for (name, value) in self.take_or("registries", Table::new()) {
            let setting = format!("registries.{name}");
            let registry: Option<Registry> = self.read(&setting, value);
            match (name.parse::<Token>(), registry) {
                (Err(problem), _) => self.problems.push(format!("{setting}: {problem}")),
                (Ok(name), Some(registry)) => {
                    registries.insert(name, registry);
                }
                (Ok(_), None) => {}
            }
        }
        registries
    }

    fn refuse_unknown(&mut self) {
        let unknown = self.table.keys();
        let problems = unknown.map(|name| format!("{name}: is not a setting"));
        self.problems.extend(problems);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KernelFields {
    package: Option<String>,
    image: Option<PathBuf>,
    modules: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct GitFields {
    template: Option<Token>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DebianFields {
    sources: Option<PathBuf>,
}

fn with_variables(nats: NatsConfig, variable: impl Fn(&str) -> Option<String>) -> NatsConfig {
    let nkey = variable("SOURDOUGH_NATS_NKEY_FILE").map(|path| Login::NkeyFile(path.into()));
    let credentials =
        variable("SOURDOUGH_NATS_CREDENTIALS_FILE").map(|path| Login::CredentialsFile(path.into()));
    NatsConfig {
        url: variable("SOURDOUGH_NATS_URL").unwrap_or(nats.url),
        login: nkey.or(credentials).or(nats.login),
        inbox_prefix: nats.inbox_prefix,
    }
}

fn beside_this_program() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program.with_file_name("sourdough-agent")
}
