//! A job's result: waiting for it, with or without the log, and telling it.

use std::io::{self, Write as _};

use bus::results;
use schemas::JobResult;
use tokio::sync::mpsc;

use crate::job_name::JobName;
use crate::screen::Screen;
use crate::server::Server;
use crate::{live, summary, waiting};

/// Chunks between the connection and the terminal: 4 MiB at most.
pub(crate) const CHUNKS_AHEAD: usize = 64;

/// Shows the log until the result is there and the log of its attempt is complete.
pub(crate) async fn with_log(
    server: &Server,
    job: &JobName,
    screen: &mut Screen,
) -> anyhow::Result<JobResult> {
    let (to_chunks, mut chunks) = mpsc::channel(CHUNKS_AHEAD);
    let (to_events, mut events) = mpsc::channel(CHUNKS_AHEAD);
    let live = live::follow(server.clone(), job.clone(), Some(to_chunks), to_events);
    let following = tokio::spawn(live);
    let waiting = wait(server, job);
    tokio::pin!(waiting);
    let result = loop {
        tokio::select! {
            Some(chunk) = chunks.recv() => screen.show(&chunk)?,
            Some(event) = events.recv() => screen.tell(&event),
            result = &mut waiting => break result?,
        }
    };
    screen.show_rest(&mut chunks, &result).await?;
    following.abort();
    Ok(result)
}

/// Waits for the result, and says on standard error what happens meanwhile.
pub(crate) async fn without_log(server: &Server, job: &JobName) -> anyhow::Result<JobResult> {
    let (to_events, mut events) = mpsc::channel(CHUNKS_AHEAD);
    let live = live::follow(server.clone(), job.clone(), None, to_events);
    let following = tokio::spawn(live);
    let mut told = waiting::Waiting::default();
    let waiting = wait(server, job);
    tokio::pin!(waiting);
    let result = loop {
        tokio::select! {
            Some(event) = events.recv() => {
                if let Some(line) = told.line(&event) {
                    eprintln!("{line}");
                }
            }
            result = &mut waiting => break result?,
        }
    };
    following.abort();
    Ok(result)
}

/// Asks once, so that who may not ask is told so, then waits.
async fn wait(server: &Server, job: &JobName) -> anyhow::Result<JobResult> {
    if let Some(result) = server.result(job).await? {
        return Ok(result);
    }
    Ok(results::wait(&server.client, &server.jetstream, &job.tenant, &job.id).await?)
}

/// The six lines on standard error; with `json` the result on standard output as well.
pub(crate) fn report(result: &JobResult, json: bool) -> anyhow::Result<()> {
    for line in summary::lines(result) {
        eprintln!("{line}");
    }
    if json {
        print_json(result)?;
    }
    Ok(())
}

/// One line of JSON on standard output.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, value)?;
    Ok(writeln!(stdout)?)
}
