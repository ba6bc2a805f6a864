//! Flags that say where the servers are.

use std::path::PathBuf;

use bus::nats::{DEFAULT_URL, Login, NatsConfig};
use bus::objects::{Buckets, ObjectsConfig};

/// Where the servers are.
#[derive(Debug, clap::Args)]
pub(crate) struct Servers {
    /// The NATS server.
    #[arg(long, env = "SOURDOUGH_NATS_URL", default_value = DEFAULT_URL, hide_env_values = true, value_name = "URL")]
    nats: String,

    /// A file with the seed of our nkey.
    #[arg(
        long,
        env = "SOURDOUGH_NATS_NKEY_FILE",
        value_name = "FILE",
        conflicts_with = "nats_credentials"
    )]
    nats_nkey: Option<PathBuf>,

    /// A file with our NATS credentials.
    #[arg(long, env = "SOURDOUGH_NATS_CREDENTIALS_FILE", value_name = "FILE")]
    nats_credentials: Option<PathBuf>,

    /// What our NATS inboxes start with.
    #[arg(long, env = "SOURDOUGH_NATS_INBOX_PREFIX", value_name = "PREFIX")]
    nats_inbox_prefix: Option<String>,

    /// The S3 server; Amazon's where none is given. Credentials and region come from AWS_* or a profile.
    #[arg(long, env = "AWS_ENDPOINT_URL_S3", value_name = "URL")]
    s3_endpoint: Option<String>,

    /// The bucket for sources.
    #[arg(
        long,
        env = "SOURDOUGH_SOURCE_BUCKET",
        default_value = "build-sources",
        value_name = "NAME"
    )]
    source_bucket: String,
}

impl Servers {
    /// How to reach NATS.
    pub(crate) fn nats(&self) -> NatsConfig {
        let nkey = self.nats_nkey.clone().map(Login::NkeyFile);
        let credentials = self.nats_credentials.clone().map(Login::CredentialsFile);
        NatsConfig {
            url: self.nats.clone(),
            login: nkey.or(credentials),
            inbox_prefix: self.nats_inbox_prefix.clone(),
        }
    }

    /// How to reach S3.
    pub(crate) fn objects(&self) -> ObjectsConfig {
        let buckets = Buckets {
            sources: self.source_bucket.clone(),
            ..Buckets::default()
        };
        ObjectsConfig {
            endpoint: self.s3_endpoint.clone(),
            buckets,
            ..ObjectsConfig::default()
        }
    }
}
