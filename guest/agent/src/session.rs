//! The agent's end of a session: frames to channels and back.
//!
//! The main thread reads the port and never waits for anything else: it hands frames to the threads of their channels
//! through queues that the window bounds. Every operation has a thread of its own.
//!
//! What always holds: a session ends with the host's next hello, and with it every channel; what an ended channel was
//! doing stops ([`Event::Gone`]).

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use nix::sys::wait::WaitStatus;
use wire::frame::{CREDIT_STEP, FIRST_GUEST_CHANNEL, MAX_DATA, VERSION, WINDOW, cost_of};
use wire::{Decoder, Frame, Hello, Kind, Lane, Open, ToGuest, ToHost};

use crate::operations;
use crate::port::Port;
use crate::reaper::Reaper;

/// Stack of an operation's thread: its buffers are on the heap.
const STACK: usize = 256 * 1024;

/// What happens to a channel.
#[derive(Debug)]
pub(crate) enum Event {
    /// The host says something.
    Message(ToGuest),
    /// The host sends bytes.
    Data(Vec<u8>),
    /// The host says no more.
    Closed,
    /// The channel, or the whole session, is given up.
    Gone,
    /// Another thread of this side has said all that it had to say.
    SaidAll,
    /// The command that this channel runs has ended.
    Exited(WaitStatus),
}

/// Serves one session after the other; returns only when the port breaks.
pub(crate) fn serve(port: &Port, reaper: &Reaper) -> io::Result<()> {
    let mut buffer = vec![0; MAX_DATA];
    let mut current = Current {
        session: None,
        number: 0,
        decoder: Decoder::default(),
    };
    loop {
        let count = port.read(&mut buffer)?;
        current.decoder.push(&buffer[..count]);
        current.take_frames(port, reaper);
    }
}

/// The session that is there, if one is.
struct Current {
    session: Option<Arc<Session>>,
    /// Its number, from 1.
    number: u64,
    decoder: Decoder,
}

impl Current {
    fn end(&mut self) {
        if let Some(session) = self.session.take() {
            session.end();
        }
        self.decoder = Decoder::default();
    }

    fn take_frames(&mut self, port: &Port, reaper: &Reaper) {
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) if frame.kind == Kind::Hello => self.greet(&frame, port),
                Ok(Some(frame)) => {
                    if let Some(session) = &self.session {
                        session.dispatch(&frame, reaper);
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    eprintln!("sourdough-agent: the host's stream: {error}");
                    return self.end();
                }
            }
        }
    }

    /// Starts a session, whatever was before. The host decides whether it likes the version.
    fn greet(&mut self, frame: &Frame, port: &Port) {
        if let Some(session) = self.session.take() {
            session.end();
        }
        if let Ok(hello) = frame.decode::<Hello>("hello") {
            self.number += 1;
            let session = Arc::new(Session::new(port.clone(), self.number));
            let answer = Hello {
                version: VERSION,
                nonce: hello.nonce,
            };
            let mut bytes = Vec::new();
            Frame::value(Kind::Hello, 0, &answer).encode(&mut bytes);
            // A port that breaks is noticed by the reader.
            drop(port.begin(self.number, &bytes));
            self.session = Some(session);
        }
    }
}

/// One session with a host.
#[derive(Debug)]
pub(crate) struct Session {
    port: Port,
    number: u64,
    channels: Mutex<HashMap<u32, Arc<Line>>>,
    next_id: AtomicU32,
}

/// What the session knows of a channel.
#[derive(Debug)]
struct Line {
    events: Sender<Event>,
    /// Bytes that may still be sent; `None` when the channel is gone.
    window: Mutex<Option<u32>>,
    opened: Condvar,
}

impl Session {
    fn new(port: Port, number: u64) -> Self {
        Self {
            port,
            number,
            channels: Mutex::default(),
            next_id: AtomicU32::new(FIRST_GUEST_CHANNEL),
        }
    }

    /// Sends a frame. A port that breaks is noticed by the reader, which ends the guest.
    fn send(&self, frame: &Frame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        drop(self.port.write(self.number, &bytes));
    }

    fn register(self: &Arc<Self>, id: u32) -> Channel {
        let (events, incoming) = channel();
        let line = Line {
            events,
            window: Mutex::new(Some(WINDOW)),
            opened: Condvar::new(),
        };
        let line = Arc::new(line);
        lock(&self.channels).insert(id, Arc::clone(&line));
        let half = Half {
            id,
            line,
            session: Arc::clone(self),
        };
        Channel {
            half: Arc::new(half),
            incoming,
            consumed: 0,
        }
    }

    /// Opens a channel from this side.
    pub(crate) fn open(self: &Arc<Self>, open: &Open) -> Channel {
        let channel = self.register(self.next_id.fetch_add(1, Ordering::Relaxed));
        self.send(&Frame::value(Kind::Open, channel.half.id, open));
        channel
    }

    fn dispatch(self: &Arc<Self>, frame: &Frame, reaper: &Reaper) {
        let id = frame.channel;
        let event = match frame.kind {
            Kind::Open => return self.start(frame, reaper),
            Kind::Credit => return self.credit(frame),
            Kind::Message => frame.decode("message").map(Event::Message),
            Kind::Data => frame
                .as_data()
                .map(|(_, bytes)| Event::Data(bytes.to_vec())),
            Kind::Close => Ok(Event::Closed),
            Kind::Reset => Ok(Event::Gone),
            Kind::Hello => unreachable!("a hello starts a session and is not part of one"),
        };
        let line = match &event {
            Ok(Event::Gone) | Err(_) => lock(&self.channels).remove(&id),
            Ok(_) => lock(&self.channels).get(&id).cloned(),
        };
        match (line, event) {
            (Some(line), Ok(event)) => line.tell(event),
            (Some(line), Err(error)) => {
                self.send(&Frame::reset(id, &error.to_string()));
                line.tell(Event::Gone);
            }
            // A channel that is gone already: its last frames were on the way.
            (None, _) => {}
        }
    }

    fn start(self: &Arc<Self>, frame: &Frame, reaper: &Reaper) {
        let open = match frame.decode::<Open>("open") {
            Ok(open) => open,
            Err(error) => return self.send(&Frame::reset(frame.channel, &error.to_string())),
        };
        let channel = self.register(frame.channel);
        let reaper = reaper.clone();
        let half = channel.half();
        spawn(&half, move || operations::run(open, channel, &reaper));
    }

    fn credit(&self, frame: &Frame) {
        let line = lock(&self.channels).get(&frame.channel).cloned();
        if let (Some(line), Ok(bytes)) = (line, frame.as_credit()) {
            if let Some(window) = lock(&line.window).as_mut() {
                *window = window.saturating_add(bytes);
            }
            line.opened.notify_all();
        }
    }

    fn end(&self) {
        for (_, line) in lock(&self.channels).drain() {
            line.tell(Event::Gone);
        }
    }
}

impl Line {
    fn tell(&self, event: Event) {
        if let Event::Gone = event {
            *lock(&self.window) = None;
            self.opened.notify_all();
        }
        // The channel's thread may have ended meanwhile.
        drop(self.events.send(event));
    }
}

/// The channel is of no more use; whoever meets this stops.
#[derive(Debug)]
pub(crate) struct Gone;

/// The speaking half of a channel; clones of the `Arc` share it.
#[derive(Debug)]
pub(crate) struct Half {
    id: u32,
    line: Arc<Line>,
    session: Arc<Session>,
}

impl Half {
    /// The session, to open channels of one's own.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// A number that no other channel of this session has.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Where this channel's events go, so that others can add theirs.
    pub(crate) fn events(&self) -> Sender<Event> {
        self.line.events.clone()
    }

    /// Says `message`, once the host has room for it.
    pub(crate) fn send(&self, message: &ToHost) -> Result<(), Gone> {
        self.send_frame(&Frame::value(Kind::Message, self.id, message))
    }

    /// Sends at most [`MAX_DATA`] bytes, once the host has room for them.
    pub(crate) fn send_data(&self, lane: Lane, bytes: &[u8]) -> Result<(), Gone> {
        self.send_frame(&Frame::data(self.id, lane, bytes))
    }

    /// Says that nothing more will be said.
    pub(crate) fn close(&self) {
        self.session.send(&Frame::empty(Kind::Close, self.id));
    }

    /// Gives the channel up.
    pub(crate) fn reset(&self, reason: &str) {
        self.session.send(&Frame::reset(self.id, reason));
        lock(&self.session.channels).remove(&self.id);
        self.line.tell(Event::Gone);
    }

    fn send_frame(&self, frame: &Frame) -> Result<(), Gone> {
        let cost = frame.window_cost();
        let mut window = lock(&self.line.window);
        loop {
            match window.as_mut() {
                None => return Err(Gone),
                Some(left) if *left >= cost => {
                    *left -= cost;
                    break;
                }
                Some(_) => {
                    window = self
                        .line
                        .opened
                        .wait(window)
                        .expect("no holder of the window panics");
                }
            }
        }
        drop(window);
        self.session.send(frame);
        Ok(())
    }
}

/// One conversation: the half that speaks and what comes in.
#[derive(Debug)]
pub(crate) struct Channel {
    half: Arc<Half>,
    incoming: Receiver<Event>,
    consumed: u32,
}

impl Channel {
    /// The half that speaks, to share between threads.
    pub(crate) fn half(&self) -> Arc<Half> {
        Arc::clone(&self.half)
    }

    /// The next event; waits for it.
    pub(crate) fn next(&mut self) -> Event {
        let event = self.incoming.recv().unwrap_or(Event::Gone);
        self.give_credit(&event);
        event
    }

    /// The next event, or `None` after `limit`.
    pub(crate) fn next_within(&mut self, limit: std::time::Duration) -> Option<Event> {
        use std::sync::mpsc::RecvTimeoutError;
        match self.incoming.recv_timeout(limit) {
            Ok(event) => {
                self.give_credit(&event);
                Some(event)
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Event::Gone),
        }
    }

    fn give_credit(&mut self, event: &Event) {
        // What its frame took: the bytes and the lane's tag. A message is small, and encoded once more to be counted.
        let cost = match event {
            Event::Data(bytes) => cost_of(bytes.len() + 1),
            Event::Message(message) => Frame::value(Kind::Message, 0, message).window_cost(),
            Event::Closed | Event::Gone | Event::SaidAll | Event::Exited(_) => 0,
        };
        self.consumed += cost;
        if self.consumed >= CREDIT_STEP {
            self.half
                .session
                .send(&Frame::credit(self.half.id, self.consumed));
            self.consumed = 0;
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        lock(&self.half.session.channels).remove(&self.half.id);
    }
}

/// Runs `work` on a thread of its own; a machine that cannot make one more gives the channel up.
pub(crate) fn spawn(half: &Arc<Half>, work: impl FnOnce() + Send + 'static) {
    let started = std::thread::Builder::new().stack_size(STACK).spawn(work);
    if let Err(error) = started {
        half.reset(&format!("start a thread: {error}"));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("nothing panics while it holds one of the session's locks")
}
