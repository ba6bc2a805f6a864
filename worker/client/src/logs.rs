//! `sourdough logs`: the log of a job that somebody submitted.
//!
//! | the job | without `-f` | with `-f` |
//! | --- | --- | --- |
//! | has a result | the whole log, from S3; where that cannot be read, what the live log still has | the same |
//! | has none | what the live log has so far | the live log, until the result |
//!
//! A user who may not look back in the live log, as a tenant's, has the last chunk of it for what it has so far.

mod so_far;

use std::process::ExitCode;

use anyhow::Context as _;
use bus::objects::Objects;
use bus::telemetry::Causes;
use schemas::JobResult;
use schemas::record::Attempt;
use schemas::result::LogRef;
use tokio::io::AsyncReadExt as _;

use crate::args::{Logs, Servers};
use crate::interrupt::Interrupt;
use crate::job_name::JobName;
use crate::screen::Screen;
use crate::server::Server;
use crate::summary::one_line;
use crate::{exit, outcome};

/// How much of a stored log is read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Shows it.
pub(crate) async fn run(logs: &Logs, interrupt: &mut Interrupt) -> anyhow::Result<ExitCode> {
    let job = logs.job.name();
    let server = interrupt.or(Server::connect(&logs.job.servers)).await?;
    if let Some(result) = interrupt.or(server.result(&job)).await? {
        let finished = Box::pin(finished(&logs.job.servers, &server, &job, &result));
        return interrupt.or(finished).await;
    }
    if logs.follow {
        let mut screen = Screen::with_ends();
        let following = Box::pin(outcome::with_log(&server, &job, &mut screen));
        let result = interrupt.or_leave(job.clone(), following).await?;
        eprintln!(
            "note: job {} ended: {}, {}",
            job.id, result.status, result.reason
        );
        return Ok(ExitCode::SUCCESS);
    }
    if !interrupt.or(Box::pin(so_far::show(&server, &job))).await? {
        return Ok(exit::not_yet(&format!(
            "job {} has no log yet; `sourdough why {job}` says where it stands",
            job.id
        )));
    }
    eprintln!("note: this is the log so far; the job has no result yet");
    Ok(ExitCode::SUCCESS)
}

async fn finished(
    servers: &Servers,
    server: &Server,
    job: &JobName,
    result: &JobResult,
) -> anyhow::Result<ExitCode> {
    for (index, attempt) in result.past_attempts.iter().enumerate() {
        eprintln!("note: {}", in_words(index + 1, attempt));
    }
    let Some(log) = &result.log else {
        eprintln!("note: job {} wrote no log", job.id);
        return Ok(ExitCode::SUCCESS);
    };
    if let Err(error) = stored(servers, log).await {
        let error = Causes(error.as_ref());
        eprintln!("note: the whole log at {} cannot be read: {error}", log.uri);
        eprintln!("note: what the live log still has follows");
        so_far::show(server, job).await?;
    } else if log.truncated {
        eprintln!("note: the log was cut at its limit");
    }
    Ok(ExitCode::SUCCESS)
}

/// How an attempt ended that gave no result.
pub(crate) fn in_words(number: usize, attempt: &Attempt) -> String {
    let end = match &attempt.end {
        Some(end) => one_line(&end.message),
        None => "has no end yet".to_owned(),
    };
    format!("attempt {number} on {}: {end}", attempt.worker)
}

/// Shows the log that S3 has.
async fn stored(servers: &Servers, log: &LogRef) -> anyhow::Result<()> {
    let objects = Objects::connect(&servers.objects()).await?;
    let mut download = objects.get(log.uri.bucket(), log.uri.key()).await?;
    let mut screen = Screen::new(false);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = download.read(&mut chunk).await.context("read the log")?;
        if read == 0 {
            return Ok(());
        }
        screen.write(&chunk[..read])?;
    }
}
