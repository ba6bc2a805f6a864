//! The live log: chunks go to a task of its own, which waits for the server's confirmations.
//!
//! What always holds: a server that takes no more holds a build up once, for [`PATIENCE`], and then no more until it has confirmed
//! something; what was left out meanwhile is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::context::PublishAckFuture;
use async_nats::{HeaderMap, jetstream};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use schemas::Token;
use schemas::log::{ChunkHeader, LogStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Chunks that wait to be published: 4 MiB at most.
const QUEUE: usize = 64;

/// Chunks that are published and not yet confirmed.
const UNCONFIRMED: usize = 32;

/// How long a build is held up by a live log that does not take more.
const PATIENCE: Duration = Duration::from_secs(5);

/// The live log of one attempt. Dropping it publishes nothing more.
#[derive(Debug)]
pub(super) struct Live {
    /// None once the end was sent.
    chunks: Option<mpsc::Sender<(HeaderMap, Bytes)>>,
    publisher: JoinHandle<()>,
    finished: bool,
    /// Chunks that the server has.
    confirmed: Arc<AtomicU64>,
    attempt: u32,
    seq: u64,
    /// How many were confirmed when a chunk was not taken in time.
    stuck_at: Option<u64>,
}

impl Live {
    pub(super) fn start(jetstream: jetstream::Context, subject: String, attempt: u32) -> Self {
        let (chunks, queue) = mpsc::channel(QUEUE);
        let confirmed = Arc::new(AtomicU64::new(0));
        let publisher = tokio::spawn(publish(jetstream, subject, queue, Arc::clone(&confirmed)));
        Self {
            chunks: Some(chunks),
            publisher,
            finished: false,
            confirmed,
            attempt,
            seq: 0,
            stuck_at: None,
        }
    }

    /// Adds a chunk of a step's output.
    pub(super) async fn send(&mut self, step: &Token, stream: LogStream, bytes: &[u8]) {
        self.publish(Some(step), stream, bytes, false).await;
    }

    /// Marks the end; `words` are the worker's own.
    pub(super) async fn end(&mut self, words: &[u8]) {
        self.publish(None, LogStream::System, words, true).await;
        self.chunks = None;
    }

    /// Waits until what was sent is confirmed, but no longer than that, and gives the number of chunks that were not.
    pub(super) async fn finish(&mut self, within: Duration) -> u64 {
        self.chunks = None;
        if !self.finished {
            self.finished = tokio::time::timeout(within, &mut self.publisher)
                .await
                .is_ok();
        }
        self.seq - self.confirmed()
    }

    async fn publish(&mut self, step: Option<&Token>, stream: LogStream, bytes: &[u8], eof: bool) {
        let Some(chunks) = self.chunks.clone() else {
            return;
        };
        self.seq += 1;
        let header = ChunkHeader {
            attempt: self.attempt,
            step: step.cloned(),
            stream,
            seq: self.seq,
            time: Timestamp::now(),
            eof,
        };
        let patience = if self.stuck_at == Some(self.confirmed()) {
            Duration::ZERO
        } else {
            PATIENCE
        };
        let chunk = (headers(&header), Bytes::copy_from_slice(bytes));
        if chunks.send_timeout(chunk, patience).await.is_err() {
            self.stuck_at = Some(self.confirmed());
        }
    }

    fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::Relaxed)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.publisher.abort();
    }
}

/// A chunk's headers, as a message has them.
pub(super) fn headers(header: &ChunkHeader) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in header.to_pairs() {
        headers.insert(name, value);
    }
    headers
}

/// Publishes chunks in order, some of them unconfirmed at a time.
async fn publish(
    jetstream: jetstream::Context,
    subject: String,
    mut queue: mpsc::Receiver<(HeaderMap, Bytes)>,
    confirmed: Arc<AtomicU64>,
) {
    let mut unconfirmed = FuturesUnordered::new();
    while let Some((headers, bytes)) = queue.recv().await {
        let published = jetstream.publish_with_headers(subject.clone(), headers, bytes);
        if let Ok(confirmation) = published.await {
            unconfirmed.push(confirmation.into_future());
        }
        if unconfirmed.len() >= UNCONFIRMED {
            count(unconfirmed.next().await.as_ref(), &confirmed);
        }
    }
    while let Some(done) = unconfirmed.next().await {
        count(Some(&done), &confirmed);
    }
}

/// What a [`PublishAckFuture`] gives in the end.
type Confirmed = <PublishAckFuture as IntoFuture>::Output;

fn count(done: Option<&Confirmed>, confirmed: &AtomicU64) {
    if let Some(Ok(_)) = done {
        confirmed.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_away_holds_a_build_up_once() {
        let away = async_nats::ConnectOptions::new().retry_on_initial_connect();
        let client = away.connect("nats://127.0.0.1:1").await.unwrap();
        let mut live = Live::start(jetstream::new(client), "build.log.acme.1".into(), 1);
        let step = "build".parse().unwrap();
        let begun = Instant::now();
        let many = 20 * (QUEUE + UNCONFIRMED) as u64;
        for _ in 0..many {
            live.send(&step, LogStream::Stdout, b"x").await;
        }
        assert!(begun.elapsed() <= 2 * PATIENCE, "{:?}", begun.elapsed());
        live.end(b"").await;
        assert_eq!(live.finish(PATIENCE).await, many + 1);
        assert!(begun.elapsed() <= 4 * PATIENCE, "{:?}", begun.elapsed());
    }
}
