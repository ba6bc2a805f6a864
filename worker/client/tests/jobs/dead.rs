//! `sourdough dead`.

use anyhow::{Result, ensure};
use schemas::dead::DeadLetter;
use schemas::names::{dead_subject, stream};
use schemas::{Job, Token};

use crate::fixture::{Fixture, JOB};

const DEAD: &[u8] = include_bytes!("../../../../schemas/examples/dead-letter.json");

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_job_is_listed_shown_and_replayed_under_a_new_id() -> Result<()> {
    let Some(fixture) = Fixture::start().await? else {
        return Ok(());
    };
    let job = Job::parse(JOB.as_bytes())?;
    let id = Token::from(job.id);
    let subject = format!(
        "build.job.{}.untrusted.5.{}",
        fixture.tenant, fixture.tenant
    );
    let letter = DeadLetter {
        job_id: id.clone(),
        subject: subject.clone(),
        body: JOB.to_owned(),
        ..DeadLetter::parse(DEAD)?
    };
    let dead = dead_subject(&fixture.tenant, &id);
    fixture
        .publish(dead.clone(), serde_json::to_vec(&letter)?)
        .await?;
    let said = fixture.run(&["dead", "list"]).await?;
    ensure!(
        said.out.lines().count() == 1 && said.out.contains(id.as_str()),
        "{}",
        said.out
    );
    let said = fixture.run(&["dead", "show", id.as_str()]).await?;
    ensure!(
        said.out.contains("attempt 1 on w1: the worker w1 was lost"),
        "{}",
        said.out
    );
    let said = fixture.run(&["dead", "show", "no-such-job"]).await?;
    ensure!(said.code == Some(66) && said.err.contains("no dead job no-such-job"));

    let said = fixture.run(&["dead", "replay", id.as_str()]).await?;
    ensure!(said.code == Some(0), "{}", said.err);
    let jobs = fixture.jetstream.get_stream(stream::JOBS).await?;
    let stored = jobs.direct_get_last_for_subject(subject).await?;
    let replayed = Job::parse(&stored.payload)?;
    ensure!(said.out == format!("{}\n", replayed.id) && replayed.id != job.id);
    ensure!(replayed.labels["replay_of"] == id.as_str());

    let broken = DeadLetter {
        body: "[1]".to_owned(),
        ..letter
    };
    fixture.publish(dead, serde_json::to_vec(&broken)?).await?;
    let said = fixture.run(&["dead", "replay", id.as_str()]).await?;
    ensure!(
        said.code == Some(70) && said.err.contains("is not a JSON object"),
        "{}",
        said.err
    );
    Ok(())
}
