//! The connection to NATS. The first one is waited for, with backoff; later ones the client makes by itself.
//!
//! A call that the server's permissions deny gets no answer: the reason comes only as an event of the connection, which is logged as an
//! error here.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, ClientError, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use serde::{Deserialize, Serialize};
use tracing::{debug, error, info, warn};

use crate::retry::{self, Failure, Policy};

/// Where a server is on a machine of its own.
pub const DEFAULT_URL: &str = "nats://127.0.0.1:4222";

/// 10 s: a dead connection is noticed at the third, after two that got no answer. The library's own 60 s would make that minutes.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// 5 s for one attempt: more than any handshake takes, less than a person waits.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where NATS is, and who we are there.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatsConfig {
    /// The server, or several with commas. The first may hold a user and a password, or a token alone, for all of them. Default
    /// [`DEFAULT_URL`].
    pub url: String,
    /// Proof of who we are. Where it is set, what the address holds is not sent. Default none, which a server on loopback may allow.
    pub login: Option<Login>,
    /// What our inboxes start with. The server's permissions must allow it. Default `_INBOX`.
    pub inbox_prefix: Option<String>,
}

/// Proof of who we are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Login {
    /// A file with the seed of an nkey.
    NkeyFile(PathBuf),
    /// A file with a JWT and a seed, as `nsc` writes it.
    CredentialsFile(PathBuf),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// The file of the login cannot be used.
    #[error("read the NATS login from {}", path.display())]
    Login {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The server refuses us, or the address is none.
    #[error("connect to NATS at {url}")]
    Connect {
        /// The address, without its password.
        url: String,
        /// Why.
        #[source]
        source: async_nats::ConnectError,
    },
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            url: DEFAULT_URL.to_owned(),
            login: None,
            inbox_prefix: None,
        }
    }
}

impl fmt::Debug for NatsConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("NatsConfig")
            .field("url", &masked(&self.url))
            .field("login", &self.login)
            .field("inbox_prefix", &self.inbox_prefix)
            .finish()
    }
}

impl NatsConfig {
    /// Each address.
    fn addresses(&self) -> impl Iterator<Item = &str> {
        self.url.split(',').map(str::trim)
    }

    /// Each address that is one; connecting tells what is wrong with the others.
    fn servers(&self) -> impl Iterator<Item = ServerAddr> {
        self.addresses().filter_map(|address| address.parse().ok())
    }
}

/// Connects as `name`, waiting for as long as no server answers. Fails when one answers and refuses us.
pub async fn connect(config: &NatsConfig, name: &str) -> Result<Client, NatsError> {
    connect_within(config, name, Policy::FOREVER).await
}

/// Connects as `name`, waiting as `policy` says.
pub async fn connect_within(
    config: &NatsConfig,
    name: &str,
    policy: Policy,
) -> Result<Client, NatsError> {
    let url = masked(&config.url);
    retry::with(policy, &format!("connect to NATS at {url}"), || {
        attempt(config, name)
    })
    .await
}

async fn attempt(config: &NatsConfig, name: &str) -> Result<Client, Failure<NatsError>> {
    let options = options(config, name).await.map_err(Failure::Permanent)?;
    let servers: Vec<&str> = config.addresses().collect();
    options.connect(servers.as_slice()).await.map_err(|source| {
        let transient = is_transient(source.kind());
        let error = NatsError::Connect {
            url: masked(&config.url),
            source,
        };
        if transient {
            Failure::Transient(error)
        } else {
            Failure::Permanent(error)
        }
    })
}

async fn options(config: &NatsConfig, name: &str) -> Result<ConnectOptions, NatsError> {
    let mut options = ConnectOptions::new()
        .name(name)
        .ping_interval(PING_INTERVAL)
        .connection_timeout(CONNECT_TIMEOUT)
        .event_callback(|event| async move { log(&event) });
    if let Some(prefix) = &config.inbox_prefix {
        options = options.custom_inbox_prefix(prefix);
    }
    let Some(login) = &config.login else {
        return Ok(as_the_address_says(config, options));
    };
    let (Login::NkeyFile(path) | Login::CredentialsFile(path)) = login;
    let failed = |source| NatsError::Login {
        path: path.clone(),
        source,
    };
    let text = tokio::fs::read_to_string(path).await.map_err(failed)?;
    match login {
        Login::NkeyFile(_) => Ok(options.nkey(text.trim().to_owned())),
        Login::CredentialsFile(_) => options.credentials(&text).map_err(failed),
    }
}

/// With the user and password of the address, or its token: the library leaves them to its caller.
fn as_the_address_says(config: &NatsConfig, options: ConnectOptions) -> ConnectOptions {
    let Some(server) = config.servers().find(ServerAddr::has_user_pass) else {
        return options;
    };
    let user = server.username().unwrap_or_default().to_owned();
    match server.password() {
        Some(password) => options.user_and_password(user, password.to_owned()),
        None => options.token(user),
    }
}

/// Whether the server may be there a moment later.
fn is_transient(kind: ConnectErrorKind) -> bool {
    match kind {
        ConnectErrorKind::Dns | ConnectErrorKind::TimedOut | ConnectErrorKind::Io => true,
        ConnectErrorKind::ServerParse
        | ConnectErrorKind::Authentication
        | ConnectErrorKind::AuthorizationViolation
        | ConnectErrorKind::Tls
        | ConnectErrorKind::MaxReconnects => false,
    }
}

fn log(event: &Event) {
    match event {
        Event::Connected => info!("NATS is connected"),
        Event::Disconnected => warn!("NATS is away"),
        Event::LameDuckMode | Event::Draining | Event::Closed => info!(%event, "NATS connection"),
        Event::SlowConsumer(_) => warn!(%event, "NATS connection"),
        // Each try to come back that fails; that the server is away has been said.
        Event::ClientError(ClientError::Other(_)) => debug!(%event, "NATS connection"),
        Event::ClientError(ClientError::MaxReconnects | ClientError::ServerNotInPool)
        | Event::ServerError(_) => {
            error!(%event, "NATS connection");
        }
    }
}

/// The address with its user and password replaced.
fn masked(url: &str) -> String {
    let one = |url: &str| match url.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            if scheme.is_empty() {
                format!("***@{host}")
            } else {
                format!("{scheme}://***@{host}")
            }
        }
        None => url.to_owned(),
    };
    url.split(',')
        .map(|url| one(url.trim()))
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests;
