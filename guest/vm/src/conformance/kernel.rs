//! What only a guest with a kernel of its own can have.

use std::time::Duration;

use super::Outcome::{self, Passed};
use super::guest::{Failure, check, equal, shell};
use super::rig::{HOSTNAME, Rig, now};
use wire::{ExecSpec, User};

/// How far a fork's clock may be from the host's.
const CLOCK_ERROR: Duration = Duration::from_secs(2);

pub(super) async fn user(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    for user in [User::BUILD, User::ROOT] {
        let script = "while read -r key first rest; do
              case $key in Uid:|Gid:|Groups:) echo $key $first $rest;; esac
            done </proc/self/status";
        let spec = ExecSpec {
            user,
            ..shell(script)
        };
        let User { uid, gid } = user;
        let wanted =
            format!("Uid: {uid} {uid} {uid} {uid}\nGid: {gid} {gid} {gid} {gid}\nGroups:\n");
        equal("its ids", guest.run(&spec).await?.text(), wanted)?;
    }
    let owner = guest.sh("touch mine; stat -c '%u %g' mine frozen").await?;
    equal("the owner of its files", owner, "1000 1000\n1000 1000")?;
    Ok(Passed)
}

pub(super) async fn memory(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let kinds = "while read -r _ place kind _; do
          case $place in /run|/dev/shm) echo $place $kind;; esac
        done </proc/mounts";
    let seen = rig.fork().await?.sh(kinds).await?;
    for wanted in ["/run tmpfs", "/dev/shm tmpfs"] {
        check(
            seen.lines().any(|line| line == wanted),
            &format!("{wanted:?} is not in {seen:?}"),
        )?;
    }
    Ok(Passed)
}

pub(super) async fn hostname(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let seen = rig
        .fork()
        .await?
        .sh("cat /proc/sys/kernel/hostname")
        .await?;
    equal("the hostname", seen, HOSTNAME)?;
    Ok(Passed)
}

pub(super) async fn clock(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let before = now();
    let seen = guest.sh("touch now; stat -c %Y now").await?;
    let after = now();
    let seconds = seen
        .parse()
        .map_err(|_| Failure::new(format!("{seen:?} is no time")))?;
    // The guest tells whole seconds only.
    let latest = Duration::from_secs(seconds) + Duration::from_secs(1);
    let right =
        latest + CLOCK_ERROR >= before && Duration::from_secs(seconds) <= after + CLOCK_ERROR;
    check(
        right,
        &format!("it is {seen} there, and here {before:?} to {after:?}"),
    )?;
    Ok(Passed)
}

pub(super) async fn entropy(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let script = "head -c 32 /dev/urandom | sha256sum; cat /proc/sys/kernel/random/uuid";
    let one = rig.fork().await?.sh(script).await?;
    let other = rig.fork().await?.sh(script).await?;
    equal("the number of lines", one.lines().count(), 2)?;
    for (one, other) in one.lines().zip(other.lines()) {
        check(one != other, &format!("both say {one}"))?;
    }
    Ok(Passed)
}
