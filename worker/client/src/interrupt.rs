//! The interrupt from the keyboard, for as long as there is something to give up.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::job_name::JobName;

/// The work was given up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Interrupted {
    /// Before anything was published.
    #[error("interrupted")]
    Work,
    /// While a job was published or waited for.
    #[error(
        "interrupted; the job goes on: `sourdough wait {0}` or `sourdough logs -f {0}` comes back to it, `sourdough cancel {0}` ends it"
    )]
    Waiting(JobName),
}

/// Hears the interrupt. One that comes between two pieces of work is heard by the second.
#[derive(Debug)]
pub(crate) struct Interrupt(Signal);

impl Interrupt {
    /// Listens from now on, in place of the process's death.
    pub(crate) fn listen() -> io::Result<Self> {
        signal(SignalKind::interrupt()).map(Self)
    }

    /// Does `work`, or gives it up with the error [`Interrupted::Work`].
    pub(crate) async fn or<T, E: Into<anyhow::Error>>(
        &mut self,
        work: impl Future<Output = Result<T, E>>,
    ) -> anyhow::Result<T> {
        self.or_with(Interrupted::Work, work).await
    }

    /// The same for work at a job that goes on without it: the error says how to come back to `job`.
    pub(crate) async fn or_leave<T, E: Into<anyhow::Error>>(
        &mut self,
        job: JobName,
        work: impl Future<Output = Result<T, E>>,
    ) -> anyhow::Result<T> {
        self.or_with(Interrupted::Waiting(job), work).await
    }

    async fn or_with<T, E: Into<anyhow::Error>>(
        &mut self,
        given_up: Interrupted,
        work: impl Future<Output = Result<T, E>>,
    ) -> anyhow::Result<T> {
        tokio::select! {
            done = work => done.map_err(Into::into),
            Some(()) = self.0.recv() => Err(given_up.into()),
        }
    }
}
