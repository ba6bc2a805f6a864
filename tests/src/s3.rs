//! A real S3 server: `SeaweedFS` with all its parts in one process, on loopback.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Config, Region};
use aws_sdk_s3::primitives::ByteStream;
use nix::unistd::Pid;
use serde_json::json;
use uuid::Uuid;

use crate::launch::{Launch, ServerOptions};
use crate::process::Process;
use crate::running::Running;
use crate::tools::Tools;
use crate::weed::{self, Ports};

/// 1 min: it takes 4 s on an idle machine until it answers, and up to 5 s more until it takes the first object.
const READY_DEADLINE: Duration = Duration::from_mins(1);

/// 10 s for one try of the readiness probe: twice what the first object takes.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// 3: the chosen ports are free, but somebody may be faster.
const ATTEMPTS: usize = 3;

/// Signatures name a region; `SeaweedFS` takes any.
const REGION: &str = "us-east-1";

/// The harness's own bucket, which holds the object that shows the server is ready.
const PROBE_BUCKET: &str = "sourdough-probe";

/// A running `SeaweedFS`. Dropping it kills it; it takes 30 s to end when asked politely, and loses nothing when killed.
#[derive(Debug)]
pub struct S3Server {
    process: Process,
    endpoint: String,
    port: u16,
    credentials: Credentials,
}

/// What a client signs with. Made anew at each start but [`S3Server::start_again`].
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The public half.
    pub access_key: String,
    /// The secret half.
    pub secret_key: String,
}

impl S3Server {
    /// Starts one that keeps its objects, log and configuration in `directory`, which is made if it is not there. Objects of
    /// an earlier run are there again. Returns when it has taken an object and given it back.
    pub async fn start(tools: &Tools, directory: &Path, options: ServerOptions) -> Result<Self> {
        let mut attempt = 1;
        loop {
            // Boxed, since the futures of an AWS client are large.
            let credentials = Credentials::generate();
            match Box::pin(Self::try_start(tools, directory, options, credentials)).await {
                Err(_) if attempt < ATTEMPTS && options.port.is_none() => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    /// Starts one that was killed again, at its address and for its clients.
    pub async fn start_again(
        tools: &Tools,
        directory: &Path,
        port: u16,
        credentials: Credentials,
    ) -> Result<Self> {
        let options = ServerOptions {
            port: Some(port),
            ..ServerOptions::default()
        };
        Box::pin(Self::try_start(tools, directory, options, credentials)).await
    }

    async fn try_start(
        tools: &Tools,
        directory: &Path,
        options: ServerOptions,
        credentials: Credentials,
    ) -> Result<Self> {
        let data = directory.join("data");
        fs::create_dir_all(&data).with_context(|| format!("make {}", data.display()))?;
        weed::forget_elections(&data)?;
        let ports = Ports::choose(options.port)?;
        let identities = directory.join("identities.json");
        write_secret(&identities, &credentials.identities())?;
        let mut process = Process::spawn(Launch {
            name: "seaweedfs",
            program: tools.weed.clone(),
            arguments: ports
                .arguments(&data, &identities)
                .into_iter()
                .map(Into::into)
                .collect(),
            // One volume for each bucket instead of seven: each takes a file, and there is one disk.
            environment: vec![(
                "WEED_MASTER_VOLUME_GROWTH_COPY_1".to_owned(),
                "1".to_owned(),
            )],
            log: directory.join("seaweedfs.log"),
            lifetime: options.lifetime,
            leftovers: ports.sockets(),
        })?;
        let endpoint = format!("http://127.0.0.1:{}", ports.s3);
        let client = client(&endpoint, &credentials);
        process
            .ready(READY_DEADLINE, async || keeps_an_object(&client).await.ok())
            .await?;
        Ok(Self {
            process,
            endpoint,
            port: ports.s3,
            credentials,
        })
    }

    /// Its address, as `http://127.0.0.1:8333`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Its port, to start it again at the same address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub fn id(&self) -> Pid {
        self.process.id()
    }

    /// What clients sign with.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The variables through which any AWS client finds this server.
    pub fn environment(&self) -> Vec<(String, String)> {
        let variables = [
            ("AWS_ENDPOINT_URL_S3", self.endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", &self.credentials.access_key),
            ("AWS_SECRET_ACCESS_KEY", &self.credentials.secret_key),
            ("AWS_REGION", REGION),
        ];
        variables
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    /// A client that may do everything, and that does not try again by itself.
    pub fn client(&self) -> Client {
        client(&self.endpoint, &self.credentials)
    }

    /// Kills it and waits for its end.
    pub fn kill(self) -> Result<()> {
        self.process.kill()?;
        Ok(())
    }

    /// The same for one that stays in its place, to be replaced.
    pub fn kill_in_place(&mut self) -> Result<()> {
        self.process.kill_in_place()?;
        Ok(())
    }

    /// Leaves it running. It should have been started detached. Stop it with no grace: it would take all of it.
    pub fn detach(self) -> Result<Running> {
        self.process.detach()
    }
}

impl Credentials {
    fn generate() -> Self {
        // 122 random bits each.
        let random = || Uuid::new_v4().simple().to_string();
        Self {
            access_key: random(),
            secret_key: random(),
        }
    }

    /// `SeaweedFS`'s own form of them.
    fn identities(&self) -> String {
        json!({"identities": [{
            "name": "sourdough",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }]})
        .to_string()
    }
}

/// Writes a file that only its owner can read.
fn write_secret(path: &Path, text: &str) -> Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("write {}", path.display()))
}

fn client(endpoint: &str, credentials: &Credentials) -> Client {
    let Credentials {
        access_key,
        secret_key,
    } = credentials;
    let credentials =
        aws_sdk_s3::config::Credentials::new(access_key, secret_key, None, None, "harness");
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(endpoint)
        .region(Region::new(REGION))
        .credentials_provider(credentials)
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .timeout_config(
            TimeoutConfig::builder()
                .operation_timeout(PROBE_TIMEOUT)
                .build(),
        )
        .build();
    Client::from_conf(config)
}

/// Whether an object can be stored and read. `/healthz` says 200 seconds before that, while the gateway does not know the
/// volumes yet.
async fn keeps_an_object(client: &Client) -> Result<()> {
    let (bucket, key) = (PROBE_BUCKET, "ready");
    // It is there from the second start on.
    let _exists = client.create_bucket().bucket(bucket).send().await;
    let body = ByteStream::from_static(b"ready");
    client
        .put_object()
        .bucket(bucket)
        .key(key)
        .body(body)
        .send()
        .await?;
    client
        .get_object()
        .bucket(bucket)
        .key(key)
        .send()
        .await?
        .body
        .collect()
        .await?;
    Ok(())
}
