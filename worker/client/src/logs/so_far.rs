//! The live log as far as it goes now.
//!
//! It ends with the message that was the last when it began, or before it where the stream has let go of the rest: a log that grows for ever
//! is not followed here.

use anyhow::Context as _;
use async_nats::jetstream::Message;
use futures_util::TryStreamExt as _;
use schemas::names::{log_subject, stream};
use tokio::time::timeout;

use crate::follow::Chunk;
use crate::job_name::JobName;
use crate::live;
use crate::outcome::CHUNKS_AHEAD;
use crate::screen::Screen;
use crate::server::{ANSWER_WITHIN, Server};

/// Shows it; says whether there is any.
pub(super) async fn show(server: &Server, job: &JobName) -> anyhow::Result<bool> {
    let subject = log_subject(&job.tenant, &job.id);
    let Some(last) = server.last(stream::LOGS, &subject).await? else {
        return Ok(false);
    };
    let mut screen = Screen::with_ends();
    if !live::may_look_back(server, job).await {
        eprintln!(
            "note: this user may not look back in {}: what follows is the last chunk only; `sourdough logs -f {job}` shows what comes while the job runs",
            stream::LOGS
        );
        if let Some(chunk) = Chunk::read(&last.headers, &last.payload) {
            screen.show(&chunk)?;
        }
        return Ok(true);
    }
    let mut from = 1;
    while from <= last.sequence {
        let batch = batch(server, job, from).await?;
        let Some(latest) = batch.last() else { break };
        from = sequence(latest)? + 1;
        show_all(&mut screen, &batch)?;
    }
    Ok(true)
}

/// The next messages; none where there are no more. Through a consumer of its own: the server would forget one while a reader takes its time.
async fn batch(server: &Server, job: &JobName, from: u64) -> anyhow::Result<Vec<Message>> {
    let name = format!("log-{}-{}-{from}", job.id, std::process::id());
    let consumer = live::consumer(server, job, name, from).await?;
    let fetched = async {
        let batch = consumer.fetch().max_messages(CHUNKS_AHEAD).messages();
        let messages = batch.await?.try_collect::<Vec<_>>().await;
        messages.map_err(anyhow::Error::from_boxed)
    };
    let fetched = timeout(ANSWER_WITHIN, fetched).await;
    fetched.with_context(|| format!("read the live log of job {}", job.id))?
}

/// What is no chunk is left out.
fn show_all(screen: &mut Screen, messages: &[Message]) -> anyhow::Result<()> {
    for message in messages {
        if let Some(headers) = &message.headers
            && let Some(chunk) = Chunk::read(headers, &message.payload)
        {
            screen.show(&chunk)?;
        }
    }
    Ok(())
}

fn sequence(message: &Message) -> anyhow::Result<u64> {
    let info = message.info().map_err(anyhow::Error::from_boxed)?;
    Ok(info.stream_sequence)
}
