//! A guest's connection to its proxy port, as a byte stream of the host's.
//!
//! A pair of tasks pumps between the channel and one end of an in-memory pipe; whoever serves the connection holds the
//! other end and needs to know nothing of frames.
//!
//! What always holds: a half-close travels both ways; a [`Tunnel`] that is dropped before it was shut down resets the guest's
//! connection, and one that is dropped after has what it was given delivered.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf, WriteHalf,
};
use tokio::task::JoinHandle;
use wire::frame::MAX_DATA;

use crate::session::{Channel, Incoming, Sender};

/// One connection from inside the guest.
#[derive(Debug)]
pub struct Tunnel {
    stream: DuplexStream,
    pump: JoinHandle<()>,
    /// This end has been shut down.
    said_all: bool,
}

impl Tunnel {
    pub(crate) fn new(channel: Channel) -> Self {
        let (stream, inner) = tokio::io::duplex(MAX_DATA);
        let pump = tokio::spawn(pump(channel, inner));
        Self {
            stream,
            pump,
            said_all: false,
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        // Shut down, the pump ends by itself: when the guest closes its side too, or sends what nobody takes any more, or with
        // the session.
        if !self.said_all {
            self.pump.abort();
        }
    }
}

/// Moves bytes both ways, each direction by itself, until both are closed or one breaks.
async fn pump(mut channel: Channel, stream: DuplexStream) {
    let (reader, writer) = tokio::io::split(stream);
    let sender = channel.sender();
    // A broken direction ends both: dropping the channel tells the guest.
    drop(tokio::try_join!(
        to_guest(&sender, reader),
        to_host(&mut channel, writer)
    ));
}

async fn to_guest(sender: &Sender, mut reader: ReadHalf<DuplexStream>) -> Result<(), Broken> {
    let mut buffer = vec![0; MAX_DATA];
    loop {
        match reader.read(&mut buffer).await.map_err(|_| Broken)? {
            0 => break,
            count => sender
                .send_data(&buffer[..count])
                .await
                .map_err(|_| Broken)?,
        }
    }
    sender.close();
    Ok(())
}

async fn to_host(channel: &mut Channel, mut writer: WriteHalf<DuplexStream>) -> Result<(), Broken> {
    loop {
        match channel.receive().await.map_err(|_| Broken)? {
            Incoming::Data(_, bytes) => writer.write_all(&bytes).await.map_err(|_| Broken)?,
            Incoming::Closed => return writer.shutdown().await.map_err(|_| Broken),
            Incoming::Message(_) => return Err(Broken),
        }
    }
}

/// One direction cannot go on; why does not matter to the other.
struct Broken;

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.said_all = true;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
