//! Leases on a real nats-server: one holder at a time, whatever becomes of it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream;
use bus::lease::{self, Leases};
use bus::streams;
use e2e::launch::ServerOptions;
use e2e::nats::NatsServer;
use e2e::state::State;
use e2e::tools::Tools;
use e2e::wait;
use schemas::names::bucket;
use tokio::time::{Instant, timeout};

/// What the server may take beyond a lease's time until it tells of its end; a busy machine included.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

struct Fixture {
    _server: NatsServer,
    _directory: tempfile::TempDir,
    jetstream: jetstream::Context,
    leases: Leases,
}

impl Fixture {
    async fn start() -> Result<Self> {
        let tools = Tools::install(&State::from_environment()?)?;
        let directory = tempfile::tempdir()?;
        let server = NatsServer::start(&tools, directory.path(), ServerOptions::default()).await?;
        let client = async_nats::connect(server.url()).await?;
        let jetstream = jetstream::new(client);
        streams::provision(&jetstream, 1).await?;
        Ok(Self {
            leases: Leases::open(&jetstream).await?,
            jetstream,
            _server: server,
            _directory: directory,
        })
    }
}

#[tokio::test]
async fn of_many_who_want_a_lease_one_has_it_and_after_it_the_next() -> Result<()> {
    let fixture = Fixture::start().await?;
    let takers = (0..8).map(|taker| {
        let leases = fixture.leases.clone();
        async move { leases.take("bake.a", &format!("b{taker}")).await }
    });
    let taken = futures_util::future::try_join_all(takers).await?;
    let mut holders: Vec<_> = taken.into_iter().flatten().collect();
    ensure!(holders.len() == 1, "{} hold it", holders.len());
    ensure!(fixture.leases.take("bake.b", "b9").await?.is_some());
    let holder = holders.pop().context("one holds it")?;
    holder.release().await;
    timeout(TOLD_WITHIN, fixture.leases.free("bake.a")).await?;
    // Over the mark that the release left.
    ensure!(fixture.leases.take("bake.a", "b9").await?.is_some());
    Ok(())
}

#[tokio::test]
async fn the_lease_of_a_dead_holder_goes_by_itself_also_when_it_was_renewed() -> Result<()> {
    let fixture = Fixture::start().await?;
    let mut held = fixture.leases.take("bake.a", "b1").await?.context("free")?;
    // The value that goes is one that a renewal wrote.
    let renewal = renewal(&fixture.jetstream, "bake.a");
    held.while_held(renewal).await??;
    drop(held);
    let died = Instant::now();
    timeout(lease::TTL + TOLD_WITHIN, fixture.leases.free("bake.a")).await?;
    ensure!(
        died.elapsed() > Duration::from_secs(10),
        "{:?}",
        died.elapsed()
    );
    ensure!(fixture.leases.take("bake.a", "b2").await?.is_some());
    Ok(())
}

/// Waits until a lease is renewed: its key has another revision.
async fn renewal(jetstream: &jetstream::Context, key: &str) -> Result<()> {
    let bucket = jetstream.get_key_value(bucket::LEASES).await?;
    let first = bucket.entry(key).await?.context("it is held")?.revision;
    wait::until("a renewal", lease::TTL, async || {
        let held = bucket.entry(key).await?.context("it is held")?;
        Ok((held.revision > first).then_some(()))
    })
    .await
}

#[tokio::test]
async fn work_ends_when_somebody_else_has_its_lease() -> Result<()> {
    let fixture = Fixture::start().await?;
    let mut held = fixture.leases.take("bake.a", "b1").await?.context("free")?;
    let bucket = fixture.jetstream.get_key_value(bucket::LEASES).await?;
    bucket.put("bake.a", "b2".into()).await?;
    let work = held.while_held(std::future::pending::<()>());
    let lost = timeout(lease::LOST_AFTER, work).await?;
    let sentence = lost.err().context("it was lost")?.to_string();
    ensure!(sentence.contains("somebody else"), "{sentence}");
    Ok(())
}
