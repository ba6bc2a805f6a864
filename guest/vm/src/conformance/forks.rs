//! Snapshots and forks: what a fork finds, and what it cannot reach.

use std::time::Duration;

use super::Outcome::{self, Passed};
use super::guest::{Failure, Guest, MEMORY, SOURCE, check, equal, file, program};
use super::rig::{FROZEN, HOSTNAME, Rig, digests};
use crate::driver::{Exit, HostProfile, VmError};
use crate::identity::Identity;
use crate::snapshot::SnapshotFiles;

pub(super) async fn disk(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    equal(
        "the file",
        guest.run(&program(&["cat", "frozen"])).await?.stdout,
        FROZEN,
    )?;
    Ok(Passed)
}

pub(super) async fn memory(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    equal(
        "the file",
        guest.read(MEMORY, "frozen").await?.bytes,
        FROZEN,
    )?;
    Ok(Passed)
}

pub(super) async fn private(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let (one, other) = (rig.fork().await?, rig.fork().await?);
    for root in [SOURCE, MEMORY] {
        let mine = [file("frozen", b"changed"), file("mine", b"")];
        one.put(root, &mine).await?;
        equal(
            "its own file",
            one.read(root, "frozen").await?.bytes,
            b"changed",
        )?;
        equal(
            "the other's file",
            other.read(root, "frozen").await?.bytes,
            FROZEN,
        )?;
        let absent = other.read(root, "mine").await.is_err();
        check(absent, "one fork sees a file of the other")?;
    }
    let late = rig.fork().await?;
    equal("a later fork's files", late.sh("ls").await?, "frozen")?;
    Ok(Passed)
}

pub(super) async fn derived(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let vm = rig
        .driver
        .derive(&rig.snapshot, rig.slot()?, &Identity::fresh(HOSTNAME))
        .await?;
    let baking = Guest::new(vm);
    equal(
        "the template's file",
        baking.sh("cat frozen").await?.as_bytes(),
        FROZEN.trim_ascii_end(),
    )?;
    for root in [SOURCE, MEMORY] {
        baking.put(root, &[file("added", b"in the bake")]).await?;
    }
    let into = tempfile::tempdir_in(&rig.slots)?;
    let snapshot = baking.vm.snapshot(into.path()).await?;
    let fork = rig.fork_of(&snapshot).await?;
    for root in [SOURCE, MEMORY] {
        equal(
            "the first file",
            fork.read(root, "frozen").await?.bytes,
            FROZEN,
        )?;
        equal(
            "the second file",
            fork.read(root, "added").await?.bytes,
            b"in the bake",
        )?;
    }
    equal(
        "a command's output",
        fork.sh("cat added").await?,
        "in the bake",
    )?;
    Ok(Passed)
}

pub(super) async fn several(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let (a, b, c, d) = tokio::try_join!(rig.fork(), rig.fork(), rig.fork(), rig.fork())?;
    for (number, guest) in [a, b, c, d].iter().enumerate() {
        let script = format!("echo {number} >mine; ls; cat mine");
        let wanted = format!("frozen\nmine\n{number}");
        equal("what it sees", guest.sh(&script).await?, wanted)?;
    }
    Ok(Passed)
}

pub(super) async fn dropped(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let agent = guest.agent().clone();
    let mut execution = guest.start("echo ready; sleep 1000")?;
    super::guest::first_line(&mut execution).await?;
    drop(guest);
    agent.ended().await;
    check(execution.next().await.is_err(), "its command goes on")?;
    check(agent.sync().await.is_err(), "its agent still answers")?;
    Ok(Passed)
}

pub(super) async fn stopped(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let agent = guest.agent().clone();
    let exit = guest.vm.stop(Duration::from_secs(30)).await;
    equal("how it ended", exit, Exit::PoweredOff)?;
    check(agent.sync().await.is_err(), "its agent still answers")?;
    Ok(Passed)
}

pub(super) async fn foreign(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let dir = tempfile::tempdir_in(&rig.slots)?;
    for name in ["memory", "state", "disk"] {
        std::fs::write(dir.path().join(name), b"")?;
    }
    let profile = HostProfile {
        vmm_version: "0.0.0-elsewhere".into(),
        ..rig.driver.profile().clone()
    };
    let snapshot = SnapshotFiles::create(dir.path(), rig.snapshot.machine(), &profile)?;
    let problem = match rig
        .driver
        .fork(&snapshot, rig.slot()?, &Identity::fresh(HOSTNAME))
        .await
    {
        Err(VmError::Snapshot { problem, .. }) => problem,
        Err(error) => return Err(error.into()),
        Ok(_) => return Err(Failure::new("it was forked")),
    };
    for version in ["0.0.0-elsewhere", &rig.driver.profile().vmm_version] {
        check(
            problem.contains(version),
            &format!("{problem:?} does not name {version}"),
        )?;
    }
    let derived = rig
        .driver
        .derive(&snapshot, rig.slot()?, &Identity::fresh(HOSTNAME))
        .await;
    check(derived.is_err(), "it was derived from")?;
    Ok(Passed)
}

pub(super) async fn unchanged(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    for root in [SOURCE, MEMORY] {
        guest.put(root, &[file("frozen", b"changed")]).await?;
    }
    guest.agent().sync().await?;
    drop(guest);
    let after = digests(&rig.snapshot).await?;
    equal("the digest of each file", &after, rig.digests_before())?;
    Ok(Passed)
}
