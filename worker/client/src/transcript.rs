//! Which chunk of a live log is shown: each attempt's in order, none twice, and none of an attempt that another has overtaken.

use schemas::log::ChunkHeader;

/// What has been shown so far.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    attempt: u32,
    last_seq: u64,
    ended: bool,
    lost: u64,
}

/// What to do with a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Showing {
    /// Show it. So many before it are missing.
    Show {
        /// Chunks between the one shown last and this one.
        lost: u64,
    },
    /// Say that the build was started again, then show it. So many before it are missing.
    NewAttempt {
        /// Chunks of this attempt before this one.
        lost: u64,
    },
    /// Leave it out: it was shown, or its attempt has been overtaken.
    Skip,
}

impl Transcript {
    /// Decides about the next chunk of the stream.
    pub(crate) fn take(&mut self, chunk: &ChunkHeader) -> Showing {
        let overtaken = chunk.attempt < self.attempt;
        let repeated = chunk.attempt == self.attempt && chunk.seq <= self.last_seq;
        if overtaken || repeated {
            return Showing::Skip;
        }
        let again = self.attempt != 0 && chunk.attempt > self.attempt;
        if chunk.attempt > self.attempt {
            *self = Self {
                attempt: chunk.attempt,
                ..Self::default()
            };
        }
        let lost = chunk.seq.saturating_sub(self.last_seq + 1);
        self.last_seq = chunk.seq;
        self.ended = chunk.eof;
        self.lost += lost;
        if again {
            Showing::NewAttempt { lost }
        } else {
            Showing::Show { lost }
        }
    }

    /// Whether the log of `attempt` has been shown to its end.
    pub(crate) fn is_complete(&self, attempt: u32) -> bool {
        self.attempt > attempt || (self.attempt == attempt && self.ended)
    }

    /// How many chunks of the attempt shown last are missing.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use schemas::log::LogStream;

    use super::*;

    fn chunk(attempt: u32, seq: u64) -> ChunkHeader {
        ChunkHeader {
            attempt,
            step: None,
            stream: LogStream::Stdout,
            seq,
            time: jiff::Timestamp::UNIX_EPOCH,
            eof: false,
        }
    }

    fn shown(chunks: &[(u32, u64)]) -> Vec<Showing> {
        let mut transcript = Transcript::default();
        chunks
            .iter()
            .map(|(attempt, seq)| transcript.take(&chunk(*attempt, *seq)))
            .collect()
    }

    #[test]
    fn chunks_in_order_are_shown() {
        assert_eq!(shown(&[(1, 1), (1, 2)]), [Showing::Show { lost: 0 }; 2]);
    }

    #[test]
    fn a_chunk_that_comes_twice_is_shown_once() {
        assert_eq!(shown(&[(1, 1), (1, 1)])[1], Showing::Skip);
    }

    #[test]
    fn a_gap_is_told() {
        assert_eq!(shown(&[(1, 1), (1, 4)])[1], Showing::Show { lost: 2 });
        assert_eq!(shown(&[(1, 3)]), [Showing::Show { lost: 2 }]);
    }

    #[test]
    fn a_new_attempt_overtakes_the_old_one() {
        let shown = shown(&[(1, 1), (2, 1), (1, 2), (2, 2)]);
        assert_eq!(
            shown[1..],
            [
                Showing::NewAttempt { lost: 0 },
                Showing::Skip,
                Showing::Show { lost: 0 }
            ]
        );
    }

    #[test]
    fn a_log_is_complete_with_the_last_chunk_of_its_attempt() {
        let mut transcript = Transcript::default();
        transcript.take(&ChunkHeader {
            eof: true,
            ..chunk(1, 1)
        });
        assert!(transcript.is_complete(1));
        assert!(!transcript.is_complete(2));
        transcript.take(&chunk(2, 1));
        assert!(transcript.is_complete(1) && !transcript.is_complete(2));
    }
}
