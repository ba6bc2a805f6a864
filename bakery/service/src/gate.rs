//! A bake is checked before it is published: two throw-away forks of the frozen files must be two guests, on one disk, in our time, and
//! no canary may be in what was frozen.
//!
//! ```text
//! frozen files ─┬─▶ canaries in memory, state, disk? ──yes──▶ refused
//!               ├─▶ fork, probe, survey, kill ─┬─▶ same random bytes, same UUID, other disk, other time ──▶ refused
//!               └─▶ fork, probe, survey, kill ─┘
//!                                              └─▶ report, stored beside the snapshot
//! ```
//!
//! What always holds: a check that cannot be made is not passed; a canary is named in no message, no log and no report.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use schemas::Sha256Digest;
use schemas::guest::{BUILD_ROOT, HOSTNAME};
use serde::Deserialize;
use store::{ForkReport, GateReport};
use vm::{
    AgentError, Driver, Identity, Lifetime, Slot, SnapshotFiles, VmError, agent, lifetime, search,
};
use wire::{Probed, SurveySpec};

use crate::error::BakeError;

/// 2 s: what TLS and make bear, and what a busy host takes for an answer.
const CLOCK_ERROR: Duration = Duration::from_secs(2);

/// 16 MiB of the tree's content: under a second of emulation. Names, sizes and times of the whole disk are compared besides.
const CONTENT_BYTES: u64 = 16 << 20;

/// What a fork is asked: to probe itself and to look at its disk. Its agent may be silent for so long about either.
const LONGEST_LOOK: Duration = agent::PATIENCE.saturating_mul(2);

/// A shorter canary would stand somewhere by chance.
const SHORTEST: usize = 16;

/// A value that no snapshot may hold.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Secret(String);

impl TryFrom<String> for Secret {
    type Error = String;

    fn try_from(value: String) -> Result<Self, String> {
        if value.len() < SHORTEST {
            return Err(format!("must have at least {SHORTEST} bytes"));
        }
        Ok(Self(value))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// What a fork showed.
struct Seen {
    probed: Probed,
    report: ForkReport,
}

/// Checks what was frozen. The slots of the forks are made in `slots`.
pub(crate) async fn check(
    driver: &dyn Driver,
    files: &SnapshotFiles,
    slots: &Path,
    canaries: &[Secret],
) -> Result<GateReport, BakeError> {
    let (begun, checked_at) = (Instant::now(), Timestamp::now());
    search_for(canaries, files).await?;
    let one = look_at(driver, files, slots).await?;
    let other = look_at(driver, files, slots).await?;
    let report = GateReport {
        checked_at,
        entropy_differs: one.probed.random != other.probed.random,
        uuid_differs: one.probed.uuid != other.probed.uuid,
        disks_agree: one.report.disk_digest == other.report.disk_digest,
        forks: vec![one.report, other.report],
        canaries: u32::try_from(canaries.len()).unwrap_or(u32::MAX),
        took_ms: milliseconds(begun.elapsed()),
    };
    match problem(&report) {
        None => Ok(report),
        Some(what) => Err(refused(what)),
    }
}

/// What of a report is no snapshot's to show.
fn problem(report: &GateReport) -> Option<String> {
    if !report.entropy_differs {
        return Some("two forks give the same random bytes".to_owned());
    }
    if !report.uuid_differs {
        return Some("two forks give the same UUID".to_owned());
    }
    if !report.disks_agree {
        return Some("two forks see different disks".to_owned());
    }
    let limit = milliseconds(CLOCK_ERROR);
    let skews = report.forks.iter().map(|fork| fork.clock_skew_ms);
    skews
        .filter(|skew| skew.unsigned_abs() > limit)
        .map(|skew| format!("a fork's clock is {skew} ms off"))
        .next()
}

/// Forks a guest, lets it speak, and ends it.
async fn look_at(
    driver: &dyn Driver,
    files: &SnapshotFiles,
    slots: &Path,
) -> Result<Seen, BakeError> {
    let (slot, identity) = (Slot::create(slots)?, Identity::fresh(HOSTNAME));
    let begun = Instant::now();
    let vm = driver.fork(files, slot, &identity).await?;
    let _lifetime = Lifetime::begin(vm.kill_switch(), LONGEST_LOOK + lifetime::MARGIN);
    let answered_ms = milliseconds(begun.elapsed());
    let asked = SystemTime::now();
    let probed = vm.agent().probe().await.map_err(silent("probe a fork"))?;
    let answered = SystemTime::now();
    let survey = SurveySpec {
        tree: "/".to_owned(),
        contents: BUILD_ROOT.to_owned(),
        max_bytes: CONTENT_BYTES,
    };
    let surveyed = vm.agent().survey(&survey).await;
    let surveyed = surveyed.map_err(silent("look at a fork's disk"))?;
    // Dropped, it is killed: there is nothing in it to end in order.
    drop(vm);
    let report = ForkReport {
        answered_ms,
        clock_skew_ms: skew(probed.realtime, since_1970(asked), since_1970(answered)),
        disk_digest: Sha256Digest::from_bytes(surveyed.digest),
    };
    Ok(Seen { probed, report })
}

/// How far a guest's time is from any that it may have read between `asked` and `answered`, in milliseconds; behind is negative.
fn skew(guest: Duration, asked: Duration, answered: Duration) -> i64 {
    let beyond = |later: Duration, earlier: Duration| {
        i64::try_from(later.saturating_sub(earlier).as_millis()).unwrap_or(i64::MAX)
    };
    // At most one of the two is not zero.
    beyond(guest, answered) - beyond(asked, guest)
}

/// Fails if a canary is in any of the frozen files.
async fn search_for(canaries: &[Secret], files: &SnapshotFiles) -> Result<(), BakeError> {
    let canaries: Arc<[Secret]> = canaries.into();
    if canaries.is_empty() {
        return Ok(());
    }
    for path in [files.memory(), files.state(), files.disk()] {
        let (own, canaries) = (path.clone(), Arc::clone(&canaries));
        let searching = tokio::task::spawn_blocking(move || {
            let needles: Vec<_> = canaries.iter().map(|secret| secret.0.as_bytes()).collect();
            search::first_found(&own, &needles)
        });
        let found = searching
            .await
            .expect("searching reports errors and does not panic")
            .map_err(BakeError::disk("search", &path))?;
        if let Some(index) = found {
            let name = crate::files::name(&path);
            return Err(refused(format!("canary {index} is in its {name}")));
        }
    }
    Ok(())
}

fn refused(problem: impl Into<String>) -> BakeError {
    BakeError::Gate {
        problem: problem.into(),
    }
}

fn silent(doing: &'static str) -> impl FnOnce(AgentError) -> BakeError {
    move |source| BakeError::Vm(VmError::Agent { doing, source })
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn since_1970(time: SystemTime) -> Duration {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.expect("the host's clock is past 1970")
}

#[cfg(test)]
mod tests;
