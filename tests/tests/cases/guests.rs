//! What a build finds, and what it leaves: the same each time, and nothing.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use schemas::{Reason, guest};
use serde_json::json;

use crate::stack::Cases;

/// The time of everything in the cases' source.
const SOURCE_TIME: i64 = 1_767_225_600;

pub(crate) async fn a_step_has_exactly_the_normalised_environment(cases: &mut Cases) -> Result<()> {
    let mut job = cases.job("");
    job["env"] = json!({"FROM_JOB": "yes", "TZ": "Europe/Berlin"});
    job["steps"] = json!([
        {"name": "environment", "run": ["env"], "env": {"FROM_STEP": "a=b"}},
        {"name": "user", "sh": "id -un; hostname; pwd; umask; stat -c '%U %Y' hello.txt"},
    ]);
    let result = cases.ends_with(&job, Reason::Completed).await?;
    let log = cases.log(&result).await?;
    let (mut found, rest): (Vec<_>, Vec<_>) = log.lines().partition(|line| line.contains('='));
    let mut expected = guest::base_environment(SOURCE_TIME);
    for (name, value) in [
        ("FROM_ENVIRONMENT", "yes"),
        ("FROM_JOB", "yes"),
        ("FROM_STEP", "a=b"),
        ("TZ", "Europe/Berlin"),
    ] {
        expected.insert(name.to_owned(), value.to_owned());
    }
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    found.sort_unstable();
    ensure!(found == expected, "{found:#?}");
    let user = format!("{} {SOURCE_TIME}", guest::BUILD_USER);
    ensure!(
        rest == [
            guest::BUILD_USER,
            guest::HOSTNAME,
            guest::BUILD_ROOT,
            "0022",
            &user
        ],
        "{rest:#?}"
    );
    Ok(())
}

pub(crate) async fn a_step_has_no_network_but_its_own_loopback(cases: &mut Cases) -> Result<()> {
    let script = "ls /sys/class/net
        reached() { perl -MIO::Socket::INET -e 'exit !IO::Socket::INET->new(PeerAddr => shift, Timeout => 5)' $1; }
        mkfifo ready
        perl -MIO::Socket::INET -e '$| = 1; my $l = IO::Socket::INET->new(Listen => 1, LocalAddr => shift) or die;
            print \"ready\\n\"; $l->accept; sleep' 127.0.0.1:4000 > ready &
        read line < ready
        reached 127.0.0.1:4000 && echo reached
        ! reached 127.0.0.1:3128 && ! reached 127.0.0.1:80 && ! reached 192.0.2.1:443 && echo refused
        cat /etc/resolv.conf";
    let output = cases.output_of(script).await?;
    ensure!(output == "lo\nreached\nrefused\n", "{output}");
    Ok(())
}

pub(crate) async fn two_builds_of_one_tree_start_from_the_same_bytes(
    cases: &mut Cases,
) -> Result<()> {
    let script = "{ find / -xdev -type f -printf '%p %m %T@ %s\\n' 2>/dev/null | sort; find /build /etc -xdev -type f -readable -exec sha256sum {} + | sort; } | sha256sum
        cat /proc/sys/kernel/random/uuid";
    let mut digests = Vec::new();
    let mut random = Vec::new();
    for _ in 0..2 {
        let output = cases.output_of(script).await?;
        let mut lines = output.lines().map(str::to_owned);
        digests.push(lines.next().context("a digest")?);
        random.push(lines.next().context("a UUID")?);
    }
    ensure!(digests[0] == digests[1], "{digests:?}");
    ensure!(random[0] != random[1], "two forks have one randomness");
    Ok(())
}

pub(crate) async fn nothing_of_a_build_is_left_for_the_next(cases: &mut Cases) -> Result<()> {
    let script = "test ! -e /tmp/left; test ! -e ~/left; test ! -e left; touch /tmp/left ~/left left; (sleep 600 &)";
    cases.output_of(script).await?;
    cases.output_of(script).await.map(drop)
}

pub(crate) async fn a_worker_whose_state_is_deleted_between_two_jobs_goes_on(
    cases: &mut Cases,
) -> Result<()> {
    cases.output_of("true").await?;
    empty(&cases.directory.join("worker"))?;
    cases.output_of("true").await.map(drop)
}

/// Removes everything in a directory.
pub(crate) fn empty(directory: &Path) -> Result<()> {
    let context = || format!("empty {}", directory.display());
    for entry in fs::read_dir(directory).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.is_dir() {
            fs::remove_dir_all(&path).with_context(context)?;
        } else {
            fs::remove_file(&path).with_context(context)?;
        }
    }
    Ok(())
}
