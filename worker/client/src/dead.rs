//! `sourdough dead`: jobs that ran out of attempts.

mod listing;
mod replay;

use std::io::{self, Write as _};
use std::process::ExitCode;

use async_nats::jetstream::message::StreamMessage;
use schemas::dead::DeadLetter;
use schemas::names::{dead_subject, stream};

use crate::args::{List, Outcome, Replay};
use crate::interrupt::Interrupt;
use crate::job_name::JobName;
use crate::logs::in_words;
use crate::server::Server;
use crate::summary::one_line;
use crate::{exit, outcome, publish, submit};
use listing::Listing;

/// Prints all of them, the oldest first, each as it comes: there may be more than memory has room for.
pub(crate) async fn list(list: &List) -> anyhow::Result<ExitCode> {
    let server = Server::connect(&list.servers).await?;
    let tenant = list.tenant.as_ref().map_or("*", |tenant| tenant.as_str());
    let subject = format!("build.dead.{tenant}.*");
    let mut listing = Listing::begin(io::stdout(), list.json)?;
    let mut from = 1;
    while let Some(message) = server.next(stream::DEAD, &subject, from).await? {
        from = message.sequence + 1;
        if let Some(letter) = letter(&message) {
            listing.add(&letter)?;
        }
    }
    listing.end()?;
    Ok(ExitCode::SUCCESS)
}

/// Prints one of them.
pub(crate) async fn show(asked: &Outcome) -> anyhow::Result<ExitCode> {
    let job = asked.job.name();
    let server = Server::connect(&asked.job.servers).await?;
    let Some(letter) = find(&server, &job).await? else {
        return Ok(missing(&job));
    };
    if asked.json {
        outcome::print_json(&letter)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = io::stdout().lock();
    for line in lines(&letter) {
        writeln!(out, "{line}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Publishes one of them again.
pub(crate) async fn replay(asked: &Replay, interrupt: &mut Interrupt) -> anyhow::Result<ExitCode> {
    let dead = asked.job.name();
    let server = interrupt.or(Server::connect(&asked.job.servers)).await?;
    let Some(letter) = interrupt.or(find(&server, &dead)).await? else {
        return Ok(missing(&dead));
    };
    let (subject, job) = replay::of(&letter)?;
    let name = JobName {
        tenant: subject.tenant.clone(),
        id: job.id.into(),
    };
    let published = publish::publish(&server, &subject, &job, None);
    interrupt.or_leave(name.clone(), published).await?;
    let told = Box::pin(submit::told(&server, &name, asked.wait, asked.json));
    interrupt.or_leave(name.clone(), told).await
}

async fn find(server: &Server, job: &JobName) -> anyhow::Result<Option<DeadLetter>> {
    let subject = dead_subject(&job.tenant, &job.id);
    let Some(message) = server.last(stream::DEAD, &subject).await? else {
        return Ok(None);
    };
    let parsed = DeadLetter::parse(&message.payload);
    Ok(Some(parsed.map_err(|error| {
        anyhow::anyhow!("read the dead letter {subject}: {error}")
    })?))
}

fn missing(job: &JobName) -> ExitCode {
    exit::not_found(&format!("tenant {} has no dead job {}", job.tenant, job.id))
}

/// The one in a message; of one that cannot be read it is said that it is there.
fn letter(message: &StreamMessage) -> Option<DeadLetter> {
    let parsed = DeadLetter::parse(&message.payload);
    let warn = |error: &_| eprintln!("warning: {} cannot be read: {error}", message.subject);
    parsed.inspect_err(warn).ok()
}

/// One of them in full: what happened, and the body as it was published.
fn lines(letter: &DeadLetter) -> Vec<String> {
    let mut lines = vec![
        format!("job        {}", letter.job_id),
        format!("subject    {}", one_line(&letter.subject)),
        format!(
            "ended      {:.0}, {}: {}",
            letter.time,
            one_line(&letter.reason.to_string()),
            one_line(&letter.message)
        ),
    ];
    for (index, attempt) in letter.attempts.iter().enumerate() {
        let words = in_words(index + 1, attempt);
        lines.push(format!(
            "attempts   {words}, begun {:.0}",
            attempt.started_at
        ));
    }
    lines.push(format!("body       {}", one_line(&letter.body)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &[u8] = include_bytes!("../../../schemas/examples/dead-letter.json");

    #[test]
    fn a_dead_letter_is_told_in_full() {
        let letter = DeadLetter::parse(GOLDEN).unwrap();
        let lines = lines(&letter);
        assert_eq!(
            lines[3],
            "attempts   attempt 1 on w1: the worker w1 was lost, begun 2026-11-24T08:00:01Z"
        );
        assert!(lines[4].starts_with("body       {\"id\""), "{lines:?}");
    }
}
