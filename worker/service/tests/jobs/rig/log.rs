//! The live log of a job, as a reader sees it.

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use schemas::Token;
use schemas::log::{ChunkHeader, LogStream};
use schemas::names::{self, stream};
use tokio::time::timeout;

use super::{PATIENCE, Rig};

/// One chunk.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) header: ChunkHeader,
    pub(crate) text: String,
}

impl Chunk {
    /// Whether it is the worker's own last remark of an attempt.
    pub(crate) fn is_end_of(&self, attempt: u32) -> bool {
        let ChunkHeader {
            attempt: of,
            eof,
            stream,
            ..
        } = &self.header;
        *of == attempt && *eof && *stream == LogStream::System
    }
}

impl Rig {
    /// Waits until the log has a chunk like that; gives it.
    pub(crate) async fn chunk(
        &self,
        job: &Token,
        wanted: impl Fn(&Chunk) -> bool,
    ) -> Result<Chunk> {
        let subject = names::log_subject(&self.tenant(), job);
        let mut chunks = self.followed(stream::LOGS, subject).await?;
        let read = async {
            while let Some(message) = chunks.next().await {
                let message = message?;
                let headers = message.headers.clone().unwrap_or_default();
                let value_of = |name: &str| headers.get(name).map(async_nats::HeaderValue::as_str);
                let chunk = Chunk {
                    header: ChunkHeader::read(value_of)?,
                    text: String::from_utf8_lossy(&message.payload).into_owned(),
                };
                if wanted(&chunk) {
                    return Ok(chunk);
                }
            }
            anyhow::bail!("the log ends")
        };
        timeout(PATIENCE, read).await.context("no such chunk")?
    }

    /// Waits until a step of the job has written that.
    pub(crate) async fn written(&self, job: &Token, text: &str) -> Result<()> {
        self.chunk(job, |chunk| chunk.text.contains(text)).await?;
        Ok(())
    }

    /// Waits until the attempt's log has its end; gives the last words.
    pub(crate) async fn last_words(&self, job: &Token, attempt: u32) -> Result<String> {
        let end = self.chunk(job, |chunk| chunk.is_end_of(attempt)).await?;
        Ok(end.text)
    }
}
