//! From the spool to the guest: sorted records on one side of a short queue, the agent's session on the other.
//!
//! A blocking thread reads files out of the spool by offset; the session takes what it has room for. What waits between
//! them is at most [`QUEUE`] pieces of [`PIECE`] bytes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tokio::sync::mpsc;
use vm::AgentClient;
use wire::{Entry, EntryKind, PutSpec, PutSummary};

use crate::error::SourceError;
use crate::tree::Extent;

/// 64 KiB: what one frame to the agent holds.
const PIECE: usize = 64 * 1024;

/// 8: half a MiB, enough that the disk and the guest work at the same time.
const QUEUE: usize = 8;

/// One thing to write in the guest, and where its bytes are if it is a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// What the agent is told.
    pub(crate) entry: Entry,
    /// Where a file's bytes are in the spool; `None` for what has none.
    pub(crate) extent: Option<Extent>,
}

/// A piece on its way.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Entry(Entry),
    Bytes(Vec<u8>),
}

/// Sends `records`, in their order, to the agent.
pub(crate) async fn put(
    spool: Arc<File>,
    records: Vec<Record>,
    agent: &AgentClient,
    spec: &PutSpec,
) -> Result<PutSummary, SourceError> {
    let mut put = agent.put(spec).map_err(SourceError::Agent)?;
    let (sender, mut pieces) = mpsc::channel(QUEUE);
    let reader = tokio::task::spawn_blocking(move || read_pieces(&spool, records, &sender));
    while let Some(piece) = pieces.recv().await {
        match piece {
            Piece::Entry(entry) => put.entry(&entry).await,
            Piece::Bytes(bytes) => put.bytes(&bytes).await,
        }
        .map_err(SourceError::Agent)?;
    }
    reader
        .await
        .expect("the reader neither panics nor is it cancelled")?;
    put.finish().await.map_err(SourceError::Agent)
}

/// Reads every record's bytes and sends them on; ends early, without an error, once nobody listens any more.
fn read_pieces(
    spool: &File,
    records: Vec<Record>,
    pieces: &mpsc::Sender<Piece>,
) -> Result<(), SourceError> {
    for Record { entry, extent } in records {
        if pieces.blocking_send(Piece::Entry(entry)).is_err() {
            return Ok(());
        }
        let Some(extent) = extent else { continue };
        for (offset, length) in split(extent) {
            let mut bytes = vec![0; length];
            spool
                .read_exact_at(&mut bytes, offset)
                .map_err(SourceError::Spool)?;
            if pieces.blocking_send(Piece::Bytes(bytes)).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Cuts an extent into pieces: offset and length of each.
pub(crate) fn split(extent: Extent) -> impl Iterator<Item = (u64, usize)> {
    let end = extent.offset + extent.size;
    (extent.offset..end).step_by(PIECE).map(move |offset| {
        let length = usize::try_from(end - offset).map_or(PIECE, |left| left.min(PIECE));
        (offset, length)
    })
}

impl Record {
    /// A record for the agent; `extent` says whether it is a file.
    pub(crate) fn new(
        path: &str,
        kind: EntryKind,
        mode: u32,
        mtime: i64,
        extent: Option<Extent>,
    ) -> Self {
        let entry = Entry {
            path: path.to_owned(),
            kind,
            mode,
            mtime,
        };
        Self { entry, extent }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn an_extent_is_cut_into_pieces_that_cover_it() {
        let extent = Extent {
            offset: 10,
            size: 2 * PIECE as u64 + 1,
        };
        let pieces: Vec<_> = split(extent).collect();
        let piece = PIECE as u64;
        assert_eq!(
            pieces,
            [(10, PIECE), (10 + piece, PIECE), (10 + 2 * piece, 1)]
        );
        assert_eq!(
            split(Extent {
                offset: 10,
                size: 0
            })
            .count(),
            0
        );
    }

    #[tokio::test]
    async fn a_files_bytes_follow_its_entry() {
        let mut spool = tempfile::tempfile().unwrap();
        spool.write_all(b"....hello").unwrap();
        let extent = Extent { offset: 4, size: 5 };
        let directory = Record::new("a", EntryKind::Directory, 0o755, 7, None);
        let file = Record::new("a/b", EntryKind::File { size: 5 }, 0o644, 7, Some(extent));
        let records = vec![directory.clone(), file.clone()];
        let (sender, mut pieces) = mpsc::channel(QUEUE);
        tokio::task::spawn_blocking(move || read_pieces(&spool, records, &sender))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(pieces.recv().await, Some(Piece::Entry(directory.entry)));
        assert_eq!(pieces.recv().await, Some(Piece::Entry(file.entry)));
        assert_eq!(pieces.recv().await, Some(Piece::Bytes(b"hello".to_vec())));
        assert_eq!(pieces.recv().await, None);
    }

    #[tokio::test]
    async fn a_listener_that_leaves_ends_the_reading() {
        let spool = tempfile::tempfile().unwrap();
        let record = Record::new("a", EntryKind::Directory, 0o755, 7, None);
        let (sender, pieces) = mpsc::channel(1);
        drop(pieces);
        let read = move || read_pieces(&spool, vec![record; 100], &sender);
        assert!(tokio::task::spawn_blocking(read).await.unwrap().is_ok());
    }
}
