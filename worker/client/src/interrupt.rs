//! The interrupt from the keyboard, for as long as there is something to give up.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The work was given up.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

/// Hears the interrupt. One that comes between two pieces of work is heard by the second.
#[derive(Debug)]
pub(crate) struct Interrupt(Signal);

impl Interrupt {
    /// Listens from now on, in place of the process's death.
    pub(crate) fn listen() -> io::Result<Self> {
        signal(SignalKind::interrupt()).map(Self)
    }

    /// Does `work`, or gives it up with the error [`Interrupted`].
    pub(crate) async fn or<T, E: Into<anyhow::Error>>(
        &mut self,
        work: impl Future<Output = Result<T, E>>,
    ) -> anyhow::Result<T> {
        tokio::select! {
            done = work => done.map_err(Into::into),
            Some(()) = self.0.recv() => Err(Interrupted.into()),
        }
    }
}
