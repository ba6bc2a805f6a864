//! The workers of a test: started, told to end, waited for.

use anyhow::{Context as _, Result, ensure};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use worker::claim;
use worker::config::Config;
use worker::queue::Taken;
use worker::serve::serve;
use worker::services::{Connections, Ending, Services};

use super::{FIRST, PATIENCE, Rig};

/// A worker that runs.
pub(super) struct Worker {
    name: String,
    drain: watch::Sender<bool>,
    give_back: watch::Sender<bool>,
    ended: JoinHandle<Result<()>>,
}

impl Rig {
    /// Starts another worker of the pool.
    pub(crate) async fn start_worker(&mut self, name: &str) -> Result<()> {
        let worker = Box::pin(self.worker(name)).await?;
        self.workers.push(worker);
        Ok(())
    }

    async fn worker(&self, name: &str) -> Result<Worker> {
        let (drain, draining) = watch::channel(false);
        let (give_back, given_back) = watch::channel(false);
        let ending = Ending {
            draining,
            give_back: given_back,
        };
        let services = Box::pin(self.services(name, ending)).await?;
        let told = give_back.clone();
        let ended = tokio::spawn(async move { serve(&services, &told).await });
        Ok(Worker {
            name: self.worker_name(name),
            drain,
            give_back,
            ended,
        })
    }

    /// What a worker of that name shares among jobs that the test hands to it.
    pub(crate) async fn idle(&self, name: &str) -> Result<Services> {
        let never = || watch::channel(false).1;
        let ending = Ending {
            draining: never(),
            give_back: never(),
        };
        Box::pin(self.services(name, ending)).await
    }

    /// What a worker of that name shares among its jobs.
    async fn services(&self, name: &str, ending: Ending) -> Result<Services> {
        let connections = Connections {
            client: self.client.clone(),
            jetstream: self.jetstream.clone(),
            objects: self.s3.objects.clone(),
        };
        let config = self.config(&self.worker_name(name))?;
        Box::pin(Services::assemble(
            config,
            self.driver.clone(),
            connections,
            ending,
        ))
        .await
    }

    fn config(&self, name: &str) -> Result<Config> {
        let state = self.directory.path().join(format!("state-{name}"));
        let file = self.directory.path().join(format!("{name}.toml"));
        let (pool, setup) = (&self.tag, self.setup);
        let text = format!(
            "state = '{}'\nname = {name:?}\npool = {pool:?}\ntrust = ['trusted']\nslots = {}\nmax_parked = {}
             drain_s = {}\nslot_vcpu = {}\nslot_memory_mib = {}\nslot_disk_mib = {}",
            state.display(),
            setup.slots,
            setup.max_parked,
            setup.drain_s,
            setup.slot_vcpu,
            setup.slot_memory_mib,
            setup.slot_disk_mib,
        );
        std::fs::write(&file, text)?;
        Ok(Config::load(&file, |_| None)?)
    }

    /// Tells a worker to end, and to give back what it runs at once if it is told `twice`.
    pub(crate) fn tell_to_end(&self, name: &str, twice: bool) -> Result<()> {
        let name = self.worker_name(name);
        let worker = self.workers.iter().find(|worker| worker.name == name);
        let worker = worker.context("no such worker")?;
        worker.drain.send_replace(true);
        if twice {
            worker.give_back.send_replace(true);
        }
        Ok(())
    }

    /// Drains the workers and starts another.
    pub(crate) async fn replaced(mut self) -> Result<Self> {
        self.drained().await?;
        self.start_worker(FIRST).await?;
        Ok(self)
    }

    /// Drains the workers.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.drained().await
    }

    async fn drained(&mut self) -> Result<()> {
        for worker in self.workers.drain(..) {
            worker.drain.send_replace(true);
            let ended = timeout(PATIENCE, worker.ended).await;
            ended.context("no end")???;
            let left = self.alive.get(worker.name).await?;
            ensure!(left.is_none(), "a worker that ended says nothing");
        }
        Ok(())
    }
}

/// Handles a job to its end, in the next slot.
pub(crate) async fn handled(services: Services, taken: Taken) {
    let permit = services.presence.permit().await;
    let slot = services.presence.fill(permit);
    claim::handle(services, taken, slot).await;
}
