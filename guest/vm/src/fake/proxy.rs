//! The proxy port of a fake guest: the host's loopback stands for the guest's.
//!
//! What always holds: the port is open exactly as long as its channel; each direction of a connection ends by itself.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;
use wire::frame::MAX_DATA;
use wire::{Lane, Open, ToHost};

use super::server::Failure;
use super::session::{Channel, Gone, Incoming, Sender, Session};

/// Listens on `port` until the host closes the channel.
pub(super) async fn listen(
    channel: &mut Channel,
    session: &Session,
    port: u16,
) -> Result<(), Failure> {
    let what = format!("listen on port {port}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    let listener = listener.map_err(Failure::doing(&what))?;
    channel.sender().send(&ToHost::Done).await?;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A connection that broke while it waited is the program's matter.
                if let Ok((connection, _)) = accepted {
                    carry(session, connection);
                }
            }
            heard = channel.receive() => match heard? {
                Incoming::Closed => return Err(Failure::Gone),
                Incoming::Message(_) | Incoming::Data(_) => {}
            },
        }
    }
}

/// Opens a tunnel for `connection` and moves its bytes, in a task of its own.
fn carry(session: &Session, connection: TcpStream) {
    let channel = session.open(&Open::Tunnel);
    let id = channel.id();
    let task = tokio::spawn(tunnel(channel, connection));
    session.attach(id, AbortOnDropHandle::new(task));
}

async fn tunnel(mut channel: Channel, connection: TcpStream) {
    let sender = channel.sender();
    let (reader, writer) = connection.into_split();
    let moved = tokio::try_join!(to_host(reader, &sender), to_guest(&mut channel, writer));
    if moved.is_err() {
        sender.reset("the connection broke");
    }
}

async fn to_host(mut reader: OwnedReadHalf, sender: &Sender) -> Result<(), Gone> {
    let mut buffer = vec![0; MAX_DATA];
    loop {
        match reader.read(&mut buffer).await.map_err(|_| Gone)? {
            0 => break,
            count => sender.send_data(Lane::Out, &buffer[..count]).await?,
        }
    }
    sender.close();
    Ok(())
}

async fn to_guest(channel: &mut Channel, mut writer: OwnedWriteHalf) -> Result<(), Gone> {
    loop {
        match channel.receive().await? {
            Incoming::Data(bytes) => writer.write_all(&bytes).await.map_err(|_| Gone)?,
            Incoming::Closed => return writer.shutdown().await.map_err(|_| Gone),
            Incoming::Message(_) => return Err(Gone),
        }
    }
}
