//! Commands: how they end, and that nothing of them is left.

use std::time::{Duration, Instant};

use wire::{ExecSpec, Termination};

use super::Outcome::{self, Passed, Skipped};
use super::guest::{Failure, check, equal, first_line, rest, shell};
use super::rig::Rig;

/// What "at once" may take on a loaded machine under emulation; the commands would run for a thousand seconds.
const SOON: Duration = Duration::from_secs(20);

/// The least that the host may measure of a time that the guest waits for by its own clock, which runs a few per cent fast under
/// emulation on a busy host (1.1 % were measured, of 300 ms). An agent that does not wait at all is far from it.
fn least(time: Duration) -> Duration {
    time.mul_f64(0.95)
}

pub(super) async fn signal(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    for signal in [9, 15] {
        let output = guest.run(&shell(&format!("kill -{signal} $$"))).await?;
        let wanted = Termination::Signalled { signal };
        equal("the end", &output.ended().termination, &wanted)?;
    }
    Ok(Passed)
}

pub(super) async fn timeout(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let spec = ExecSpec {
        timeout: Duration::from_secs(2),
        kill_grace: Duration::from_millis(100),
        ..shell(
            "trap '' TERM; (sleep 1000 & echo $! >background; wait) & echo $$ >main; while :; do sleep 1000; done",
        )
    };
    let started = Instant::now();
    let output = guest.run(&spec).await?;
    let took = started.elapsed();
    let termination = &output.ended().termination;
    equal("the end", termination, &Termination::TimedOut)?;
    check(took >= least(spec.timeout), &format!("it took {took:?}"))?;
    check(took < SOON, &format!("it took {took:?}"))?;
    for name in ["main", "background"] {
        let id = guest.sh(&format!("cat {name}")).await?;
        guest.wait_for_end_of(&id).await?;
    }
    Ok(Passed)
}

pub(super) async fn terminate(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    let mut execution = guest.start(script)?;
    equal("the first line", first_line(&mut execution).await?, "ready")?;
    execution.terminate(SOON).await?;
    let (bytes, end) = rest(&mut execution).await?;
    equal("what it said at its end", bytes, b"bye\n")?;
    equal("the end", end, Termination::Terminated)?;
    Ok(Passed)
}

pub(super) async fn stubborn(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    for grace in [Duration::ZERO, Duration::from_millis(300)] {
        let mut execution = guest.start("trap '' TERM; echo $$; while :; do sleep 1000; done")?;
        let id = first_line(&mut execution).await?;
        let asked = Instant::now();
        execution.terminate(grace).await?;
        let (_, end) = rest(&mut execution).await?;
        let took = asked.elapsed();
        equal("the end", end, Termination::Terminated)?;
        check(
            took >= least(grace) && took < SOON,
            &format!("it took {took:?} with a grace of {grace:?}"),
        )?;
        guest.wait_for_end_of(&id).await?;
    }
    Ok(Passed)
}

pub(super) async fn background(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let started = Instant::now();
    // The one left behind holds the output open.
    let output = guest.run(&shell("sleep 1000 & echo $!; exit 5")).await?;
    let took = started.elapsed();
    let wanted = Termination::Exited { code: 5 };
    equal("the end", &output.ended().termination, &wanted)?;
    check(took < SOON, &format!("it took {took:?}"))?;
    guest.wait_for_end_of(output.text().trim()).await?;
    Ok(Passed)
}

pub(super) async fn dropped(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let mut execution = guest.start("sleep 1000 & echo $!; wait")?;
    let id = first_line(&mut execution).await?;
    drop(execution);
    guest.wait_for_end_of(&id).await?;
    Ok(Passed)
}

pub(super) async fn escapee(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    if !guest.has("setsid").await? {
        return Ok(Skipped("the guest has no setsid"));
    }
    let id = guest
        .sh(
            "setsid sh -c 'echo $$ >escaped; exec sleep 1000' >/dev/null 2>&1 &
             while [ ! -s escaped ]; do sleep 0.05; done; cat escaped",
        )
        .await?;
    guest.wait_for_end_of(&id).await?;
    Ok(Passed)
}

pub(super) async fn orphans(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    // Their parents end first, so they are left to the guest's first process.
    guest
        .sh("for i in 1 2 3; do (sleep 0.1 & exit 0); done; sleep 0.3")
        .await?;
    let zombies = "set +e; looks=0; while :; do
          zombies=0
          for stat in /proc/[0-9]*/stat; do
            read -r _ _ state _ <$stat && [ \"$state\" = Z ] && zombies=$((zombies+1))
          done 2>/dev/null
          [ $zombies = 0 ] && exit 0
          looks=$((looks+1)); [ $looks -lt 50 ] || exit 1; sleep 0.1
        done";
    guest.sh(zombies).await?;
    Ok(Passed)
}
