//! A real nats-server with `deploy/nats/server.conf` as it is and the tenant of `tenants.conf.example`, keys of its own, and a connection for
//! each user.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream::stream::DirectGetErrorKind;
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, Event};
use bus::permissions::{Role, tenant_account};
use bus::streams;
use e2e::launch::{Launch, Lifetime};
use e2e::process::Process;
use e2e::state::{State, repository};
use e2e::tools::Tools;
use e2e::wait;
use nix::sys::signal::Signal;
use nkeys::KeyPair;
use schemas::Trust;
use schemas::names::stream;

/// 30 s for a busy machine; it takes 20 ms.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// 10 s until the server has said that something is refused; it takes a millisecond.
const REFUSED_WITHIN: Duration = Duration::from_secs(10);

/// A running server with streams and buckets.
pub(crate) struct Server {
    url: String,
    keys: HashMap<&'static str, KeyPair>,
    process: Process,
    directory: tempfile::TempDir,
}

/// A connection of one user, and what the server refused it.
pub(crate) struct User {
    pub(crate) client: Client,
    pub(crate) jetstream: Context,
    refused: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) async fn start() -> Result<Self> {
        let tools = Tools::install(&State::from_environment()?)?;
        let directory = tempfile::tempdir()?;
        let names = VARIABLES.into_iter().chain(OF_ACME.map(|(name, _)| name));
        let keys: HashMap<_, _> = names.map(|name| (name, KeyPair::new_user())).collect();
        let configuration = configure(directory.path(), &keys)?;
        let mut process = Process::spawn(Launch {
            name: "nats-server",
            program: tools.nats_server,
            arguments: vec!["--config".into(), configuration.into()],
            environment: Vec::new(),
            log: directory.path().join("nats-server.log"),
            lifetime: Lifetime::Owner,
            leftovers: Vec::new(),
        })?;
        let ports = directory
            .path()
            .join(format!("nats-server_{}.ports", process.id()));
        let url = process
            .ready(READY_DEADLINE, async || address(&ports))
            .await?;
        let server = Self {
            url,
            keys,
            process,
            directory,
        };
        let operator = server.operator().await?;
        streams::provision(&operator.jetstream, 1).await?;
        operator.was_refused_nothing().await?;
        Ok(server)
    }

    pub(crate) async fn operator(&self) -> Result<User> {
        self.connect_as("OPERATOR", &Role::Operator).await
    }

    pub(crate) async fn worker(&self) -> Result<User> {
        self.connect_as("WORKER", &Role::Worker).await
    }

    pub(crate) async fn bakery(&self) -> Result<User> {
        self.connect_as("BAKERY", &Role::Bakery).await
    }

    /// Of acme's untrusted jobs in the pool `default`.
    pub(crate) async fn publisher(&self) -> Result<User> {
        let role = Role::Publisher {
            tenant: "acme".parse()?,
            trust: Trust::Untrusted,
            pool: "default".parse()?,
        };
        self.connect_as("untrusted publisher", &role).await
    }

    pub(crate) async fn subscriber(&self) -> Result<User> {
        let role = Role::Subscriber {
            tenant: "acme".parse()?,
        };
        self.connect_as("subscriber", &role).await
    }

    /// A tenant's role that `tenants.conf` does not have yet, as an operator adds it while the server runs.
    pub(crate) async fn added(&self, role: &Role) -> Result<User> {
        let key = KeyPair::new_user();
        let account = tenant_account(role, &[key.public_key()]).context("a tenant's role")?;
        let tenants = self.directory.path().join("tenants.conf");
        let before = fs::read_to_string(&tenants)?;
        fs::write(&tenants, format!("{before}\n{account}"))?;
        self.process.signal(Signal::SIGHUP)?;
        wait::until("the new user is let in", READY_DEADLINE, async || {
            Ok(self.connect(&key, role).await.ok())
        })
        .await
    }

    async fn connect_as(&self, name: &str, role: &Role) -> Result<User> {
        let key = self.keys.get(name).context("a user's name")?;
        self.connect(key, role).await
    }

    async fn connect(&self, key: &KeyPair, role: &Role) -> Result<User> {
        let refused = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&refused);
        let client = ConnectOptions::with_nkey(key.seed()?)
            .custom_inbox_prefix(role.inbox_prefix())
            .event_callback(move |event| {
                if let Event::ServerError(error) = event {
                    let mut told = told.lock().expect("nobody panics while it is held");
                    told.push(error.to_string());
                }
                std::future::ready(())
            })
            .connect(&self.url)
            .await?;
        Ok(User {
            jetstream: jetstream::new(client.clone()),
            client,
            refused,
        })
    }

    /// Whether the server lets somebody in who has this seed, or none.
    pub(crate) async fn lets_in(&self, seed: Option<String>) -> bool {
        let options = seed.map_or_else(ConnectOptions::new, ConnectOptions::with_nkey);
        options.connect(&self.url).await.is_ok()
    }
}

impl User {
    /// Fails if the server lets this user publish there.
    pub(crate) async fn cannot_publish(&self, subject: &str) -> Result<()> {
        self.client.publish(subject.to_owned(), "{}".into()).await?;
        self.is_refused(&format!("publish to \"{subject}\"")).await
    }

    /// Fails if the server lets this user hear that.
    pub(crate) async fn cannot_hear(&self, subject: &str) -> Result<()> {
        let _heard = self.client.subscribe(subject.to_owned()).await?;
        self.is_refused(&format!("subscription to \"{subject}\""))
            .await
    }

    async fn is_refused(&self, what: &str) -> Result<()> {
        wait::until(what, REFUSED_WITHIN, async || {
            let told = self.told();
            let refused = |said: &String| said.to_lowercase().contains(&what.to_lowercase());
            Ok(told.iter().any(refused).then_some(()))
        })
        .await
        .with_context(|| format!("not refused: {what}"))
    }

    /// Fails if the server refused anything so far.
    pub(crate) async fn was_refused_nothing(&self) -> Result<()> {
        self.round_trip().await?;
        let told = self.told();
        ensure!(told.is_empty(), "refused: {told:?}");
        Ok(())
    }

    /// Returns when the server has dealt with all that was sent before: with a question that every user may ask.
    pub(crate) async fn round_trip(&self) -> Result<()> {
        let results = self.jetstream.get_stream_no_info(stream::RESULTS).await?;
        let answer = results.direct_get_last_for_subject("build.report.acme.none");
        let missing = answer.await.err().context("there is no such result")?;
        ensure!(missing.kind() == DirectGetErrorKind::NotFound, "{missing}");
        Ok(())
    }

    fn told(&self) -> Vec<String> {
        let told = self.refused.lock();
        told.expect("nobody panics while it is held").clone()
    }
}

/// The users of `server.conf`, as its variables name them.
const VARIABLES: [&str; 4] = ["SYSTEM", "OPERATOR", "WORKER", "BAKERY"];

/// The users of `tenants.conf.example`, and what stands there for their keys.
const OF_ACME: [(&str, &str); 3] = [
    (
        "trusted publisher",
        "public key of acme's CI for its own branches",
    ),
    (
        "untrusted publisher",
        "public key of acme's CI for contributions",
    ),
    ("subscriber", "public key of acme's dashboards"),
];

/// Writes `server.conf` as it is delivered, and a `site.conf` and `tenants.conf` for it.
fn configure(directory: &Path, keys: &HashMap<&str, KeyPair>) -> Result<std::path::PathBuf> {
    let configuration = directory.join("server.conf");
    let delivered = repository().join("deploy/nats");
    fs::copy(delivered.join("server.conf"), &configuration)?;
    let place = serde_json::Value::from(directory.to_string_lossy());
    let users = VARIABLES.map(|name| format!("SITE_{name}_NKEY: {}\n", keys[name].public_key()));
    let users = users.concat();
    let site = format!(
        "SITE_LISTEN: \"127.0.0.1:-1\"\nSITE_STORE_DIR: {place}\nSITE_MAX_STORE: 20GB\nports_file_dir: {place}\n{users}"
    );
    fs::write(directory.join("site.conf"), site)?;
    let mut tenants = fs::read_to_string(delivered.join("tenants.conf.example"))?;
    for (name, stands_for_it) in OF_ACME {
        ensure!(tenants.contains(stands_for_it), "no {name} in the example");
        tenants = tenants.replace(stands_for_it, &keys[name].public_key());
    }
    fs::write(directory.join("tenants.conf"), tenants)?;
    Ok(configuration)
}

/// The address in the ports file, once it is there in whole.
fn address(ports: &Path) -> Option<String> {
    let announced: serde_json::Value = serde_json::from_slice(&fs::read(ports).ok()?).ok()?;
    Some(announced["nats"][0].as_str()?.to_owned())
}
