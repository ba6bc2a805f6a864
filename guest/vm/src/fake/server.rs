//! The fake agent: one task that reads the stream, and one for each channel.
//!
//! What always holds: when the guest ends, what it has said before still reaches the host, and then the stream closes.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use wire::frame::VERSION;
use wire::{Decoder, Frame, FrameError, Hello, Kind, Open, Settled, ToHost};

use super::guest::Guest;
use super::session::{Channel, Gone, Session};
use super::{command, files, probe, proxy};
use crate::driver::Exit;

/// Why an operation has no good answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// It cannot be done; the host is told the sentence.
    Problem(String),
    /// Nobody is there to be told.
    Gone,
}

impl From<Gone> for Failure {
    fn from(Gone: Gone) -> Self {
        Failure::Gone
    }
}

impl Failure {
    /// For `map_err`: `doing` something failed.
    pub(super) fn doing<E: std::fmt::Display>(doing: &str) -> impl FnOnce(E) -> Self {
        move |error| Failure::Problem(format!("{doing}: {error}"))
    }
}

/// Serves the host until it hangs up or the guest ends.
pub(super) async fn serve(stream: DuplexStream, guest: Arc<Guest>) {
    let (reader, writer) = tokio::io::split(stream);
    let (outgoing, queue) = mpsc::unbounded_channel();
    let mut writing = AbortOnDropHandle::new(tokio::spawn(write_frames(writer, queue)));
    let session = EndOnDrop(Session::new(outgoing));
    tokio::select! {
        // A host that breaks the protocol is treated like one that hangs up.
        _ = read_frames(reader, &session.0, &guest) => {}
        () = guest.ended() => {}
    }
    // In this order: no task is there to tell the host how its command was killed.
    drop(session);
    guest.processes().kill_all();
    // The queue ends with the last task of a channel. A writer that panicked has nothing left to say.
    drop((&mut writing).await);
}

/// The tasks hold the session and the session the tasks: somebody has to let go.
struct EndOnDrop(Session);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

async fn read_frames(
    mut reader: ReadHalf<DuplexStream>,
    session: &Session,
    guest: &Arc<Guest>,
) -> Result<(), FrameError> {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        while let Some(frame) = decoder.next_frame()? {
            match frame.kind {
                Kind::Hello => greet(session, &frame)?,
                Kind::Open => start(session, guest, &frame)?,
                Kind::Message | Kind::Data | Kind::Credit | Kind::Close | Kind::Reset => {
                    session.dispatch(frame).await?;
                }
            }
        }
        match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(count) => decoder.push(&buffer[..count]),
        }
    }
}

async fn write_frames(
    mut writer: WriteHalf<DuplexStream>,
    mut queue: mpsc::UnboundedReceiver<Frame>,
) {
    let mut bytes = Vec::new();
    while let Some(frame) = queue.recv().await {
        bytes.clear();
        frame.encode(&mut bytes);
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

fn greet(session: &Session, frame: &Frame) -> Result<(), FrameError> {
    let hello: Hello = frame.decode("hello")?;
    let answer = Hello {
        version: VERSION,
        nonce: hello.nonce,
    };
    session.send(Frame::value(Kind::Hello, 0, &answer));
    Ok(())
}

fn start(session: &Session, guest: &Arc<Guest>, frame: &Frame) -> Result<(), FrameError> {
    let open: Open = frame.decode("open")?;
    let channel = session.channel(frame.channel);
    let id = channel.id();
    let task = run(open, channel, session.clone(), Arc::clone(guest));
    session.attach(id, AbortOnDropHandle::new(tokio::spawn(task)));
    Ok(())
}

/// Runs one operation to its end and closes the channel.
async fn run(open: Open, mut channel: Channel, session: Session, guest: Arc<Guest>) {
    let sender = channel.sender();
    let mut powers_off = false;
    let last = match open {
        Open::Thaw(thaw) => files::name(&guest, &thaw.hostname).map(|()| {
            guest.wake();
            ToHost::Done
        }),
        Open::Exec(_) if guest.is_asleep() => {
            Err(Failure::Problem("the guest has not been thawed".into()))
        }
        Open::Exec(spec) => command::run(&mut channel, &spec, &guest)
            .await
            .map(ToHost::Ended),
        Open::Put(spec) => files::put(&mut channel, &spec, &guest)
            .await
            .map(ToHost::Stored),
        Open::List(spec) => files::list(&sender, &spec, &guest)
            .await
            .map(|()| ToHost::Done),
        Open::Read(spec) => files::read(&sender, &spec, &guest)
            .await
            .map(|()| ToHost::Done),
        Open::Proxy { port } => proxy::listen(&mut channel, &session, port)
            .await
            .map(|()| ToHost::Done),
        Open::Sync => Ok(ToHost::Done),
        // It has no memory but files, and none that is free.
        Open::Settle => Ok(ToHost::Settled(Settled::default())),
        Open::Probe => Ok(ToHost::Probed(probe::probe(&guest))),
        Open::Survey(spec) => probe::survey(&spec, &guest).map(ToHost::Surveyed),
        Open::PowerOff => {
            powers_off = true;
            Ok(ToHost::Done)
        }
        Open::Tunnel => Err(Failure::Problem("a tunnel is opened by the guest".into())),
    };
    if guest.exit().is_some() {
        // A guest that is gone says nothing of how its commands ended.
        return;
    }
    let told = match last {
        Ok(message) => sender.send(&message).await,
        Err(Failure::Problem(problem)) => sender.send(&ToHost::Failed(problem)).await,
        Err(Failure::Gone) => Err(Gone),
    };
    if told.is_ok() {
        sender.close();
    }
    if powers_off {
        guest.end(Exit::PoweredOff);
    }
}
