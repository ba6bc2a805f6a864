//! Does one fault after the other, until it is told that it is over, and puts everything right at the end.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use super::board::Board;
use super::dice::Dice;
use super::faults::{Fault, PAUSE};
use super::memory::Memory;
use crate::fleet::{Fleet, Guests};
use crate::launch::Lifetime;
use crate::left;
use crate::process::Process;
use crate::stack::{GRACE, Service};

/// What does the faults.
pub(super) struct Chaos<'a> {
    fleet: &'a mut Fleet,
    victims: Vec<Victim<'a>>,
    board: &'a Board,
    guests: Guests,
    dice: &'a mut Dice,
    memory: Memory,
}

/// A worker.
struct Victim<'a> {
    name: &'a str,
    service: &'a Service,
    process: Process,
    /// Until when it stands still.
    frozen_until: Option<Instant>,
}

impl<'a> Chaos<'a> {
    /// Starts the workers.
    pub(super) async fn start(
        fleet: &'a mut Fleet,
        workers: &'a [(&'static str, Service)],
        board: &'a Board,
        guests: Guests,
        dice: &'a mut Dice,
    ) -> Result<Self> {
        let mut victims = Vec::new();
        for (name, service) in workers {
            victims.push(Victim {
                name,
                service,
                process: service.start(Lifetime::Owner).await?,
                frozen_until: None,
            });
        }
        Ok(Self {
            fleet,
            victims,
            board,
            guests,
            dice,
            memory: Memory::default(),
        })
    }

    /// Does faults until it is over, and counts them.
    pub(super) async fn reign(
        &mut self,
        mut over: watch::Receiver<bool>,
        done: &mut BTreeMap<Fault, usize>,
    ) -> Result<()> {
        loop {
            let next = Instant::now() + self.dice.between(PAUSE.0, PAUSE.1);
            let waited = tokio::select! {
                waited = self.pause(next) => waited,
                _ = over.wait_for(|over| *over) => return Ok(()),
            };
            waited?;
            self.look()?;
            let fault = Fault::roll(self.guests, self.dice);
            if self.inflict(fault).await? {
                info!(%fault, "done");
                *done.entry(fault).or_default() += 1;
            }
        }
    }

    /// Waits for the next fault, and thaws who has stood still for long enough.
    async fn pause(&mut self, until: Instant) -> Result<()> {
        loop {
            let thaws = self.victims.iter().filter_map(|victim| victim.frozen_until);
            let Some(thaw) = thaws.min().filter(|thaw| *thaw < until) else {
                sleep_until(until).await;
                return Ok(());
            };
            sleep_until(thaw).await;
            for victim in &mut self.victims {
                victim.thaw_if(|frozen_until| frozen_until <= thaw)?;
            }
        }
    }

    /// Notes how large the workers are; fails where one has ended that nobody killed.
    fn look(&mut self) -> Result<()> {
        for victim in &mut self.victims {
            if let Some(status) = victim.process.ended()? {
                let log = victim.process.log().display();
                anyhow::bail!("a worker ended by itself: {status}, {log}");
            }
            let done = self.board.done_by(victim.name);
            self.memory.note(victim.process.id(), done)?;
        }
        Ok(())
    }

    /// Does one fault; not, where nothing is there to do it to.
    async fn inflict(&mut self, fault: Fault) -> Result<bool> {
        let victim = self.dice.below(self.victims.len());
        let victim = &mut self.victims[victim];
        match fault {
            Fault::WorkerKilled => victim.restart().await?,
            Fault::WorkerPaused | Fault::WorkerFrozen => {
                if victim.frozen_until.is_some() {
                    return Ok(false);
                }
                let until = Instant::now() + fault.lasts(self.dice);
                victim.process.signal(Signal::SIGSTOP)?;
                victim.frozen_until = Some(until);
            }
            Fault::NatsRestarted => self.fleet.restart_nats(async {}).await?,
            Fault::S3Restarted => self.fleet.restart_s3(async {}).await?,
            Fault::JobCancelled => return self.board.cancel_one(self.dice).await,
            Fault::VmmKilled => return kill_vmm(victim.service, self.dice),
        }
        Ok(true)
    }

    /// Thaws all workers, and has them end in order. Gives what was noted of their size.
    pub(super) async fn end(mut self) -> Result<Memory> {
        for victim in &mut self.victims {
            victim.thaw_if(|_| true)?;
        }
        self.look()?;
        for victim in self.victims {
            let log = victim.process.log().to_owned();
            let status = victim.process.stop(GRACE).await?;
            ensure!(status.success(), "a worker: {status}, {}", log.display());
        }
        Ok(self.memory)
    }
}

impl Victim<'_> {
    /// Kills it and starts it again.
    async fn restart(&mut self) -> Result<()> {
        self.process.kill_in_place()?;
        self.frozen_until = None;
        self.process = self.service.start(Lifetime::Owner).await?;
        Ok(())
    }

    /// Thaws it, if it is frozen until a time of which `is_over` says so.
    fn thaw_if(&mut self, is_over: impl Fn(Instant) -> bool) -> Result<()> {
        if self.frozen_until.is_some_and(is_over) {
            self.frozen_until = None;
            self.process.signal(Signal::SIGCONT)?;
        }
        Ok(())
    }
}

/// Kills one of the VMMs of a worker, if it has one.
fn kill_vmm(worker: &Service, dice: &mut Dice) -> Result<bool> {
    let slots = worker.directory.join(worker.name).join("slots");
    let vmms = left::processes_that_name(&slots);
    if vmms.is_empty() {
        return Ok(false);
    }
    let vmm = vmms[dice.below(vmms.len())];
    let vmm = i32::try_from(vmm).context("a process id is below 2^22")?;
    // It may have ended at this moment.
    Ok(kill(Pid::from_raw(vmm), Signal::SIGKILL).is_ok())
}
