//! The host's end of a session: frames to channels and back.
//!
//! Two tasks own the stream, one for each direction; a [`Channel`] talks to them through queues. The reading task never
//! waits for a consumer: what a guest may send without being read is bounded by the window of each channel and by
//! [`MAX_CHANNELS`], and a guest that sends more is cut off.
//!
//! What always holds: a frame that breaks the protocol ends the session with the reason, for all channels at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use wire::frame::{CREDIT_STEP, FIRST_GUEST_CHANNEL, VERSION, WINDOW};
use wire::{Decoder, Frame, FrameError, Hello, Kind, Lane, Open, ToGuest, ToHost};

/// Most channels at a time. A build's `npm ci` holds some 15 connections; a guest that opens hundreds means harm.
pub const MAX_CHANNELS: usize = 256;

/// Most bytes of messages and data that wait to be written, over all channels. A guest may grant windows and read nothing;
/// then the senders wait here.
const MAX_UNWRITTEN: usize = 4 * 1024 * 1024;

/// Most other frames that wait to be written: some megabytes. They take no window, and a guest could make the host say them
/// (by asking for tunnels, by output whose credit it does not read) and read none.
const MAX_UNREAD: usize = 64 * 1024;

/// Why a session, or one of its channels, is of no more use.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SessionError {
    /// The other end is gone.
    #[error("the guest's agent is gone: {0}")]
    Ended(String),
    /// The guest broke the protocol.
    #[error("the guest's agent broke the protocol: {0}")]
    Protocol(String),
    /// The agent gave this channel up.
    #[error("the guest's agent gave up: {0}")]
    Reset(String),
}

impl From<FrameError> for SessionError {
    fn from(error: FrameError) -> Self {
        SessionError::Protocol(error.to_string())
    }
}

/// What comes in on a channel.
#[derive(Debug)]
pub enum Incoming {
    /// A message.
    Message(ToHost),
    /// Bytes.
    Data(Lane, Vec<u8>),
    /// The agent says no more on this channel.
    Closed,
}

/// A session with one agent. Dropping it ends it.
#[derive(Debug)]
pub struct Session {
    shared: Arc<Shared>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

/// What the tasks and the channels share.
#[derive(Debug)]
struct Shared {
    outgoing: mpsc::UnboundedSender<Frame>,
    /// Frames in `outgoing` that take no window.
    unread: AtomicUsize,
    /// Room in `outgoing` for those that do, in bytes.
    unwritten: Semaphore,
    channels: Mutex<HashMap<u32, Entry>>,
    tunnels: Mutex<Option<mpsc::Sender<Channel>>>,
    next_id: AtomicU32,
    end: watch::Sender<Option<SessionError>>,
}

/// The reading task's side of a channel.
#[derive(Debug)]
struct Entry {
    incoming: mpsc::UnboundedSender<Frame>,
    /// Bytes received and not yet consumed, and those consumed but not yet credited.
    owed: Arc<AtomicU32>,
    window: Arc<Semaphore>,
    /// The guest has said that it says no more.
    closed: bool,
}

impl Session {
    /// Greets the agent at the other end of `stream` and returns once it has answered. There is no time limit in here:
    /// how long a guest may take to answer is the caller's to know.
    pub async fn open<S>(stream: S) -> Result<Self, SessionError>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut decoder = Decoder::default();
        let nonce = u64::from_le_bytes(
            uuid::Uuid::new_v4().as_bytes()[..8]
                .try_into()
                .expect("a UUID has sixteen bytes"),
        );
        greet(&mut reader, &mut writer, &mut decoder, nonce).await?;

        let (outgoing, queue) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            outgoing,
            unread: AtomicUsize::new(0),
            unwritten: Semaphore::new(MAX_UNWRITTEN),
            channels: Mutex::default(),
            tunnels: Mutex::default(),
            next_id: AtomicU32::new(1),
            end: watch::Sender::new(None),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(read_frames(reader, decoder, Arc::clone(&shared)));
        tasks.spawn(write_frames(writer, queue, Arc::clone(&shared)));
        Ok(Self {
            shared,
            tasks: tokio::sync::Mutex::new(tasks),
        })
    }

    /// Opens a channel.
    pub fn channel(&self, open: &Open) -> Result<Channel, SessionError> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        debug_assert!(
            id < FIRST_GUEST_CHANNEL,
            "two thousand million channels in one session"
        );
        let channel = self.shared.register(id)?;
        self.shared.send(Frame::value(Kind::Open, id, open))?;
        Ok(channel)
    }

    /// Where the guest's tunnels go from now on; tunnels are refused while there is no such place.
    pub fn accept_tunnels(&self, into: Option<mpsc::Sender<Channel>>) {
        *lock(&self.shared.tunnels) = into;
    }

    /// Resolves when the session has ended, with the reason.
    pub async fn ended(&self) -> SessionError {
        let mut end = self.shared.end.subscribe();
        let reason = end
            .wait_for(Option::is_some)
            .await
            .map(|reason| reason.clone());
        reason
            .ok()
            .flatten()
            .unwrap_or_else(|| SessionError::Ended("session dropped".into()))
    }

    /// Ends the session and returns once the stream is closed.
    pub async fn close(&self) {
        self.shared
            .finish(SessionError::Ended("closed by the host".into()));
        self.tasks.lock().await.shutdown().await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared
            .finish(SessionError::Ended("closed by the host".into()));
    }
}

impl Shared {
    fn register(self: &Arc<Self>, id: u32) -> Result<Channel, SessionError> {
        let mut channels = lock(&self.channels);
        if let Some(reason) = self.end.borrow().clone() {
            return Err(reason);
        }
        let (sender, incoming) = mpsc::unbounded_channel();
        let entry = Entry {
            incoming: sender,
            owed: Arc::default(),
            window: Arc::new(Semaphore::new(WINDOW as usize)),
            closed: false,
        };
        let sender = Sender {
            id,
            window: Arc::clone(&entry.window),
            shared: Arc::clone(self),
            sent_close: AtomicBool::new(false),
        };
        let channel = Channel {
            sender: Arc::new(sender),
            incoming,
            owed: Arc::clone(&entry.owed),
            consumed: 0,
            seen_close: false,
        };
        channels.insert(id, entry);
        Ok(channel)
    }

    fn send(&self, frame: Frame) -> Result<(), SessionError> {
        if !frame.kind.uses_window() && self.unread.fetch_add(1, Ordering::Relaxed) > MAX_UNREAD {
            self.finish(SessionError::Protocol("it reads no answers".into()));
            return Err(self.reason());
        }
        self.outgoing.send(frame).map_err(|_| self.reason())
    }

    fn reason(&self) -> SessionError {
        let reason = self.end.borrow().clone();
        reason.unwrap_or_else(|| SessionError::Ended("the stream is closed".into()))
    }

    /// Records why the session ended (the first reason counts) and wakes every channel.
    fn finish(&self, reason: SessionError) {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            if first {
                *end = Some(reason);
            }
            first
        });
        for entry in lock(&self.channels).drain() {
            entry.1.window.close();
        }
        self.unwritten.close();
        lock(&self.tunnels).take();
    }

    fn dispatch(self: &Arc<Self>, frame: Frame) -> Result<(), SessionError> {
        match frame.kind {
            Kind::Hello => Err(SessionError::Protocol("a second hello".into())),
            Kind::Open => self.open_tunnel(&frame),
            Kind::Message | Kind::Data => self.deliver(frame),
            Kind::Credit => self.credit(&frame),
            Kind::Close => self.close_incoming(frame),
            Kind::Reset => {
                let entry = lock(&self.channels).remove(&frame.channel);
                if let Some(entry) = entry {
                    entry.window.close();
                    drop(entry.incoming.send(frame));
                }
                Ok(())
            }
        }
    }

    fn open_tunnel(self: &Arc<Self>, frame: &Frame) -> Result<(), SessionError> {
        let open = frame.decode::<Open>("open")?;
        let id = frame.channel;
        if open != Open::Tunnel
            || id < FIRST_GUEST_CHANNEL
            || lock(&self.channels).contains_key(&id)
        {
            return Err(SessionError::Protocol(format!(
                "the guest opened channel {id} as {open:?}"
            )));
        }
        let acceptor = lock(&self.tunnels).clone();
        let full = lock(&self.channels).len() >= MAX_CHANNELS;
        let accepted = match acceptor {
            Some(acceptor) if !full => {
                let channel = self.register(id)?;
                acceptor.try_send(channel).is_ok()
            }
            Some(_) | None => false,
        };
        if accepted {
            return Ok(());
        }
        self.send(Frame::reset(id, "no tunnels now"))
    }

    fn deliver(&self, frame: Frame) -> Result<(), SessionError> {
        let cost = frame.window_cost();
        let id = frame.channel;
        let channels = lock(&self.channels);
        // A channel that this side has given up: its last frames may still be on the way.
        let Some(entry) = channels.get(&id) else {
            return Ok(());
        };
        if entry.closed {
            let text = format!("a frame after the last on channel {id}");
            return Err(SessionError::Protocol(text));
        }
        if entry.owed.fetch_add(cost, Ordering::AcqRel) + cost > WINDOW {
            return Err(SessionError::Protocol(format!(
                "channel {id} overran its window"
            )));
        }
        // The receiver may be gone already; its drop tells the agent.
        drop(entry.incoming.send(frame));
        Ok(())
    }

    /// Passes the end of what the guest says on. Only once: it takes no window, so nothing else bounds how often it comes.
    fn close_incoming(&self, frame: Frame) -> Result<(), SessionError> {
        let mut channels = lock(&self.channels);
        let Some(entry) = channels.get_mut(&frame.channel) else {
            return Ok(());
        };
        if entry.closed {
            let text = format!("channel {} was closed twice", frame.channel);
            return Err(SessionError::Protocol(text));
        }
        entry.closed = true;
        // As above.
        drop(entry.incoming.send(frame));
        Ok(())
    }

    fn credit(&self, frame: &Frame) -> Result<(), SessionError> {
        let bytes = frame.as_credit()? as usize;
        let channels = lock(&self.channels);
        let Some(entry) = channels.get(&frame.channel) else {
            return Ok(());
        };
        if entry.window.available_permits() + bytes > WINDOW as usize {
            return Err(SessionError::Protocol("credit for bytes never sent".into()));
        }
        entry.window.add_permits(bytes);
        Ok(())
    }
}

/// The speaking half of a channel.
#[derive(Debug)]
pub struct Sender {
    id: u32,
    window: Arc<Semaphore>,
    shared: Arc<Shared>,
    sent_close: AtomicBool,
}

impl Sender {
    /// Says `message`, once the agent has room for it.
    pub async fn send(&self, message: &ToGuest) -> Result<(), SessionError> {
        self.send_frame(Frame::value(Kind::Message, self.id, message))
            .await
    }

    /// Sends `bytes` on the first lane, in as many frames as they need.
    pub async fn send_data(&self, bytes: &[u8]) -> Result<(), SessionError> {
        for chunk in bytes.chunks(wire::frame::MAX_DATA) {
            self.send_frame(Frame::data(self.id, Lane::Out, chunk))
                .await?;
        }
        Ok(())
    }

    /// Says that nothing more will be said.
    pub fn close(&self) {
        if !self.sent_close.swap(true, Ordering::AcqRel) {
            self.tell(Frame::empty(Kind::Close, self.id));
        }
    }

    async fn send_frame(&self, frame: Frame) -> Result<(), SessionError> {
        let cost = frame.window_cost();
        for room in [&*self.window, &self.shared.unwritten] {
            let permits = room.acquire_many(cost).await;
            permits.map_err(|_| self.shared.reason())?.forget();
        }
        self.shared.send(frame)
    }

    /// Sends a frame that has no answer; with the stream gone there is nobody to tell.
    fn tell(&self, frame: Frame) {
        drop(self.shared.send(frame));
    }
}

/// One conversation of a session. Dropping it before both sides have closed gives it up: the agent stops what it was doing.
#[derive(Debug)]
pub struct Channel {
    sender: Arc<Sender>,
    incoming: mpsc::UnboundedReceiver<Frame>,
    owed: Arc<AtomicU32>,
    consumed: u32,
    seen_close: bool,
}

impl Channel {
    /// The half that speaks, so that one task can speak while another listens.
    pub fn sender(&self) -> Arc<Sender> {
        Arc::clone(&self.sender)
    }

    /// As [`Sender::send`].
    pub async fn send(&self, message: &ToGuest) -> Result<(), SessionError> {
        self.sender.send(message).await
    }

    /// As [`Sender::send_data`].
    pub async fn send_data(&self, bytes: &[u8]) -> Result<(), SessionError> {
        self.sender.send_data(bytes).await
    }

    /// As [`Sender::close`].
    pub fn close(&self) {
        self.sender.close();
    }

    /// The next thing that the agent says. After [`Incoming::Closed`] there is nothing more.
    pub async fn receive(&mut self) -> Result<Incoming, SessionError> {
        if self.seen_close {
            return Ok(Incoming::Closed);
        }
        let Some(frame) = self.incoming.recv().await else {
            return Err(self.sender.shared.reason());
        };
        self.give_credit(frame.window_cost());
        let understood = self.understand(&frame);
        if let Err(error @ SessionError::Protocol(_)) = &understood {
            self.sender.shared.finish(error.clone());
        }
        understood
    }

    fn understand(&mut self, frame: &Frame) -> Result<Incoming, SessionError> {
        match frame.kind {
            Kind::Message => Ok(Incoming::Message(frame.decode("message")?)),
            Kind::Data => match frame.as_data()? {
                (_, []) => Err(SessionError::Protocol("data without a byte".into())),
                (lane, bytes) => Ok(Incoming::Data(lane, bytes.to_vec())),
            },
            Kind::Close => {
                self.seen_close = true;
                Ok(Incoming::Closed)
            }
            Kind::Reset => {
                self.sender.sent_close.store(true, Ordering::Release);
                self.seen_close = true;
                Err(SessionError::Reset(
                    String::from_utf8_lossy(&frame.payload)
                        .escape_debug()
                        .to_string(),
                ))
            }
            Kind::Hello | Kind::Open | Kind::Credit => Err(SessionError::Protocol(format!(
                "{:?} on channel {}",
                frame.kind, self.sender.id
            ))),
        }
    }

    fn give_credit(&mut self, cost: u32) {
        self.consumed += cost;
        if self.consumed >= CREDIT_STEP {
            self.owed.fetch_sub(self.consumed, Ordering::AcqRel);
            self.sender
                .tell(Frame::credit(self.sender.id, self.consumed));
            self.consumed = 0;
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let sender = &self.sender;
        lock(&sender.shared.channels).remove(&sender.id);
        let closed = sender.sent_close.swap(true, Ordering::AcqRel) && self.seen_close;
        sender.window.close();
        if !closed {
            sender.tell(Frame::reset(sender.id, "given up by the host"));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("nothing panics while it holds one of the session's locks")
}

/// Says hello and reads until the agent repeats the nonce; frames of an earlier session are passed over.
async fn greet(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    decoder: &mut Decoder,
    nonce: u64,
) -> Result<(), SessionError> {
    let gone = |error: std::io::Error| SessionError::Ended(error.to_string());
    let mut bytes = Vec::new();
    Frame::value(
        Kind::Hello,
        0,
        &Hello {
            version: VERSION,
            nonce,
        },
    )
    .encode(&mut bytes);
    writer.write_all(&bytes).await.map_err(gone)?;
    writer.flush().await.map_err(gone)?;
    let mut buffer = [0; 4096];
    loop {
        while let Some(frame) = decoder.next_frame()? {
            if frame.kind != Kind::Hello {
                continue;
            }
            let hello: Hello = frame.decode("hello")?;
            if hello.version != VERSION {
                let text = format!("it speaks version {}, this host {VERSION}", hello.version);
                return Err(SessionError::Protocol(text));
            }
            if hello.nonce == nonce {
                return Ok(());
            }
        }
        match reader.read(&mut buffer).await.map_err(gone)? {
            0 => return Err(SessionError::Ended("end of stream before its hello".into())),
            count => decoder.push(&buffer[..count]),
        }
    }
}

async fn read_frames(
    mut reader: impl AsyncRead + Unpin,
    mut decoder: Decoder,
    shared: Arc<Shared>,
) {
    let mut buffer = vec![0; 64 * 1024];
    let reason = loop {
        match decoder.next_frame() {
            Ok(Some(frame)) => match shared.dispatch(frame) {
                Ok(()) => continue,
                Err(reason) => break reason,
            },
            Ok(None) => {}
            Err(error) => break error.into(),
        }
        match reader.read(&mut buffer).await {
            Ok(0) => break SessionError::Ended("end of stream".into()),
            Ok(count) => decoder.push(&buffer[..count]),
            Err(error) => break SessionError::Ended(error.to_string()),
        }
    };
    shared.finish(reason);
}

async fn write_frames(
    mut writer: impl AsyncWrite + Unpin,
    mut queue: mpsc::UnboundedReceiver<Frame>,
    shared: Arc<Shared>,
) {
    let mut bytes = Vec::new();
    while let Some(frame) = queue.recv().await {
        bytes.clear();
        frame.encode(&mut bytes);
        if let Err(error) = writer.write_all(&bytes).await {
            shared.finish(SessionError::Ended(error.to_string()));
            return;
        }
        match frame.window_cost() {
            0 => {
                shared.unread.fetch_sub(1, Ordering::Relaxed);
            }
            cost => shared.unwritten.add_permits(cost as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::DuplexStream;

    /// A guest under the test's control: it answers the hello and then says whatever the test wants.
    struct Guest {
        stream: DuplexStream,
        decoder: Decoder,
    }

    impl Guest {
        async fn next(&mut self) -> Frame {
            let mut buffer = [0; 4096];
            loop {
                if let Some(frame) = self.decoder.next_frame().unwrap() {
                    return frame;
                }
                let count = self.stream.read(&mut buffer).await.unwrap();
                assert!(count > 0, "the host hung up");
                self.decoder.push(&buffer[..count]);
            }
        }

        async fn say(&mut self, frame: Frame) {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            self.stream.write_all(&bytes).await.unwrap();
        }
    }

    async fn session() -> (Session, Guest) {
        let (host, stream) = tokio::io::duplex(1 << 20);
        let mut guest = Guest {
            stream,
            decoder: Decoder::default(),
        };
        let (session, ()) = tokio::join!(Session::open(host), async {
            let hello = guest.next().await;
            guest.say(Frame::data(9, Lane::Out, b"left over")).await;
            guest.say(hello).await;
        });
        (session.unwrap(), guest)
    }

    #[tokio::test]
    async fn what_an_earlier_session_left_is_passed_over() {
        let (session, mut guest) = session().await;
        let mut channel = session.channel(&Open::Sync).unwrap();
        let open = guest.next().await;
        assert_eq!(open.decode::<Open>("open").unwrap(), Open::Sync);
        guest
            .say(Frame::value(Kind::Message, open.channel, &ToHost::Done))
            .await;
        assert!(matches!(
            channel.receive().await.unwrap(),
            Incoming::Message(ToHost::Done)
        ));
    }

    #[tokio::test]
    async fn a_guest_that_overruns_its_window_is_cut_off() {
        let (session, mut guest) = session().await;
        let mut channel = session.channel(&Open::Sync).unwrap();
        let id = guest.next().await.channel;
        for _ in 0..5 {
            guest
                .say(Frame::data(id, Lane::Out, &vec![0; wire::frame::MAX_DATA]))
                .await;
        }
        assert!(matches!(session.ended().await, SessionError::Protocol(_)));
        while channel.receive().await.is_ok() {}
    }

    #[tokio::test]
    async fn a_guest_that_gives_credit_for_nothing_is_cut_off() {
        let (session, mut guest) = session().await;
        let _channel = session.channel(&Open::Sync).unwrap();
        let id = guest.next().await.channel;
        guest.say(Frame::credit(id, u32::MAX)).await;
        assert!(matches!(session.ended().await, SessionError::Protocol(_)));
    }

    #[tokio::test]
    async fn a_guest_may_open_nothing_but_tunnels() {
        let (session, mut guest) = session().await;
        guest
            .say(Frame::value(
                Kind::Open,
                FIRST_GUEST_CHANNEL,
                &Open::PowerOff,
            ))
            .await;
        assert!(matches!(session.ended().await, SessionError::Protocol(_)));
    }

    #[tokio::test]
    async fn a_tunnel_that_nobody_asked_for_is_reset() {
        let (session, mut guest) = session().await;
        guest
            .say(Frame::value(Kind::Open, FIRST_GUEST_CHANNEL, &Open::Tunnel))
            .await;
        assert_eq!(guest.next().await.kind, Kind::Reset);
        session.channel(&Open::Sync).expect("the session goes on");
    }

    #[tokio::test]
    async fn a_guest_that_goes_on_after_its_last_frame_is_cut_off() {
        for kind in [Kind::Close, Kind::Data] {
            let (session, mut guest) = session().await;
            let _channel = session.channel(&Open::Sync).unwrap();
            let id = guest.next().await.channel;
            guest.say(Frame::empty(Kind::Close, id)).await;
            guest.say(Frame::empty(kind, id)).await;
            assert!(matches!(session.ended().await, SessionError::Protocol(_)));
        }
    }

    #[tokio::test]
    async fn a_guest_that_floods_a_channel_with_empty_frames_is_cut_off() {
        let (session, mut guest) = session().await;
        let _channel = session.channel(&Open::Sync).unwrap();
        let id = guest.next().await.channel;
        for _ in 0..=WINDOW as usize / wire::frame::HEADER {
            guest.say(Frame::empty(Kind::Message, id)).await;
        }
        assert!(matches!(session.ended().await, SessionError::Protocol(_)));
    }

    #[tokio::test]
    async fn a_guest_that_asks_for_refusals_and_reads_none_is_cut_off() {
        let (session, mut guest) = session().await;
        let asking = async {
            for id in FIRST_GUEST_CHANNEL.. {
                let mut bytes = Vec::new();
                Frame::value(Kind::Open, id, &Open::Tunnel).encode(&mut bytes);
                if guest.stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            reason = session.ended() => assert!(matches!(reason, SessionError::Protocol(_))),
            () = asking => {}
        }
        assert!(matches!(session.ended().await, SessionError::Protocol(_)));
    }

    #[tokio::test]
    async fn credit_comes_back_as_bytes_are_consumed() {
        let (session, mut guest) = session().await;
        let mut channel = session.channel(&Open::Sync).unwrap();
        let id = guest.next().await.channel;
        for _ in 0..32 {
            guest
                .say(Frame::data(id, Lane::Out, &vec![0; wire::frame::MAX_DATA]))
                .await;
            channel.receive().await.unwrap();
            let credit = guest.next().await;
            assert_eq!(
                credit.as_credit().unwrap() as usize,
                wire::frame::CREDIT_STEP as usize
            );
        }
    }

    #[tokio::test]
    async fn a_dropped_channel_tells_the_agent_to_stop() {
        let (session, mut guest) = session().await;
        let channel = session.channel(&Open::Sync).unwrap();
        let id = guest.next().await.channel;
        drop(channel);
        let frame = guest.next().await;
        assert_eq!((frame.kind, frame.channel), (Kind::Reset, id));
    }

    #[tokio::test]
    async fn the_end_of_the_stream_is_the_end_of_every_channel() {
        let (session, guest) = session().await;
        let mut channel = session.channel(&Open::Sync).unwrap();
        drop(guest);
        assert!(matches!(
            channel.receive().await,
            Err(SessionError::Ended(_))
        ));
        assert!(session.channel(&Open::Sync).is_err());
    }
}
