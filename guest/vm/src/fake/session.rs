//! The fake agent's end of a session: frames to channels and back.
//!
//! What always holds: no more than the window is on the way to the host in any channel; a channel that the host gives up
//! has its task stopped before the next frame is looked at.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;
use wire::frame::{FIRST_GUEST_CHANNEL, MAX_DATA, WINDOW};
use wire::{Frame, FrameError, Kind, Lane, Open, ToGuest, ToHost};

/// The channel, or the whole session, is of no more use.
#[derive(Debug)]
pub(super) struct Gone;

/// What comes in on a channel.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A message.
    Message(ToGuest),
    /// Bytes.
    Data(Vec<u8>),
    /// The host says no more.
    Closed,
}

/// The session; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Session {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    outgoing: mpsc::UnboundedSender<Frame>,
    lines: Mutex<HashMap<u32, Line>>,
    next_id: AtomicU32,
}

/// What the session knows of a channel.
#[derive(Debug)]
struct Line {
    incoming: mpsc::UnboundedSender<Frame>,
    window: Arc<Semaphore>,
    task: Option<AbortOnDropHandle<()>>,
}

impl Session {
    /// A session whose frames go into `outgoing`.
    pub(super) fn new(outgoing: mpsc::UnboundedSender<Frame>) -> Self {
        let shared = Shared {
            outgoing,
            lines: Mutex::default(),
            next_id: AtomicU32::new(FIRST_GUEST_CHANNEL),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Sends a frame that belongs to no channel of ours.
    pub(super) fn send(&self, frame: Frame) {
        self.shared.tell(frame);
    }

    /// Makes the channel that a frame of the host, or we, have opened.
    pub(super) fn channel(&self, id: u32) -> Channel {
        let (incoming, frames) = mpsc::unbounded_channel();
        let window = Arc::new(Semaphore::new(WINDOW as usize));
        let line = Line {
            incoming,
            window: Arc::clone(&window),
            task: None,
        };
        self.shared.lines().insert(id, line);
        let shared = Arc::clone(&self.shared);
        Channel {
            sender: Arc::new(Sender { id, window, shared }),
            frames,
        }
    }

    /// Opens a channel from this side.
    pub(super) fn open(&self, open: &Open) -> Channel {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let channel = self.channel(id);
        self.send(Frame::value(Kind::Open, id, open));
        channel
    }

    /// Has `task` stopped with the channel `id`.
    pub(super) fn attach(&self, id: u32, task: AbortOnDropHandle<()>) {
        // A task that is through already has taken its line with it; dropping its handle does nothing.
        if let Some(line) = self.shared.lines().get_mut(&id) {
            line.task = Some(task);
        }
    }

    /// Takes a frame of an open channel.
    pub(super) async fn dispatch(&self, frame: Frame) -> Result<(), FrameError> {
        match frame.kind {
            Kind::Message | Kind::Data | Kind::Close => {
                if let Some(line) = self.shared.lines().get(&frame.channel) {
                    // The task may have heard enough.
                    drop(line.incoming.send(frame));
                }
            }
            Kind::Credit => {
                let bytes = frame.as_credit()? as usize;
                if let Some(line) = self.shared.lines().get(&frame.channel) {
                    line.window.add_permits(bytes);
                }
            }
            Kind::Reset => {
                let line = self.shared.lines().remove(&frame.channel);
                if let Some(task) = line.and_then(|line| line.task) {
                    task.abort();
                    // The answer is only that it was stopped.
                    drop(task.await);
                }
            }
            Kind::Hello | Kind::Open => return Err(FrameError::Malformed("session")),
        }
        Ok(())
    }

    /// Stops the tasks of all channels.
    pub(super) fn end(&self) {
        let lines = std::mem::take(&mut *self.shared.lines());
        drop(lines);
    }
}

impl Shared {
    fn lines(&self) -> MutexGuard<'_, HashMap<u32, Line>> {
        self.lines
            .lock()
            .expect("nothing panics while it holds the channels")
    }

    /// With the stream gone there is nobody to tell.
    fn tell(&self, frame: Frame) {
        drop(self.outgoing.send(frame));
    }
}

/// The speaking half of a channel. The session forgets the channel when it is dropped.
#[derive(Debug)]
pub(super) struct Sender {
    id: u32,
    window: Arc<Semaphore>,
    shared: Arc<Shared>,
}

impl Sender {
    /// Says `message`, once the host has room for it.
    pub(super) async fn send(&self, message: &ToHost) -> Result<(), Gone> {
        self.send_frame(Frame::value(Kind::Message, self.id, message))
            .await
    }

    /// Sends `bytes` in as many frames as they need.
    pub(super) async fn send_data(&self, lane: Lane, bytes: &[u8]) -> Result<(), Gone> {
        for chunk in bytes.chunks(MAX_DATA) {
            self.send_frame(Frame::data(self.id, lane, chunk)).await?;
        }
        Ok(())
    }

    /// Says that nothing more will be said.
    pub(super) fn close(&self) {
        self.shared.tell(Frame::empty(Kind::Close, self.id));
    }

    /// Gives the channel up.
    pub(super) fn reset(&self, reason: &str) {
        self.shared.tell(Frame::reset(self.id, reason));
    }

    async fn send_frame(&self, frame: Frame) -> Result<(), Gone> {
        let permits = self.window.acquire_many(frame.window_cost()).await;
        permits.map_err(|_| Gone)?.forget();
        self.shared.outgoing.send(frame).map_err(|_| Gone)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // Out of the lock before the line, which may hold this very task's handle, is dropped.
        let line = self.shared.lines().remove(&self.id);
        drop(line);
    }
}

/// One conversation.
#[derive(Debug)]
pub(super) struct Channel {
    sender: Arc<Sender>,
    frames: mpsc::UnboundedReceiver<Frame>,
}

impl Channel {
    /// The half that speaks.
    pub(super) fn sender(&self) -> Arc<Sender> {
        Arc::clone(&self.sender)
    }

    /// Its number.
    pub(super) fn id(&self) -> u32 {
        self.sender.id
    }

    /// The next thing that the host says. May be given up without losing anything.
    pub(super) async fn receive(&mut self) -> Result<Incoming, Gone> {
        let frame = self.frames.recv().await.ok_or(Gone)?;
        let cost = frame.window_cost();
        if cost > 0 {
            self.sender.shared.tell(Frame::credit(self.id(), cost));
        }
        match frame.kind {
            Kind::Message => frame.decode("message").map(Incoming::Message),
            Kind::Data => frame
                .as_data()
                .map(|(_, bytes)| Incoming::Data(bytes.to_vec())),
            Kind::Close => Ok(Incoming::Closed),
            Kind::Hello | Kind::Open | Kind::Credit | Kind::Reset => {
                Err(FrameError::Malformed("channel"))
            }
        }
        .map_err(|_| Gone)
    }
}
