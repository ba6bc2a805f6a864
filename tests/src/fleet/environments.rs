//! What jobs of a fleet name: a source, and environments of every fate or small real ones.

use std::fs;

use anyhow::{Context as _, Result, bail};
use bus::objects::{Objects, ObjectsConfig};
use schemas::names::{self, bucket};
use schemas::{Sha256Digest, Token, Trust};
use serde_json::{Value, json};

use super::{Fleet, Guests};
use crate::archive;
use crate::fake::Fate;
use crate::fake::publish::{Publisher, TEMPLATE, environment};
use crate::queue::{self, Queue, SOURCES};
use crate::root;
use crate::stack::Servers;

/// The source of every job.
const SOURCE: [(&str, &str); 1] = [("hello.txt", "hello\n")];

/// Where environments come from.
#[derive(Debug)]
pub(super) enum Environments {
    /// Their snapshots are published here.
    Published(Box<Publisher>),
    /// The bakery makes them.
    Baked,
}

impl Environments {
    /// Those for such guests.
    pub(super) async fn of(guests: Guests, servers: &Servers, queue: &Queue) -> Result<Self> {
        Ok(match guests {
            Guests::Fake => Self::Published(publisher(servers, queue).await?),
            Guests::Real => Self::Baked,
        })
    }
}

impl Fleet {
    /// A job of one shell step in a guest of that fate, for a publisher of this fleet.
    pub fn job(queue: &Queue, fate: Fate, script: &str) -> Result<Value> {
        let digest = Sha256Digest::of(&archive::pack(&SOURCE)?);
        let key = names::source_object(&queue.tenant, &digest);
        let source = queue::source(&format!("s3://{SOURCES}/{key}"), &digest);
        Ok(queue::job(&source, fate.as_str(), script))
    }

    /// Gives a tenant its source and its environments, for jobs whose author is not trusted.
    pub(super) async fn define(&self, tenant: &Token) -> Result<()> {
        match &self.environments {
            Environments::Published(_) => {
                self.promise(tenant).await?;
                self.bake(tenant).await
            }
            Environments::Baked => {
                self.store_source(tenant).await?;
                let steady = json!(environment(Fate::Steady));
                self.apply(&self.tiny_template().await?, &[]).await?;
                self.apply(&steady, &["--tenant", tenant.as_str()]).await
            }
        }
    }

    /// Gives a tenant its source and the definition of each fate, without its snapshot.
    pub(super) async fn promise(&self, tenant: &Token) -> Result<()> {
        self.store_source(tenant).await?;
        let definitions = self.queue.jetstream().get_key_value(bucket::ENVIRONMENTS);
        let definitions = definitions.await.context("open the definitions")?;
        for fate in Fate::ALL {
            let definition = environment(fate);
            let text = serde_json::to_vec(&definition).context("write a definition")?;
            let key = names::environment_key(tenant, &definition.name);
            let stored = definitions.put(key, text.into()).await;
            stored.context("store a definition")?;
        }
        Ok(())
    }

    /// Publishes the snapshot of each fate, as a bakery of fake guests would.
    pub async fn bake(&self, tenant: &Token) -> Result<()> {
        let Environments::Published(publisher) = &self.environments else {
            bail!("the bakery of real guests bakes when it is asked to");
        };
        for fate in Fate::ALL {
            publisher
                .environment(tenant, Trust::Untrusted, fate)
                .await?;
        }
        Ok(())
    }

    async fn store_source(&self, tenant: &Token) -> Result<()> {
        self.queue.of_tenant(tenant).store_source(&SOURCE).await?;
        Ok(())
    }

    /// Has a definition applied as an operator does.
    async fn apply(&self, definition: &Value, arguments: &[&str]) -> Result<()> {
        let path = self.directory.join("definition.json");
        fs::write(&path, definition.to_string()).context("write a definition")?;
        let path = path.to_str().context("a path in UTF-8")?;
        let arguments = [&["apply"], arguments, &[path]].concat();
        self.services.bakery.run(&arguments).await
    }

    /// A template that is baked in seconds.
    async fn tiny_template(&self) -> Result<Value> {
        Ok(json!({
            "schema": "sourdough/template/v1",
            "name": TEMPLATE,
            "base": self.queue.store_archive(root::tiny()?).await?,
            "resources": {"vcpu": 1, "memory_mib": 128, "disk_mib": 256},
            "ca": "none",
        }))
    }
}

/// What publishes snapshots into these servers.
async fn publisher(servers: &Servers, queue: &Queue) -> Result<Box<Publisher>> {
    let config = ObjectsConfig {
        endpoint: Some(servers.s3.endpoint().to_owned()),
        ..ObjectsConfig::default()
    };
    let credentials = servers.s3.credentials();
    let (access, secret) = (&credentials.access_key, &credentials.secret_key);
    let objects = Objects::connect_as(&config, access, secret).await?;
    let pointers = queue.jetstream().get_key_value(bucket::SNAPSHOTS).await;
    let pointers = pointers.context("open the bucket of pointers")?;
    let publisher = Box::pin(Publisher::start(objects, pointers)).await?;
    Ok(Box::new(publisher))
}
