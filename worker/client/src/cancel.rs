//! `sourdough cancel`: puts the job's key into `build-cancels`, which its worker watches, or the bakery where nobody has the job.
//!
//! | what is known of the id | answer | put |
//! | --- | --- | --- |
//! | a result | `already finished` | no |
//! | a record, or a message in the queue | `cancelling` | yes |
//! | nothing, and the queue cannot be looked through | `cancelling` | yes |
//! | nothing | `not found` | no, unless `--even-if-unknown` |
//!
//! A put for an id that nobody knows is kept for 8 days, and would end a job that is published then: who means that says so, and who mistypes
//! an id is told.

use std::io::{self, Write as _};
use std::process::ExitCode;

use schemas::JobResult;
use schemas::names::{bucket, cancel_key, job_record};
use serde_json::json;

use crate::args::Cancel;
use crate::interrupt::Interrupt;
use crate::job_name::JobName;
use crate::queue::{self, Place};
use crate::server::{AskError, Server};
use crate::{exit, outcome};

/// What stands under the key, for people who look into the bucket: any value cancels.
const VALUE: &str = "sourdough cancel";

/// What became of the request.
#[derive(Debug)]
enum Answer {
    /// It is made.
    Cancelling,
    /// It came too late.
    AlreadyFinished(Box<JobResult>),
    /// There is no such job.
    NotFound,
}

/// Cancels, and waits for the job's end where that is asked for.
pub(crate) async fn run(cancel: &Cancel, interrupt: &mut Interrupt) -> anyhow::Result<ExitCode> {
    let job = cancel.job.name();
    let server = interrupt.or(Server::connect(&cancel.job.servers)).await?;
    let asked = answer(&server, &job, cancel.even_if_unknown);
    let answer = interrupt.or(Box::pin(asked)).await?;
    if matches!(answer, Answer::NotFound) || !cancel.wait {
        return say(&job, &answer, cancel.json);
    }
    let waiting = Box::pin(outcome::without_log(&server, &job));
    let result = interrupt.or_leave(job.clone(), waiting).await?;
    outcome::report(&result, cancel.json)?;
    Ok(exit::code(&result).into())
}

async fn answer(server: &Server, job: &JobName, even_if_unknown: bool) -> Result<Answer, AskError> {
    if let Some(result) = server.result(job).await? {
        return Ok(Answer::AlreadyFinished(Box::new(result)));
    }
    if !even_if_unknown && !is_known(server, job).await? {
        return Ok(Answer::NotFound);
    }
    let key = cancel_key(&job.tenant, &job.id);
    server.put(bucket::CANCELS, &key, VALUE.into()).await?;
    Ok(Answer::Cancelling)
}

/// Whether a worker or the queue has seen it. Who may not find out may still cancel.
async fn is_known(server: &Server, job: &JobName) -> Result<bool, AskError> {
    let key = job_record(&job.tenant, &job.id);
    match server.value(bucket::JOBS, &key).await {
        Ok(Some(_)) => return Ok(true),
        Ok(None) => {}
        Err(error) if error.may_be_denied() => {}
        Err(error) => return Err(error),
    }
    match queue::find(server, job).await {
        Ok(Place::Queued(_) | Place::Unknown) => Ok(true),
        Ok(Place::Absent) => Ok(false),
        Err(error) if error.may_be_denied() => {
            eprintln!("note: whether the job is queued is not known: {error}");
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

fn say(job: &JobName, answer: &Answer, as_json: bool) -> anyhow::Result<ExitCode> {
    let (said, words) = match answer {
        Answer::Cancelling => (json!({"answer": "cancelling"}), "cancelling".to_owned()),
        Answer::AlreadyFinished(result) => (
            json!({"answer": "already_finished", "status": result.status, "reason": result.reason}),
            format!("already finished: {}, {}", result.status, result.reason),
        ),
        Answer::NotFound => (json!({"answer": "not_found"}), "not found".to_owned()),
    };
    if as_json {
        outcome::print_json(&said)?;
    } else {
        writeln!(io::stdout(), "{words}")?;
    }
    Ok(match answer {
        Answer::Cancelling | Answer::AlreadyFinished(_) => ExitCode::SUCCESS,
        Answer::NotFound => exit::not_found(&format!(
            "tenant {} has no job {}, and nothing was cancelled; --even-if-unknown cancels it before it is published",
            job.tenant, job.id
        )),
    })
}
