//! What is shown of a job while it goes: its log as it is, and beside it, on standard error, what happens to it.

use std::io;
use std::time::Duration;

use schemas::JobResult;
use schemas::event::Event;
use tokio::sync::mpsc;

use crate::follow::Chunk;
use crate::transcript::{Showing, Transcript};
use crate::waiting::Waiting;

/// 10 s: the last chunks are published before the result, so only a connection that comes back makes them later than that.
const REST_OF_LOG: Duration = Duration::from_secs(10);

/// Where the log is shown.
pub(crate) struct Screen {
    transcript: Transcript,
    waiting: Waiting,
    out: Box<dyn io::Write + Send>,
    /// Whether the end of each attempt's log is told: where a summary follows, it is plain.
    tells_ends: bool,
}

impl Screen {
    /// With the log on standard output, or on standard error where the result goes to standard output.
    pub(crate) fn new(json: bool) -> Self {
        let out: Box<dyn io::Write + Send> = if json {
            Box::new(io::stderr())
        } else {
            Box::new(io::stdout())
        };
        Self {
            transcript: Transcript::default(),
            waiting: Waiting::default(),
            out,
            tells_ends: false,
        }
    }

    /// With the log on standard output, and a word at the end of each attempt.
    pub(crate) fn with_ends() -> Self {
        Self {
            tells_ends: true,
            ..Self::new(false)
        }
    }

    /// Says what happened, where the log does not.
    pub(crate) fn tell(&mut self, event: &Event) {
        if let Some(line) = self.waiting.line(event) {
            eprintln!("{line}");
        }
    }

    /// Shows the next chunk of the live log.
    pub(crate) fn show(&mut self, chunk: &Chunk) -> io::Result<()> {
        let attempt = chunk.header.attempt;
        let lost = match self.transcript.take(&chunk.header) {
            Showing::Skip => return Ok(()),
            Showing::Show { lost } => lost,
            Showing::NewAttempt { lost } => {
                eprintln!("note: attempt {attempt} begins here");
                lost
            }
        };
        if lost > 0 {
            eprintln!("note: chunks of the live log missing here: {lost}");
        }
        self.write(&chunk.bytes)?;
        if chunk.header.eof && self.tells_ends {
            eprintln!("note: the log of attempt {attempt} ends here");
        }
        Ok(())
    }

    /// Shows bytes of the log.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    /// Shows what is left of the log of the result's attempt.
    pub(crate) async fn show_rest(
        &mut self,
        chunks: &mut mpsc::Receiver<Chunk>,
        result: &JobResult,
    ) -> io::Result<()> {
        let Some(log) = &result.log else {
            return Ok(());
        };
        let deadline = tokio::time::sleep(REST_OF_LOG);
        tokio::pin!(deadline);
        while !self.transcript.is_complete(result.attempt) {
            tokio::select! {
                Some(chunk) = chunks.recv() => self.show(&chunk)?,
                () = &mut deadline => {
                    eprintln!("note: the rest of the live log did not come; all of it is at {}", log.uri);
                    return Ok(());
                }
            }
        }
        let lost = log.chunks_lost.max(self.transcript.lost());
        if lost > 0 {
            eprintln!(
                "note: chunks of the live log lost: {lost}; all of it is at {}",
                log.uri
            );
        }
        Ok(())
    }
}
