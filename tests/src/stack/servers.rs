//! The two servers of a stack, which take seconds to start, so they start together.

use std::path::Path;

use anyhow::Result;

use crate::launch::{Lifetime, ServerOptions};
use crate::nats::NatsServer;
use crate::running::Running;
use crate::s3::S3Server;
use crate::tools::Tools;

/// nats-server and `SeaweedFS`. Dropping it kills both.
#[derive(Debug)]
pub struct Servers {
    /// Messages.
    pub nats: NatsServer,
    /// Objects.
    pub s3: S3Server,
}

impl Servers {
    /// Starts both, with their data below `directory`. What an earlier run left there is used again.
    pub async fn start(tools: &Tools, directory: &Path, lifetime: Lifetime) -> Result<Self> {
        let options = ServerOptions {
            lifetime,
            ..ServerOptions::default()
        };
        Self::start_with(tools, directory, options).await
    }

    /// The same, with these options.
    pub async fn start_with(
        tools: &Tools,
        directory: &Path,
        options: ServerOptions,
    ) -> Result<Self> {
        let (nats_directory, s3_directory) = (directory.join("nats"), directory.join("s3"));
        let (nats, s3) = tokio::try_join!(
            NatsServer::start(tools, &nats_directory, options),
            S3Server::start(tools, &s3_directory, options),
        )?;
        Ok(Self { nats, s3 })
    }

    /// The variables through which a client finds both.
    pub fn environment(&self) -> Vec<(String, String)> {
        let nats = ("SOURDOUGH_NATS_URL".to_owned(), self.nats.url().to_owned());
        std::iter::once(nats).chain(self.s3.environment()).collect()
    }

    /// Stops both.
    pub async fn stop(self) -> Result<()> {
        self.nats.stop().await?;
        self.s3.kill()
    }

    /// Leaves both running.
    pub fn detach(self) -> Result<[Running; 2]> {
        Ok([self.nats.detach()?, self.s3.detach()?])
    }
}
