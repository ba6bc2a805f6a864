//! What a bake tells while it goes on. Where it is told is somebody else's business.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use schemas::bake::BakeEventKind;
use schemas::result::LogRef;
use schemas::{Sha256Digest, Token};
use setup::Happened;

use crate::error::BakeError;

/// Something that happened in a bake: what stands in its event and is not the same in all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct News {
    /// What kind of thing.
    pub kind: BakeEventKind,
    /// The same in one sentence for a person.
    pub message: String,
    /// The snapshot key, once it is known.
    pub key: Option<Sha256Digest>,
    /// One word that says why.
    pub reason: Option<String>,
    /// The setup step that it is about.
    pub step: Option<Token>,
    /// The end of that step's output.
    pub output: Option<String>,
    /// The whole output, where it was stored.
    pub log: Option<LogRef>,
}

/// Where news goes.
#[async_trait]
pub trait Reporter: Send + Sync {
    /// Tells it. That it cannot be told does not stop a bake.
    async fn tell(&self, news: News);
}

impl News {
    /// News without anything but a sentence.
    pub fn new(kind: BakeEventKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            key: None,
            reason: None,
            step: None,
            output: None,
            log: None,
        }
    }

    /// With a reason.
    #[must_use]
    pub fn because(mut self, reason: &str) -> Self {
        self.reason = Some(reason.to_owned());
        self
    }

    /// With the key.
    #[must_use]
    pub fn with_key(mut self, key: Sha256Digest) -> Self {
        self.key = Some(key);
        self
    }
}

/// Tells on what a setup tells, as news of its bake.
pub(crate) struct OfSetup<'a> {
    /// What is being set up: `template node`.
    pub(crate) what: &'a str,
    /// Where the bake's news goes.
    pub(crate) news: &'a dyn Reporter,
}

#[async_trait]
impl setup::News for OfSetup<'_> {
    async fn tell(&self, happened: Happened<'_>) {
        let what = self.what;
        let (step, message) = match happened {
            // The output of a step is told once, at its end.
            Happened::StepStarted { .. } | Happened::Output { .. } => return,
            Happened::StepFinished { step, took } => {
                let message = format!("{what}, setup step {step}: {}", seconds(took));
                (Some(step.clone()), message)
            }
            Happened::WayOutClosed { counters } => {
                let hosts: Vec<_> = counters.denied_hosts.iter().map(String::as_str).collect();
                let message = format!(
                    "{what}, way out closed: {} connections, {} refused {}",
                    counters.allowed,
                    counters.denied,
                    hosts.join(" ")
                );
                (None, message.trim_end().to_owned())
            }
        };
        let mut news = News::new(BakeEventKind::StepFinished, message);
        news.step = step;
        self.news.tell(news).await;
    }
}

/// Does a part of a bake, and tells what it was and how long it took once it is done.
pub(crate) async fn timed<T>(
    news: &dyn Reporter,
    what: &str,
    doing: impl Future<Output = Result<T, BakeError>>,
) -> Result<T, BakeError> {
    let begun = Instant::now();
    let done = doing.await?;
    let message = format!("{what}: {}", seconds(begun.elapsed()));
    news.tell(News::new(BakeEventKind::StepFinished, message))
        .await;
    Ok(done)
}

/// A duration as a person reads it.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Keeps what it is told.
    #[derive(Default)]
    pub(crate) struct Heard(pub(crate) Mutex<Vec<News>>);

    #[async_trait]
    impl Reporter for Heard {
        async fn tell(&self, news: News) {
            self.0.lock().unwrap().push(news);
        }
    }
}
