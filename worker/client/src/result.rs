//! `sourdough result` and `sourdough wait`: the result of a job that somebody submitted.

use std::process::ExitCode;
use std::time::Duration;

use crate::args::{Outcome, Wait};
use crate::interrupt::Interrupt;
use crate::job_name::JobName;
use crate::server::Server;
use crate::{exit, outcome};

/// Prints the result, if there is one.
pub(crate) async fn show(asked: &Outcome) -> anyhow::Result<ExitCode> {
    let job = asked.job.name();
    let server = Server::connect(&asked.job.servers).await?;
    let Some(result) = server.result(&job).await? else {
        return Ok(exit::not_yet(&format!(
            "job {} has no result yet; {}",
            job.id,
            asks_why(&job)
        )));
    };
    outcome::report(&result, asked.json)?;
    Ok(exit::code(&result).into())
}

/// Waits for the result, and prints it.
pub(crate) async fn wait(wait: &Wait, interrupt: &mut Interrupt) -> anyhow::Result<ExitCode> {
    let job = wait.job.name();
    let server = interrupt.or(Server::connect(&wait.job.servers)).await?;
    let waiting = Box::pin(waited(wait, &server, &job));
    interrupt.or_leave(job.clone(), waiting).await
}

async fn waited(wait: &Wait, server: &Server, job: &JobName) -> anyhow::Result<ExitCode> {
    let waiting = outcome::without_log(server, job);
    let result = match wait.timeout {
        None => waiting.await?,
        Some(seconds) => {
            let limit = Duration::from_secs(seconds.into());
            let Ok(result) = tokio::time::timeout(limit, waiting).await else {
                return Ok(exit::not_yet(&format!(
                    "job {} has no result after {seconds} s; {}",
                    job.id,
                    asks_why(job)
                )));
            };
            result?
        }
    };
    outcome::report(&result, wait.json)?;
    Ok(exit::code(&result).into())
}

/// What to do about a result that does not come.
fn asks_why(job: &JobName) -> String {
    format!("`sourdough why {job}` says where it stands")
}
