//! Bytes that are counted and hashed as they pass.

use std::io::{self, Read, Write};

use schemas::Sha256Digest;
use sha2::{Digest, Sha256};

/// A reader or writer with the count and digest of what has passed through it.
pub(crate) struct Digesting<T> {
    inner: T,
    hasher: Sha256,
    count: u64,
    failure: Option<io::Error>,
}

impl<T> Digesting<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            count: 0,
            failure: None,
        }
    }

    /// The error that the inner reader gave, if it gave one: what stands between it and the caller may have wrapped it.
    pub(crate) fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// The inner value, and the count and digest of what has passed.
    pub(crate) fn finish(self) -> (T, u64, Sha256Digest) {
        let digest = Sha256Digest::from_bytes(self.hasher.finalize().into());
        (self.inner, self.count, digest)
    }

    fn take(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.count += bytes.len() as u64;
    }
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(count) => {
                self.take(&buffer[..count]);
                Ok(count)
            }
            Err(error) => {
                let told = io::Error::new(error.kind(), "the stream broke off");
                self.failure = Some(error);
                Err(told)
            }
        }
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.take(&buffer[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
