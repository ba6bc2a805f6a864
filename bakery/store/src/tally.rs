//! The running sums of one transfer.

use crate::progress::{Direction, Progress, Transfer};

/// The running sums of one transfer, told to whoever follows it.
pub(crate) struct Tally<'a> {
    progress: &'a dyn Progress,
    so_far: Transfer,
}

impl<'a> Tally<'a> {
    /// A transfer of `chunks` chunks with `bytes` plain bytes begins.
    pub(crate) fn new(
        progress: &'a dyn Progress,
        what: Direction,
        chunks: u64,
        bytes: u64,
    ) -> Self {
        let tally = Self {
            progress,
            so_far: Transfer {
                what,
                bytes_done: 0,
                bytes_total: bytes,
                chunks_done: 0,
                chunks_total: chunks,
                chunks_saved: 0,
            },
        };
        tally.progress.advanced(&tally.so_far);
        tally
    }

    /// `chunks` chunks of together `bytes` plain bytes are dealt with, `saved` of them without the network.
    pub(crate) fn done(&mut self, chunks: u64, bytes: u64, saved: u64) {
        self.so_far.chunks_done += chunks;
        self.so_far.bytes_done += bytes;
        self.so_far.chunks_saved += saved;
        self.progress.advanced(&self.so_far);
    }

    /// A chunk of `bytes` turned out to be zeros and counts no more.
    pub(crate) fn zero(&mut self, bytes: u64) {
        self.so_far.chunks_total -= 1;
        self.so_far.bytes_total -= bytes;
        self.progress.advanced(&self.so_far);
    }

    /// What has been told last.
    pub(crate) fn so_far(&self) -> &Transfer {
        &self.so_far
    }
}
