//! The configuration file: TOML, read once, every mistake in it reported together.
//!
//! ```toml
//! state = "/var/lib/sourdough"            # caches, kernels, slots of running VMs; one bakery at a time
//! pools = ["default"]                     # for which `init` makes job consumers
//! replicas = 1                            # of streams and buckets: 1 for one NATS server, 3 for a cluster
//! log = "human"                           # or "json"
//! agent = "/usr/lib/sourdough/sourdough-agent"    # default: beside this program
//! ca_bundle = "/etc/ssl/certs/ca-certificates.crt"
//!
//! [nats]                                  # bus::nats::NatsConfig
//! [objects]                               # bus::objects::ObjectsConfig
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
//! [registries.npm]                        # what `network.registries: ["npm"]` means
//! hosts = ["registry.example.com:443"]
//! networks = ["10.20.0.0/16"]             # where these hosts may lie besides public addresses
//! env = { npm_config_registry = "https://registry.example.com/" }
//! ```
//!
//! `SOURDOUGH_NATS_URL`, `SOURDOUGH_NATS_NKEY_FILE` and `SOURDOUGH_NATS_CREDENTIALS_FILE` stand above the file. Credentials for S3
//! are never in it: they come from the environment, a profile or the machine's role.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use bus::nats::{Login, NatsConfig};
use bus::objects::ObjectsConfig;
use bus::telemetry::Format;
use schemas::Token;
use schemas::guest::CA_BUNDLE;
use schemas::step::Env;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// Where Debian keeps its sources since release 12, and before.
const DEBIAN_SOURCES: [&str; 2] = [
    "/etc/apt/sources.list.d/debian.sources",
    "/etc/apt/sources.list",
];

/// Debian's kernel for virtual machines: a tenth of the modules, and what the initramfs needs.
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";

/// What an operator says.
#[derive(Debug, Clone)]
pub struct Config {
    /// Caches, kernels and the slots of running VMs.
    pub state: PathBuf,
    /// The sets of workers for which `init` makes consumers.
    pub pools: Vec<Token>,
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
    /// How QEMU is run.
    pub qemu: Qemu,
    /// Where the kernel comes from.
    pub kernel: Kernel,
    /// The apt sources that templates are made from.
    pub debian_sources: PathBuf,
    /// What the names in an environment's `network.registries` mean.
    pub registries: BTreeMap<Token, Registry>,
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

/// The hosts of one registry, and how its client is told about them.
#[derive(Clone, PartialEq, Eq)]
pub struct Registry {
    /// What the setup may reach.
    pub rule: egress::Rule,
    /// Variables for the setup steps of environments that name this registry.
    pub env: Env,
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
        let table = text
            .parse::<Table>()
            .map_err(|error| vec![format!("is not TOML: {}", error.to_string().trim())])?;
        let mut settings = Settings {
            table,
            problems: Vec::new(),
        };
        let config = settings.config(variable);
        settings.refuse_unknown();
        match config {
            Some(config) if settings.problems.is_empty() => Ok(config),
            Some(_) | None => Err(settings.problems),
        }
    }
}

/// The settings that have not been read yet, and what was wrong with those that have.
struct Settings {
    table: Table,
    problems: Vec<String>,
}

impl Settings {
    fn config(&mut self, variable: impl Fn(&str) -> Option<String>) -> Option<Config> {
        let state = self.take("state");
        if state.is_none() && self.problems.is_empty() {
            self.problems.push("state: is missing".to_owned());
        }
        let pools = self.pools();
        let replicas = self.take_or("replicas", 1);
        if !(1..=5).contains(&replicas) {
            let problem = format!("replicas: must be between 1 and 5, is {replicas}");
            self.problems.push(problem);
        }
        let nats = self.take_or("nats", NatsConfig::default());
        Some(Config {
            pools,
            replicas,
            log: self.take_or("log", Format::default()),
            agent: self.take("agent").unwrap_or_else(beside_this_program),
            ca_bundle: self.take_or("ca_bundle", CA_BUNDLE.into()),
            nats: with_variables(nats, variable),
            objects: self.take_or("objects", ObjectsConfig::default()),
            qemu: self.take_or("qemu", Qemu::default()),
            kernel: self.kernel(),
            debian_sources: self.debian_sources(),
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

    fn pools(&mut self) -> Vec<Token> {
        let default = Token::parse("default").expect("a plain word is a token");
        let pools: Vec<Token> = self.take_or("pools", vec![default]);
        if pools.is_empty() {
            self.problems.push("pools: must name at least one".into());
        }
        pools
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

    /// Each registry by itself, so that one mistake does not hide another.
    fn registries(&mut self) -> BTreeMap<Token, Registry> {
        let mut registries = BTreeMap::new();
        for (name, value) in self.take_or("registries", Table::new()) {
            let setting = format!("registries.{name}");
            let fields: Option<RegistryFields> = self.read(&setting, value);
            match (name.parse::<Token>(), fields) {
                (Err(problem), _) => self.problems.push(format!("{setting}: {problem}")),
                (Ok(_), Some(fields)) if fields.hosts.is_empty() => {
                    let problem = format!("{setting}.hosts: must name at least one");
                    self.problems.push(problem);
                }
                (Ok(name), Some(fields)) => {
                    registries.insert(name, fields.into());
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
struct DebianFields {
    sources: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegistryFields {
    hosts: Vec<egress::Endpoint>,
    #[serde(default)]
    networks: Vec<ipnet::IpNet>,
    #[serde(default)]
    env: Env,
}

impl From<RegistryFields> for Registry {
    fn from(fields: RegistryFields) -> Self {
        Self {
            rule: egress::Rule {
                hosts: fields.hosts,
                networks: fields.networks,
            },
            env: fields.env,
        }
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

/// Names of the variables only: the address of a registry may hold a password.
impl fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Registry")
            .field("rule", &self.rule)
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .finish()
    }
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

fn listed(problems: &[String]) -> String {
    let lines: Vec<_> = problems.iter().map(String::as_str).collect();
    format!("\n  {}", lines.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, Vec<String>> {
        Config::parse(text, |_| None)
    }

    #[test]
    fn a_state_directory_is_all_that_has_no_default() {
        let config = parse("state = '/s'").unwrap();
        assert_eq!(config.kernel, Kernel::Package(KERNEL_PACKAGE.to_owned()));
        assert_eq!(config.pools.len(), 1);
        assert_eq!(config.qemu.accelerator, Accelerator::Tcg);
        assert_eq!(parse("").unwrap_err(), ["state: is missing"]);
    }

    #[test]
    fn all_mistakes_are_reported_together() {
        let text = "
            pools = []
            replicas = 9
            speed = 3
            [qemu]
            accelerator = 'warp'
            [kernel]
            image = '/k'
            [registries.npm]
            hosts = []
            [registries.pypi]
            hosts = ['no-port.example.com']
        ";
        let problems = parse(text).unwrap_err();
        let about: Vec<_> = problems
            .iter()
            .map(|problem| problem.split(':').next().unwrap())
            .collect();
        assert_eq!(
            about,
            [
                "state",
                "pools",
                "replicas",
                "qemu",
                "kernel",
                "registries.npm.hosts",
                "registries.pypi",
                "speed"
            ]
        );
    }

    #[test]
    fn a_variable_of_the_environment_stands_above_the_file() {
        let variable =
            |name: &str| (name == "SOURDOUGH_NATS_URL").then(|| "nats://b.example:1".into());
        let text = "state = '/s'\n[nats]\nurl = 'nats://a.example:1'";
        let config = Config::parse(text, variable).unwrap();
        assert_eq!(config.nats.url, "nats://b.example:1");
    }

    #[test]
    fn what_is_logged_holds_no_secret() {
        let text = "
            state = '/s'
            [nats]
            url = 'nats://user:password@a.example:1'
            [registries.npm]
            hosts = ['registry.example.com:443']
            networks = ['10.20.0.0/16']
            env = { npm_config_registry = 'https://user:password@registry.example.com/' }
        ";
        let logged = format!("{:?}", parse(text).unwrap());
        assert!(!logged.contains("password"), "{logged}");
        assert!(logged.contains("npm_config_registry"), "{logged}");
    }

    #[test]
    fn the_example_above_is_a_configuration() {
        let example = include_str!("config.rs")
            .lines()
            .skip_while(|line| *line != "//! ```toml")
            .skip(1)
            .take_while(|line| *line != "//! ```")
            .map(|line| line.trim_start_matches("//!"))
            .collect::<Vec<_>>()
            .join("\n");
        assert_eq!(parse(&example).unwrap().registries.len(), 1);
    }
}
