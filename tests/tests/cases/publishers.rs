//! Publishers and subscribers that know the messages and none of our code.

use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bus::results::{self, Stored};
use e2e::python::Python;
use e2e::queue::{self, Queue};
use e2e::state::State;
use futures_util::StreamExt as _;
use schemas::names::{BakeTriggerSubject, bake_event_subject, result_subject};
use schemas::{JobResult, Reason, Token, Trust};
use serde_json::json;
use uuid::Uuid;

use crate::stack::{Cases, LOCKED};

const SCRIPT: &str = include_str!("publish.py");

const TRIGGER_SCRIPT: &str = include_str!("trigger.py");

/// 11 min: the programs give up by themselves before that, and say why.
const PYTHON_DEADLINE: Duration = Duration::from_mins(11);

/// Any result will do: what it says is not looked at.
const RESULT: &[u8] = include_bytes!("../../../schemas/examples/result.json");

pub(crate) async fn a_job_that_python_published_has_a_result(cases: &mut Cases) -> Result<()> {
    let job = cases.job("cat hello.txt");
    let job_id = Token::parse(queue::job_id(&job)?)?;
    let subject = cases.queue.subject().to_string();
    let result = result_subject(&cases.queue.tenant, &job_id);
    let output = python(cases, SCRIPT, &[subject, result, job.to_string()]).await?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let result = JobResult::parse(&output.stdout)?;
    ensure!(
        result.reason.known() == Some(&Reason::Completed),
        "{}: {}",
        result.reason,
        result.message
    );
    ensure!(result.job_id == job_id && result.exit_code == Some(0));
    ensure!(cases.log(&result).await? == "hello\n");
    cases.is_settled().await
}

pub(crate) async fn python_has_a_source_baked_and_then_built(cases: &mut Cases) -> Result<()> {
    let (lock, source) = cases.locked_source(&[]).await?;
    let mut job = queue::job(&source, LOCKED, "cat made");
    job["on_missing"] = json!("fail");
    let (tenant, environment) = (&cases.queue.tenant, Token::parse(LOCKED)?);
    let trigger_subject = BakeTriggerSubject {
        trust: Trust::Untrusted,
        tenant: tenant.clone(),
        environment: environment.clone(),
    };
    let bodies = json!({
        "trigger_subject": trigger_subject.to_string(),
        "trigger": {"schema": "sourdough/bake-trigger/v1", "source": source},
        "event_subject": bake_event_subject(tenant, &environment),
        "job_subject": cases.queue.subject().to_string(),
        "job": job,
        "result_subject": result_subject(tenant, &Token::parse(queue::job_id(&job)?)?),
    });
    let output = python(cases, TRIGGER_SCRIPT, &[bodies.to_string()]).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    let result = JobResult::parse(&output.stdout)?;
    ensure!(
        result.reason.known() == Some(&Reason::Completed),
        "{}: {}\n{said}",
        result.reason,
        result.message
    );
    ensure!(cases.log(&result).await? == lock);
    cases.is_settled().await
}

pub(crate) async fn of_two_reports_that_race_a_subscriber_hears_one(
    cases: &mut Cases,
) -> Result<()> {
    let servers = &cases.stack()?.servers;
    let rival = Queue::open(servers).await?;
    for _ in 0..20 {
        let job_id = Token::from(Uuid::now_v7());
        let mut heard = cases.queue.hear_results(job_id.as_str()).await?;
        let (first, second) = (
            report(cases, &job_id, "first")?,
            report(cases, &job_id, "second")?,
        );
        let (first, second) = tokio::try_join!(
            results::publish_once(cases.queue.jetstream(), &first),
            results::publish_once(rival.jetstream(), &second),
        )?;
        ensure!(
            matches!(
                (first, second),
                (Stored::First, Stored::AlreadyThere) | (Stored::AlreadyThere, Stored::First)
            ),
            "{first:?} and {second:?}"
        );
        let winner = if first == Stored::First {
            "first"
        } else {
            "second"
        };
        // Whatever the server sent before its answer to this has arrived.
        cases.queue.client().flush().await?;
        heard.unsubscribe().await?;
        let messages: Vec<_> = heard.collect().await;
        ensure!(messages.len() == 1, "{} results were heard", messages.len());
        ensure!(JobResult::parse(&messages[0].payload)?.worker.as_str() == winner);
    }
    Ok(())
}

/// Runs a script with the server's address and `arguments`.
async fn python(cases: &Cases, script: &str, arguments: &[String]) -> Result<Output> {
    let python = Python::install(&State::from_environment()?)?;
    let mut command = tokio::process::Command::from(python.command());
    command
        .args(["-c", script, cases.stack()?.servers.nats.url()])
        .args(arguments)
        .kill_on_drop(true);
    let output = tokio::time::timeout(PYTHON_DEADLINE, command.output()).await;
    Ok(output.with_context(|| format!("no end within {PYTHON_DEADLINE:?}"))??)
}

fn report(cases: &Cases, job_id: &Token, worker: &str) -> Result<JobResult> {
    Ok(JobResult {
        job_id: job_id.clone(),
        tenant: cases.queue.tenant.clone(),
        worker: Token::parse(worker)?,
        ..JobResult::parse(RESULT).context("a golden message parses")?
    })
}
