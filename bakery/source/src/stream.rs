//! The bytes of an archive on their way to the tar reader: decompressed, counted, and copied to the spool.
//!
//! ```text
//! stored file ─▶ zstd ─▶ Spooling (limits, copy) ─▶ tar reader
//!                             │
//!                             ▼
//!                        spool file, in which entries are found again by offset
//! ```
//!
//! A reader can only say `io::Error`. Whose fault it was is kept beside it, in [`Trouble`], by whoever knew.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};

use crate::error::{Refusal, SourceError};
use crate::limits::Limits;

/// 128 MiB: the largest window that `zstd -19 --long` writes by default, and so the most that decompressing may take.
const WINDOW_LOG: u32 = 27;

/// The first thing that went wrong inside the readers, if it was not the archive's own format.
#[derive(Default)]
pub(crate) struct Trouble(Cell<Option<SourceError>>);

impl Trouble {
    /// Keeps the first error and gives the reader something to return.
    fn keep(&self, error: SourceError) -> io::Error {
        let first = self.0.take().unwrap_or(error);
        self.0.set(Some(first));
        io::Error::other("stopped")
    }

    /// What `error`, as the tar reader returned it, really was.
    pub(crate) fn explain(&self, error: io::Error) -> SourceError {
        self.0.take().unwrap_or(SourceError::Format(error))
    }
}

/// Decompressed bytes, copied to `spool` as they pass.
pub(crate) struct Spooling<'a> {
    from: zstd::Decoder<'static, BufReader<Stored<'a>>>,
    spool: BufWriter<&'a File>,
    left: u64,
    refusal: Refusal,
    trouble: &'a Trouble,
}

impl<'a> Spooling<'a> {
    /// Reads `archive`, which is `archive_bytes` long, from where it stands.
    pub(crate) fn new(
        archive: &'a File,
        archive_bytes: u64,
        spool: &'a File,
        limits: &Limits,
        trouble: &'a Trouble,
    ) -> io::Result<Self> {
        let mut from = zstd::Decoder::new(Stored {
            file: archive,
            trouble,
        })?;
        from.window_log_max(WINDOW_LOG)?;
        let by_ratio = limits.bytes_by_ratio(archive_bytes);
        let (left, refusal) = if by_ratio < limits.max_total_bytes {
            (by_ratio, Refusal::Ratio(limits.max_ratio))
        } else {
            (
                limits.max_total_bytes,
                Refusal::TooLarge(limits.max_total_bytes),
            )
        };
        Ok(Self {
            from,
            spool: BufWriter::with_capacity(256 * 1024, spool),
            left,
            refusal,
            trouble,
        })
    }

    /// Writes what is still buffered to the spool.
    pub(crate) fn finish(mut self) -> Result<(), SourceError> {
        self.spool.flush().map_err(SourceError::Spool)
    }
}

impl Read for Spooling<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            self.trouble
                .keep(SourceError::Refused(self.refusal.clone()))
        })?;
        self.spool
            .write_all(&buffer[..count])
            .map_err(|error| self.trouble.keep(SourceError::Spool(error)))?;
        Ok(count)
    }
}

/// The archive as stored. It lies on the host's own disk: not being able to read it is the host's trouble.
struct Stored<'a> {
    file: &'a File,
    trouble: &'a Trouble,
}

impl Read for Stored<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file
            .read(buffer)
            .map_err(|error| self.trouble.keep(SourceError::Spool(error)))
    }
}
