//! Kill switches and lifetimes: what ends a VM when its owner does not.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};

use super::Outcome::{self, Passed};
use super::guest::{Failure, Guest, check, equal, first_line};
use super::rig::Rig;
use crate::driver::Exit;
use crate::kill_switch::KillSwitch;
use crate::lifetime::Lifetime;

/// What "at once" may take on a loaded machine.
const SOON: Duration = Duration::from_secs(20);

/// A grace that no case waits for: what is killed already needs none.
const GRACE: Duration = Duration::from_secs(30);

/// Lifetimes of the cases: long enough for a second to begin before the first is over.
const SHORT: Duration = Duration::from_millis(200);

pub(super) async fn switched(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let mut execution = guest.start("echo ready; sleep 1000")?;
    first_line(&mut execution).await?;
    let switch = guest.vm.kill_switch();
    check(!switch.is_pulled(), "the switch is pulled before its use")?;
    switch.clone().kill();
    switch.kill();
    guest.agent().ended().await;
    check(execution.next().await.is_err(), "its command goes on")?;
    is_killed(guest).await
}

pub(super) async fn wedged(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let over = wedge(|| {
        let lifetime = Lifetime::begin(guest.vm.kill_switch(), SHORT);
        await_what_begins_now(SHORT)?;
        Ok(lifetime.is_over())
    })?;
    check(over, "its lifetime is not over")?;
    guest.agent().ended().await;
    is_killed(guest).await
}

pub(super) async fn let_live(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let switch = guest.vm.kill_switch();
    drop(Lifetime::begin(switch.clone(), SHORT));
    tokio::task::spawn_blocking(|| await_what_begins_now(SHORT))
        .await
        .expect("waiting reports errors and does not panic")?;
    check(!switch.is_pulled(), "its switch was used")?;
    equal("what it says", guest.sh("echo alive").await?, "alive")?;
    equal("how it ended", guest.vm.stop(GRACE).await, Exit::PoweredOff)?;
    Ok(Passed)
}

pub(super) async fn late(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let switch = guest.vm.kill_switch();
    equal("how it ended", guest.vm.stop(GRACE).await, Exit::PoweredOff)?;
    let next = rig.fork().await?;
    switch.kill();
    equal("what the next says", next.sh("echo alive").await?, "alive")?;
    equal("how it ended", next.vm.stop(GRACE).await, Exit::PoweredOff)?;
    Ok(Passed)
}

/// What is left to see of a guest that its switch has ended.
async fn is_killed(guest: Guest) -> Result<Outcome, Failure> {
    let agent = guest.agent().clone();
    equal("how it ended", guest.vm.stop(GRACE).await, Exit::Killed)?;
    check(agent.sync().await.is_err(), "its agent still answers")?;
    Ok(Passed)
}

/// Blocks this thread until a lifetime that begins now is over, and with it every one of that length that began before.
fn await_what_begins_now(limit: Duration) -> Result<(), Failure> {
    let (canary, killed) = canary();
    let _lifetime = Lifetime::begin(canary, limit);
    let told = killed.recv_timeout(SOON);
    told.map_err(|_| Failure::new(format!("nothing is killed within {SOON:?}")))
}

/// A switch of no VM, and what tells of its use.
fn canary() -> (KillSwitch, Receiver<()>) {
    let (used, told) = channel();
    // Nobody need be there to be told.
    let kill = move || {
        let _ = used.send(());
    };
    (KillSwitch::new("canary", kill), told)
}

/// Does `during` while every thread of the runtime is blocked, this one included.
fn wedge<T>(during: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let runtime = Handle::current();
    let others = match runtime.runtime_flavor() {
        RuntimeFlavor::CurrentThread => 0,
        _ => runtime.metrics().num_workers(),
    };
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
    let (blocked, arrived) = channel();
    for _ in 0..others {
        let (gate, blocked) = (Arc::clone(&gate), blocked.clone());
        runtime.spawn(async move {
            let _ = blocked.send(());
            drop(gate.lock());
        });
    }
    for _ in 0..others {
        let told = arrived.recv_timeout(SOON);
        told.map_err(|_| Failure::new("a thread of the runtime cannot be blocked"))?;
    }
    let result = during();
    drop(closed);
    result
}
