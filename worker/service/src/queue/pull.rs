//! Asking the server: which subjects have jobs, and for one job of a subject.
//!
//! The requests are written here and not taken from the client: its pull begins with a question for the consumer, and its list of subjects
//! asks for a second page where the first is all. A pull without waiting is one request with one answer.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::client::{Request, RequestErrorKind};
use async_nats::jetstream::{self, Message};
use async_nats::{Client, StatusCode};
use schemas::names::stream;
use schemas::{JobSubject, Token, Trust};
use serde::Deserialize;
use tracing::debug;

use super::turns::Line;

/// 5 s for an answer that takes a millisecond: longer, and the server is away.
const ANSWER: Duration = Duration::from_secs(5);

/// How long a pull waits for a job whose publish was heard: the stream may store it a moment later.
const STORED_WITHIN: Duration = Duration::from_millis(100);

/// Why the queue could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum PullError {
    /// For a job.
    #[error("ask for a job of {subject}")]
    Job {
        /// The subject.
        subject: JobSubject,
        /// What the client said.
        #[source]
        source: async_nats::RequestError,
    },
    /// For a job, and the server refused.
    #[error("ask for a job of {subject}: {status} {description}")]
    Refused {
        /// The subject.
        subject: JobSubject,
        /// Its status.
        status: StatusCode,
        /// Its words.
        description: String,
    },
    /// For the subjects.
    #[error("ask for the subjects of BUILD_JOBS")]
    Subjects(#[source] jetstream::context::RequestError),
    /// For the subjects, and the server refused.
    #[error("ask for the subjects of BUILD_JOBS: {0}")]
    Stream(jetstream::Error),
}

/// What the server has for us.
#[derive(Debug)]
pub(super) enum Pulled {
    /// A job.
    Job(Box<Message>),
    /// None.
    Nothing,
    /// Nobody made the subject's consumer yet.
    NoConsumer,
}

/// The queue of one pool.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    pub(super) client: Client,
    pub(super) jetstream: jetstream::Context,
    /// Its name.
    pub(super) name: Token,
    /// Whose jobs are taken.
    pub(super) trust: Vec<Trust>,
}

impl Pool {
    /// The lines that have jobs, and how many; those under way included.
    pub(super) async fn lines(&self) -> Result<Vec<(Line, u64)>, PullError> {
        let mut lines = Vec::new();
        let mut seen = 0;
        loop {
            let page = self.page(seen).await?;
            let subjects = page.state.subjects.unwrap_or_default();
            seen += subjects.len();
            let more = !subjects.is_empty() && seen < page.total;
            let ours = subjects
                .into_iter()
                .filter_map(|(subject, jobs)| Some((self.line_of(&subject)?, jobs)));
            lines.extend(ours);
            if !more {
                return Ok(lines);
            }
        }
    }

    async fn page(&self, offset: usize) -> Result<Page, PullError> {
        let subject = format!("STREAM.INFO.{}", stream::JOBS);
        let filter = JobSubject::filter(&self.name);
        let body = serde_json::json!({"offset": offset, "subjects_filter": filter});
        let asked = self.jetstream.request(subject, &body).await;
        match asked.map_err(PullError::Subjects)? {
            jetstream::response::Response::Ok(page) => Ok(page),
            jetstream::response::Response::Err { error } => Err(PullError::Stream(error)),
        }
    }

    /// The line of a subject, if its jobs may run here.
    pub(super) fn line_of(&self, subject: &str) -> Option<Line> {
        let subject: JobSubject = subject.parse().ok()?;
        let ours = subject.pool == self.name && self.trust.contains(&subject.trust);
        ours.then_some(Line {
            priority: subject.priority,
            tenant: subject.tenant,
            trust: subject.trust,
        })
    }

    /// One job of a line; `heard` says that one was published just now.
    pub(super) async fn pull(&self, line: &Line, heard: bool) -> Result<Pulled, PullError> {
        let subject = self.subject_of(line);
        let consumer = subject.consumer();
        let next = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{consumer}", stream::JOBS);
        let body = if heard {
            serde_json::json!({"batch": 1, "expires": STORED_WITHIN.as_nanos()})
        } else {
            serde_json::json!({"batch": 1, "no_wait": true})
        };
        let request = Request::new()
            .payload(body.to_string().into())
            // A job comes under its own subject, which the client's common inbox would not know.
            .inbox(self.client.new_inbox())
            .timeout(Some(ANSWER));
        match self.client.send_request(next, request).await {
            Ok(answer) => self.read(answer, subject),
            Err(error) if error.kind() == RequestErrorKind::NoResponders => Ok(Pulled::NoConsumer),
            Err(source) => Err(PullError::Job { subject, source }),
        }
    }

    fn subject_of(&self, line: &Line) -> JobSubject {
        JobSubject {
            pool: self.name.clone(),
            trust: line.trust,
            priority: line.priority,
            tenant: line.tenant.clone(),
        }
    }

    fn read(&self, answer: async_nats::Message, subject: JobSubject) -> Result<Pulled, PullError> {
        let Some(status) = answer.status else {
            let context = self.jetstream.clone();
            let message = Message {
                message: answer,
                context,
            };
            return Ok(Pulled::Job(Box::new(message)));
        };
        let description = answer.description.unwrap_or_default();
        match status {
            StatusCode::NOT_FOUND | StatusCode::TIMEOUT => Ok(Pulled::Nothing),
            // The consumer was deleted, or its leader changed: the next listing says whether there is something.
            StatusCode::REQUEST_TERMINATED => {
                debug!(%subject, description, "a pull was ended by the server");
                Ok(Pulled::Nothing)
            }
            status => Err(PullError::Refused {
                subject,
                status,
                description,
            }),
        }
    }
}

/// What is used of the stream's description.
#[derive(Debug, Deserialize)]
struct Page {
    /// Subjects in all pages.
    #[serde(default)]
    total: usize,
    state: State,
}

#[derive(Debug, Deserialize)]
struct State {
    #[serde(default)]
    subjects: Option<HashMap<String, u64>>,
}
