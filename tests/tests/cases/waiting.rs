//! Servers that are away when a service starts, and a service that is asked to end.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gate::Gate;
use e2e::launch::Lifetime;
use e2e::left::processes_that_name;
use e2e::stack::service::{becomes_ready, says};
use e2e::stack::{GRACE, Service};

use crate::stack::Cases;

/// 1 min for the first word about a server that is away.
const COMPLAINT_DEADLINE: Duration = Duration::from_mins(1);

pub(crate) async fn a_worker_waits_for_servers_that_are_away_and_says_so(
    cases: &mut Cases,
) -> Result<()> {
    let worker = cases.stack()?.services.worker.clone();
    waits(cases, worker).await
}

pub(crate) async fn a_bakery_waits_for_servers_that_are_away_and_says_so(
    cases: &mut Cases,
) -> Result<()> {
    let bakery = cases.stack()?.services.bakery.clone();
    waits(cases, bakery).await
}

/// Starts a second service of the same kind whose ways to NATS and S3 are shut, and opens them one after the other.
async fn waits(cases: &Cases, service: Service) -> Result<()> {
    let servers = &cases.stack()?.servers;
    let (nats, s3) = (
        Gate::shut(servers.nats.port()?)?,
        Gate::shut(servers.s3.port())?,
    );
    let directory = tempfile::tempdir()?;
    let service = behind(&service, &nats, &s3, directory.path())?;
    let mut process = service.spawn(Lifetime::Owner)?;
    let log = process.log().to_owned();
    let complains = async |log: &std::path::Path, about: &str| {
        let text = fs::read_to_string(log).unwrap_or_default();
        text.lines()
            .any(|line| line.contains("WARN") && line.contains(about))
            .then_some(())
    };
    process
        .ready(COMPLAINT_DEADLINE, async || complains(&log, "NATS").await)
        .await?;
    let nats = nats.open().await?;
    process
        .ready(COMPLAINT_DEADLINE, async || complains(&log, "S3").await)
        .await?;
    ensure!(!says(&log, "ready"), "it serves without S3");
    let s3 = s3.open().await?;
    becomes_ready(&mut process).await?;
    let status = process.stop(GRACE).await?;
    ensure!(status.success(), "{status}");
    drop((nats, s3));
    Ok(())
}

/// The service with other addresses and a state of its own.
fn behind(
    service: &Service,
    nats: &Gate,
    s3: &Gate,
    directory: &std::path::Path,
) -> Result<Service> {
    let text = fs::read_to_string(&service.config).context("read a configuration")?;
    let mut config: toml::Table = text.parse()?;
    let own_state = directory.join("state");
    fs::create_dir(&own_state)?;
    config["state"] = own_state.to_str().context("a path in UTF-8")?.into();
    config["nats"]["url"] = format!("nats://127.0.0.1:{}", nats.port()).into();
    let endpoint = format!("http://127.0.0.1:{}", s3.port());
    config["objects"]["endpoint"] = endpoint.clone().into();
    let path = directory.join("config.toml");
    fs::write(&path, config.to_string())?;
    let environment = service
        .environment
        .iter()
        .map(|(name, value)| match name.as_str() {
            "SOURDOUGH_NATS_URL" => (name.clone(), format!("nats://127.0.0.1:{}", nats.port())),
            "AWS_ENDPOINT_URL_S3" => (name.clone(), endpoint.clone()),
            _ => (name.clone(), value.clone()),
        });
    Ok(Service {
        config: path,
        directory: directory.to_owned(),
        environment: environment.collect(),
        ..service.clone()
    })
}

pub(crate) async fn a_stack_that_is_asked_to_end_ends_in_order_and_leaves_no_process(
    cases: &mut Cases,
) -> Result<()> {
    // Fails where the worker or the bakery exits with anything but 0.
    cases.take_stack()?.stop().await?;
    let left = processes_that_name(&cases.directory);
    ensure!(left.is_empty(), "still running: {left:?}");
    Ok(())
}
