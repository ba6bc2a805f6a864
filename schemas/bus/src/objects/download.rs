//! An object that is being read.

use std::pin::Pin;
use std::task::{Context, Poll};

use aws_sdk_s3::primitives::ByteStream;
use tokio::io::{AsyncRead, ReadBuf};

/// An object that is being read: its size, as the server says, and its bytes, as they come.
pub struct Download {
    /// The size that the server announced.
    pub size: u64,
    reader: Pin<Box<dyn AsyncRead + Send>>,
}

impl Download {
    pub(super) fn new(size: u64, body: ByteStream) -> Self {
        Self {
            size,
            reader: Box::pin(body.into_async_read()),
        }
    }
}

impl AsyncRead for Download {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.reader.as_mut().poll_read(context, buffer)
    }
}
