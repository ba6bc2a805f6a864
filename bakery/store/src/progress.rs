//! How far a transfer is: what a progress bar or a log line is made of.

/// Who is told how a transfer advances. The calls come often and from several threads: they must not block.
pub trait Progress: Send + Sync {
    /// The transfer has come this far. What is done never falls; the totals may, where a publication took zeros for something.
    /// The last call of a transfer has everything done.
    fn advanced(&self, transfer: &Transfer);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn advanced(&self, _: &Transfer) {}
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Which way the bytes go.
    pub what: Direction,
    /// Plain bytes dealt with: sent, received, copied, or found to be there.
    pub bytes_done: u64,
    /// Plain bytes of all chunks that are not zero; an upper limit while a publication still looks for zeros.
    pub bytes_total: u64,
    /// Chunks dealt with.
    pub chunks_done: u64,
    /// All chunks that are not zero.
    pub chunks_total: u64,
    /// Of those done, how many crossed no network: they were there already.
    pub chunks_saved: u64,
}

/// Which way the bytes of a transfer go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the object store: a publication.
    Upload,
    /// From the object store: a fetch.
    Download,
}
