//! Which end has which reason, and which is tried again.

use super::*;

fn step(termination: Termination, cut: Option<Cut>, free: u64) -> Option<Reason> {
    let name = "build".parse().unwrap();
    of_step(&name, termination, cut, free, None).map(|verdict| verdict.reason)
}

#[test]
fn every_end_of_a_step_has_its_reason() {
    let room = 1 << 30;
    let table = [
        (Termination::Exited { code: 0 }, None, room, None),
        (Termination::Exited { code: 0 }, None, 0, None),
        (
            Termination::Exited { code: 3 },
            None,
            room,
            Some(Reason::StepExitNonzero),
        ),
        (
            Termination::Exited { code: 3 },
            None,
            0,
            Some(Reason::DiskFull),
        ),
        (
            Termination::Signalled { signal: 9 },
            None,
            room,
            Some(Reason::StepSignalled),
        ),
        (
            Termination::OutOfMemory,
            None,
            room,
            Some(Reason::OutOfMemory),
        ),
        (Termination::TimedOut, None, room, Some(Reason::StepTimeout)),
        (
            Termination::TimedOut,
            Some(Cut::Run),
            room,
            Some(Reason::RunTimeout),
        ),
        (
            Termination::TimedOut,
            Some(Cut::Idle),
            room,
            Some(Reason::IdleTimeout),
        ),
        (Termination::Cancelled, None, room, Some(Reason::Cancelled)),
        (
            Termination::NotRun,
            None,
            room,
            Some(Reason::StepNotStarted),
        ),
    ];
    for (termination, cut, free, reason) in table {
        assert_eq!(
            step(termination, cut, free),
            reason,
            "{termination:?} {cut:?} {free}"
        );
    }
}

fn of_bake(reason: &str) -> Verdict {
    let bake = FailedBake {
        reason: reason.into(),
        message: "setup step deps exited with 1".into(),
        log: None,
    };
    of_failed_bake(&"widget".parse().unwrap(), &bake)
}

#[test]
fn a_bake_that_fails_for_what_it_bakes_is_the_jobs_end() {
    let table = [
        ("step_failed", Reason::BakeFailed),
        ("a word of tomorrow", Reason::BakeFailed),
        ("unknown_environment", Reason::UnknownEnvironment),
        ("invalid_source", Reason::InvalidJob),
    ];
    for (word, reason) in table {
        let verdict = of_bake(word);
        assert_eq!(verdict.reason, reason, "{word}");
        assert!(!verdict.is_retried(), "{word}");
    }
    assert_eq!(
        of_bake("step_failed").message,
        "the bake of environment widget failed: setup step deps exited with 1"
    );
}

#[test]
fn a_bake_that_fails_for_its_host_is_tried_again() {
    let table = [
        ("host_failed", Reason::SnapshotUnavailable),
        ("vmm_died", Reason::SnapshotUnavailable),
        ("source_unavailable", Reason::SourceUnavailable),
    ];
    for (word, reason) in table {
        let verdict = of_bake(word);
        assert_eq!(verdict.reason, reason, "{word}");
        assert!(verdict.is_retried(), "{word}");
    }
}

#[test]
fn an_object_store_that_fails_and_a_full_disk_are_the_hosts_and_what_is_damaged_is_not() {
    let full = || std::io::Error::other("no space left on device");
    let spool = SourceError::Spool(full());
    let shared = SourceError::Shared(std::sync::Arc::new(SourceError::Spool(full())));
    for error in [&spool, &shared] {
        assert_eq!(Verdict::from(error).suspect(), Suspect::Host);
    }
    let disk = StoreError::Disk {
        doing: "write a chunk".into(),
        source: full(),
    };
    assert_eq!(Verdict::from(&disk).suspect(), Suspect::Host);
    let key = schemas::Sha256Digest::of("key");
    let gone = StoreError::NotFound { key };
    assert_eq!(Verdict::from(&gone).suspect(), Suspect::Other);
}

#[test]
fn a_snapshot_that_cannot_be_used_is_not_the_hosts_and_a_guest_that_does_not_thaw_is() {
    let (dir, problem) = ("snapshot".into(), "no state".into());
    let bad = VmError::Snapshot { dir, problem };
    assert_eq!(Verdict::from(&bad).suspect(), Suspect::Other);
    let silent = VmError::Silent {
        doing: "thaw the guest".into(),
        limit: std::time::Duration::from_secs(10),
        console: String::new(),
    };
    assert_eq!(Verdict::from(&silent).suspect(), Suspect::Host);
    let refused = VmError::Vmm {
        doing: "load the snapshot".into(),
        problem: "no memory".into(),
    };
    assert_eq!(Verdict::from(&refused).suspect(), Suspect::Host);
}

#[test]
fn the_end_of_an_output_is_quoted_at_a_character() {
    assert_eq!(last_bytes("short"), "short");
    let long = "é".repeat(QUOTED_BYTES) + "x";
    let end = last_bytes(&long);
    assert!(end.ends_with("éx") && end.len() <= QUOTED_BYTES && end.len() > QUOTED_BYTES - 4);
}

#[test]
fn a_vmm_that_fails_is_ours_and_a_guest_that_dies_is_not() {
    assert!(of_lost_guest(vm::Exit::VmmFailed("signal 9".into())).is_retried());
    assert!(!of_lost_guest(vm::Exit::PoweredOff).is_retried());
}
