//! `sourdough submit`, as far as the queue.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use async_nats::HeaderValue;
use async_nats::jetstream::message::StreamMessage;
use bus::testing::S3Server;
use schemas::Job;
use schemas::names::stream;

use crate::fixture::{Fixture, Said};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

impl Fixture {
    /// Submits, to a pool that nobody serves.
    async fn submit(&self, flags: &[&str]) -> Result<Said> {
        self.run(&[&self.submission()[..], flags].concat()).await
    }

    fn submission(&self) -> [&str; 5] {
        let pool = self.tenant.as_str();
        ["submit", "--environment", "widget", "--pool", pool]
    }

    async fn last_job(&self) -> Result<StreamMessage> {
        let jobs = self.jetstream.get_stream(stream::JOBS).await?;
        let subject = format!("build.job.{}.untrusted.5.{}", self.tenant, self.tenant);
        Ok(jobs.direct_get_last_for_subject(subject).await?)
    }
}

/// A source that is not packed.
fn archive() -> [String; 4] {
    let sha256 = "ab12cd34".repeat(8);
    let uri = "https://files.example.com/a.tar.zst".to_owned();
    [
        "--archive-uri".to_owned(),
        uri,
        "--sha256".to_owned(),
        sha256,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_with_the_job_and_nonsense_is_refused() -> Result<()> {
    let Some(fixture) = Fixture::start().await? else {
        return Ok(());
    };
    let archive = archive();
    let archive: Vec<_> = archive.iter().map(String::as_str).collect();
    let traced = [&archive[..], &["--traceparent", TRACE]].concat();
    let said = fixture.submit(&traced).await?;
    ensure!(said.code == Some(0), "{}", said.err);
    let job = fixture.last_job().await?;
    let header = |name: &str| job.headers.get(name).map(|value| value.as_str().to_owned());
    ensure!(header("traceparent").as_deref() == Some(TRACE));
    let message_id = format!("{}-{}", fixture.tenant, said.out.trim());
    ensure!(header("Nats-Msg-Id") == Some(message_id));
    let mut program = fixture.command(&[&fixture.submission()[..], &archive].concat());
    let program = program.env("TRACEPARENT", "00-1-2-3").output()?;
    let said = String::from_utf8(program.stderr)?;
    ensure!(program.status.success() && said.contains("TRACEPARENT is left out"));
    ensure!(
        fixture
            .last_job()
            .await?
            .headers
            .get("traceparent")
            .is_none()
    );
    let mut program = fixture.command(&[&fixture.submission()[..], &archive].concat());
    ensure!(program.env("TRACEPARENT", TRACE).status()?.success());
    let job = fixture.last_job().await?;
    let sent = job.headers.get("traceparent").map(HeaderValue::as_str);
    ensure!(sent == Some(TRACE));
    let nonsense = [&archive[..], &["--traceparent", "00-1-2-3"]].concat();
    let said = fixture.submit(&nonsense).await?;
    ensure!(
        said.code == Some(64) && said.err.contains("must be 00-<32 hex>"),
        "{}",
        said.err
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_while_waiting_says_how_to_come_back() -> Result<()> {
    let Some(fixture) = Fixture::start().await? else {
        return Ok(());
    };
    let archive = archive();
    let archive: Vec<_> = archive.iter().map(String::as_str).collect();
    let arguments = [&fixture.submission()[..], &archive, &["--wait"]].concat();
    let mut program = fixture.command(&arguments);
    let mut program = program.stderr(Stdio::piped()).spawn()?;
    let (said, id) = tokio::task::spawn_blocking(move || -> Result<_> {
        let mut err = std::io::BufReader::new(program.stderr.take().context("a pipe")?);
        let mut line = String::new();
        std::io::BufRead::read_line(&mut err, &mut line)?;
        let id = line
            .trim()
            .strip_prefix("job ")
            .context("an id")?
            .to_owned();
        let pid = program.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status()?;
        ensure!(sent.success());
        let said = std::io::read_to_string(err)?;
        ensure!(program.wait()?.code() == Some(130), "{said}");
        Ok((said, id))
    })
    .await??;
    for command in ["wait", "logs -f", "cancel"] {
        let command = format!("`sourdough {command} {id} --tenant {}`", fixture.tenant);
        ensure!(said.contains(&command), "{command}: {said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_built_as_it_stands_only_where_that_is_asked_for() -> Result<()> {
    let Some(fixture) = Fixture::start().await? else {
        return Ok(());
    };
    let s3 = S3Server::start().await;
    let directory = tempfile::tempdir()?;
    git(directory.path(), &["init", "-q"])?;
    fs::write(directory.path().join("a"), "1\n")?;
    commit(directory.path())?;
    fs::write(directory.path().join("a"), "2\n")?;
    let path = directory.path().to_str().context("a path in UTF-8")?;
    let submit = async |flags: &[&str]| -> Result<_> {
        let arguments = [&fixture.submission()[..], &["--dir", path], flags].concat();
        let endpoint = s3.config.endpoint.as_deref().context("an endpoint")?;
        let mut program = fixture.command_at(&arguments, endpoint);
        let output = tokio::task::spawn_blocking(move || program.output()).await??;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.success(), "{said}");
        let job = Job::parse(&fixture.last_job().await?.payload)?;
        Ok((said, serde_json::to_value(job.source)?))
    };
    let (said, committed) = submit(&[]).await?;
    ensure!(said.contains("HEAD is built, without") && said.trim_end().ends_with(": a"));
    let (said, standing) = submit(&["--dirty"]).await?;
    ensure!(said.contains("is built as it stands") && said.trim_end().ends_with(": a"));
    ensure!(committed != standing);
    commit(directory.path())?;
    let (said, after) = submit(&["--dirty"]).await?;
    ensure!(said.is_empty() && after == standing, "{said}");
    Ok(())
}

/// Commits all, always at the same time.
fn commit(directory: &Path) -> Result<()> {
    git(directory, &["add", "-A"])?;
    let identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
    let commit = [&identity[..], &["commit", "-q", "-m", "c"]].concat();
    git(directory, &commit)
}

fn git(directory: &Path, command: &[&str]) -> Result<()> {
    let date = "1700000000 +0000";
    let status = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(command)
        .env("GIT_AUTHOR_DATE", date)
        .env("GIT_COMMITTER_DATE", date)
        .status()?;
    ensure!(status.success(), "git {command:?}");
    Ok(())
}
