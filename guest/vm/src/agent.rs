//! The client of the agent inside a guest: one method for each thing an agent does.
//!
//! What always holds: an answer that the question does not allow is a protocol error, never a guess; whoever drops an
//! operation half-way ends it in the guest as well.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use wire::{
    Ended, Entry, ExecSpec, Found, Lane, ListSpec, Open, Probed, PutSpec, PutSummary, ReadSpec,
    Settled, SurveySpec, Surveyed, Termination, Thaw, ToGuest, ToHost,
};

use crate::identity::Identity;
use crate::session::{Channel, Incoming, Session, SessionError};

/// Most files that one listing may return, whatever the caller asks for.
const MAX_LISTED: usize = 1_000_000;

/// Most bytes of paths in one listing: 320 bytes for each of the 100,000 files that a worker asks for.
const MAX_LISTED_BYTES: usize = 32 * 1024 * 1024;

/// Longest path: Linux's `PATH_MAX`.
const MAX_PATH: usize = 4096;

/// Longest problem that is passed on: a paragraph.
const MAX_PROBLEM: usize = 1024;

/// How long an agent may be silent about anything but a command. Two things take it long without a word: to hash a file before it sends
/// it, under emulation some 10 GiB in this time, and to settle, where it gives itself 3.5 min for the memory and leaves the rest to
/// the disk.
pub const PATIENCE: Duration = Duration::from_mins(5);

/// What an agent would not or could not do.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The session, or this channel, is of no more use.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The agent says why it cannot be done.
    #[error("{what}: {problem}")]
    Failed {
        /// What was asked of it.
        what: String,
        /// Its sentence, with control characters escaped.
        problem: String,
    },
}

impl AgentError {
    /// Whether the agent itself is gone, rather than unable to do this one thing.
    pub fn is_session_end(&self) -> bool {
        match self {
            AgentError::Session(_) => true,
            AgentError::Failed { .. } => false,
        }
    }
}

/// A session with the agent of one guest; clones share it.
#[derive(Clone, Debug)]
pub struct AgentClient {
    session: Arc<Session>,
}

impl AgentClient {
    /// Greets the agent at the other end of `stream`; returns once it has answered. The caller sets the time limit.
    pub async fn connect<S>(stream: S) -> Result<Self, AgentError>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let session = Arc::new(Session::open(stream).await?);
        Ok(Self { session })
    }

    /// Makes a restored guest its own: entropy, clock, hostname.
    pub async fn thaw(&self, identity: &Identity) -> Result<(), AgentError> {
        let realtime = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let thaw = Thaw {
            entropy: identity.entropy,
            realtime: realtime.expect("the host's clock is past 1970"),
            hostname: identity.hostname.clone(),
        };
        self.done("thaw the guest", &Open::Thaw(thaw)).await
    }

    /// Writes everything that the guest holds back to its disk.
    pub async fn sync(&self) -> Result<(), AgentError> {
        self.done("sync the guest's disk", &Open::Sync).await
    }

    /// Makes the guest ready to be frozen: everything on its disk, and what is free of memory and disk zero.
    pub async fn settle(&self) -> Result<Settled, AgentError> {
        let what = "settle the guest";
        let mut channel = self.session.channel(&Open::Settle)?;
        match answer(&mut channel, what).await? {
            ToHost::Settled(mut settled) => {
                channel.close();
                settled.problem = settled.problem.as_deref().map(printable);
                Ok(settled)
            }
            other => Err(unexpected(what, &other)),
        }
    }

    /// Asks the guest what no two guests share, and the time. All of it is a claim: compared with that of another fork it shows a
    /// mistake of ours, not a guest that lies.
    pub async fn probe(&self) -> Result<Probed, AgentError> {
        let what = "probe the guest";
        let mut channel = self.session.channel(&Open::Probe)?;
        match answer(&mut channel, what).await? {
            ToHost::Probed(mut probed) => {
                channel.close();
                probed.uuid = printable(&probed.uuid);
                probed.hostname = printable(&probed.hostname);
                Ok(probed)
            }
            other => Err(unexpected(what, &other)),
        }
    }

    /// Asks the guest what a tree looks like: a claim as well.
    pub async fn survey(&self, spec: &SurveySpec) -> Result<Surveyed, AgentError> {
        let what = format!("survey {}", spec.tree);
        let mut channel = self.session.channel(&Open::Survey(spec.clone()))?;
        match answer(&mut channel, &what).await? {
            ToHost::Surveyed(surveyed) => {
                channel.close();
                Ok(surveyed)
            }
            other => Err(unexpected(&what, &other)),
        }
    }

    /// Asks the guest to switch itself off; it is gone a moment after this returns.
    pub async fn power_off(&self) -> Result<(), AgentError> {
        self.done("power the guest off", &Open::PowerOff).await
    }

    /// Starts a command.
    pub fn exec(&self, spec: &ExecSpec) -> Result<Execution, AgentError> {
        let channel = self.session.channel(&Open::Exec(spec.clone()))?;
        Ok(Execution { channel })
    }

    /// Starts to write files below `spec.root`.
    pub fn put(&self, spec: &PutSpec) -> Result<Put, AgentError> {
        let channel = self.session.channel(&Open::Put(spec.clone()))?;
        Ok(Put {
            channel,
            what: format!("put files into {}", spec.root),
            owing: 0,
        })
    }

    /// Lists regular files, sorted by path; at most `spec.limit` and one more.
    pub async fn list(&self, spec: &ListSpec) -> Result<Vec<Found>, AgentError> {
        let what = format!("list files in {}", spec.root);
        let mut channel = self.session.channel(&Open::List(spec.clone()))?;
        let mut files: Vec<Found> = Vec::new();
        let mut bytes = 0;
        let limit = MAX_LISTED.min(spec.limit as usize + 1);
        loop {
            match answer(&mut channel, &what).await? {
                ToHost::Found(more) if more.is_empty() => {
                    return Err(protocol(&what, "an empty list"));
                }
                ToHost::Found(more) => {
                    if more.iter().any(|file| file.path.len() > MAX_PATH) {
                        return Err(protocol(&what, "a path that no file can have"));
                    }
                    bytes += more.iter().map(|file| file.path.len()).sum::<usize>();
                    files.extend(more);
                }
                ToHost::Done => {
                    channel.close();
                    break;
                }
                other => return Err(unexpected(&what, &other)),
            }
            if files.len() > limit || bytes > MAX_LISTED_BYTES {
                return Err(protocol(&what, "more files than asked for"));
            }
        }
        if files.is_sorted_by(|a, b| a.path < b.path) {
            Ok(files)
        } else {
            Err(protocol(&what, "files out of order"))
        }
    }

    /// Opens one regular file for reading.
    pub async fn read(&self, spec: &ReadSpec) -> Result<FileRead, AgentError> {
        let what = format!("read {} in {}", spec.path, spec.root);
        let mut channel = self.session.channel(&Open::Read(spec.clone()))?;
        match answer(&mut channel, &what).await? {
            ToHost::File { mode, size, digest } => Ok(FileRead {
                mode,
                size,
                digest,
                left: size,
                channel,
                what,
            }),
            other => Err(unexpected(&what, &other)),
        }
    }

    /// Lets programs in the guest reach `port` on its loopback; each connection arrives as a channel. Dropping what this
    /// returns closes the port and refuses further tunnels.
    pub async fn proxy(&self, port: u16) -> Result<ProxyPort, AgentError> {
        let what = format!("listen on the guest's port {port}");
        let mut channel = self.session.channel(&Open::Proxy { port })?;
        // As many waiting connections as a small listen queue holds; more are refused.
        let (sender, tunnels) = mpsc::channel(16);
        self.session.accept_tunnels(Some(sender));
        match answer(&mut channel, &what).await? {
            ToHost::Done => Ok(ProxyPort {
                session: Arc::clone(&self.session),
                tunnels,
                _open: channel,
            }),
            other => Err(unexpected(&what, &other)),
        }
    }

    /// Resolves when the session has ended, with the reason.
    pub async fn ended(&self) -> SessionError {
        self.session.ended().await
    }

    /// Ends the session, for all clones; returns once the stream is closed.
    pub async fn disconnect(&self) {
        self.session.close().await;
    }

    async fn done(&self, what: &str, open: &Open) -> Result<(), AgentError> {
        let mut channel = self.session.channel(open)?;
        match answer(&mut channel, what).await? {
            ToHost::Done => {
                channel.close();
                Ok(())
            }
            other => Err(unexpected(what, &other)),
        }
    }
}

/// What a running command says.
#[derive(Debug)]
pub enum ExecEvent {
    /// Some of its output.
    Output(Lane, Vec<u8>),
    /// Its end: nothing of its process tree is left, and all its output has been given.
    Ended(Ended),
}

/// A running command. Dropping it kills the command and everything it started.
#[derive(Debug)]
pub struct Execution {
    channel: Channel,
}

impl Execution {
    /// The next thing it says; not to be called again after [`ExecEvent::Ended`].
    pub async fn next(&mut self) -> Result<ExecEvent, AgentError> {
        match self.channel.receive().await? {
            Incoming::Data(lane, bytes) => Ok(ExecEvent::Output(lane, bytes)),
            Incoming::Message(ToHost::Ended(mut ended)) => {
                self.channel.close();
                if let Termination::NotStarted { problem } = &mut ended.termination {
                    *problem = printable(problem);
                }
                Ok(ExecEvent::Ended(ended))
            }
            Incoming::Message(ToHost::Failed(problem)) => Err(failed("run a command", &problem)),
            Incoming::Message(other) => Err(unexpected("run a command", &other)),
            Incoming::Closed => Err(protocol("run a command", "closed without an end")),
        }
    }

    /// Asks for the command's end: SIGTERM to its whole tree, SIGKILL after `grace`. The end still comes from
    /// [`Execution::next`].
    pub async fn terminate(&self, grace: Duration) -> Result<(), AgentError> {
        Ok(self.channel.send(&ToGuest::Terminate { grace }).await?)
    }

    /// Runs it to its end and collects its output, at most `limit` bytes of each lane; what is more is dropped.
    pub async fn output(mut self, limit: usize) -> Result<Output, AgentError> {
        let mut output = Output {
            stdout: Vec::new(),
            stderr: Vec::new(),
            ended: None,
        };
        loop {
            match self.next().await? {
                ExecEvent::Output(lane, bytes) => {
                    let into = match lane {
                        Lane::Out => &mut output.stdout,
                        Lane::Err => &mut output.stderr,
                    };
                    let room = limit.saturating_sub(into.len());
                    into.extend_from_slice(&bytes[..bytes.len().min(room)]);
                }
                ExecEvent::Ended(ended) => {
                    output.ended = Some(ended);
                    return Ok(output);
                }
            }
        }
    }
}

/// A command that has ended, with what it said.
#[derive(Debug)]
pub struct Output {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    ended: Option<Ended>,
}

impl Output {
    /// How it ended.
    pub fn ended(&self) -> &Ended {
        self.ended
            .as_ref()
            .expect("an output is only given out after the end")
    }

    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.ended().termination == wire::Termination::Exited { code: 0 }
    }

    /// Standard output as text, invalid UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Files on their way into the guest.
#[derive(Debug)]
pub struct Put {
    channel: Channel,
    what: String,
    owing: u64,
}

impl Put {
    /// The next entry. The bytes of a file must follow, through [`Put::bytes`], before the next entry.
    ///
    /// # Panics
    /// If bytes of the file before are still missing.
    pub async fn entry(&mut self, entry: &Entry) -> Result<(), AgentError> {
        assert_eq!(self.owing, 0, "the file before {} is not whole", entry.path);
        self.owing = match entry.kind {
            wire::EntryKind::File { size } => size,
            wire::EntryKind::Directory | wire::EntryKind::Symlink { .. } => 0,
        };
        let sender = self.channel.sender();
        let message = ToGuest::Entry(entry.clone());
        self.unless_refused(sender.send(&message)).await
    }

    /// More bytes of the file last announced.
    ///
    /// # Panics
    /// If they are more than were announced.
    pub async fn bytes(&mut self, chunk: &[u8]) -> Result<(), AgentError> {
        let length = chunk.len() as u64;
        self.owing = self
            .owing
            .checked_sub(length)
            .expect("no more bytes than were announced");
        let sender = self.channel.sender();
        self.unless_refused(sender.send_data(chunk)).await
    }

    /// Nothing more: returns once all is written.
    pub async fn finish(mut self) -> Result<PutSummary, AgentError> {
        let sender = self.channel.sender();
        self.unless_refused(sender.send(&ToGuest::Finish)).await?;
        match answer(&mut self.channel, &self.what).await? {
            ToHost::Stored(summary) => {
                self.channel.close();
                Ok(summary)
            }
            other => Err(unexpected(&self.what, &other)),
        }
    }

    /// Waits for room to send, or for the agent's refusal: an agent that has refused takes no more, so the room would never
    /// come, and its own sentence is worth more than the state of the channel.
    async fn unless_refused(
        &mut self,
        sending: impl Future<Output = Result<(), SessionError>>,
    ) -> Result<(), AgentError> {
        tokio::select! {
            biased;
            Ok(()) = patiently(sending) => Ok(()),
            early = answer(&mut self.channel, &self.what) => match early {
                Err(why) => Err(why),
                Ok(message) => Err(unexpected(&self.what, &message)),
            },
        }
    }
}

/// A file on its way out of the guest. What the agent says of it is a claim until the caller has hashed the bytes.
#[derive(Debug)]
pub struct FileRead {
    /// Permission bits.
    pub mode: u32,
    /// Announced length; exactly as many bytes come.
    pub size: u64,
    /// Announced SHA-256.
    pub digest: wire::Digest,
    left: u64,
    channel: Channel,
    what: String,
}

impl FileRead {
    /// The next bytes; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, AgentError> {
        match patiently(self.channel.receive()).await? {
            Incoming::Data(Lane::Out, bytes) => {
                let left = self.left.checked_sub(bytes.len() as u64);
                self.left =
                    left.ok_or_else(|| protocol(&self.what, "more bytes than announced"))?;
                Ok(Some(bytes))
            }
            Incoming::Message(ToHost::Done) if self.left == 0 => {
                self.channel.close();
                Ok(None)
            }
            Incoming::Message(ToHost::Failed(problem)) => Err(failed(&self.what, &problem)),
            Incoming::Message(other) => Err(unexpected(&self.what, &other)),
            Incoming::Data(Lane::Err, _) => Err(protocol(&self.what, "data on the second lane")),
            Incoming::Closed => Err(protocol(&self.what, "closed before the last byte")),
        }
    }
}

/// An open proxy port inside the guest.
#[derive(Debug)]
pub struct ProxyPort {
    session: Arc<Session>,
    tunnels: mpsc::Receiver<Channel>,
    _open: Channel,
}

impl ProxyPort {
    /// The next connection, as a byte stream; `None` when the session has ended.
    pub async fn accept(&mut self) -> Option<crate::tunnel::Tunnel> {
        self.tunnels.recv().await.map(crate::tunnel::Tunnel::new)
    }
}

impl Drop for ProxyPort {
    fn drop(&mut self) {
        self.session.accept_tunnels(None);
    }
}

/// The next message on a channel that carries no data just now.
async fn answer(channel: &mut Channel, what: &str) -> Result<ToHost, AgentError> {
    match patiently(channel.receive()).await? {
        Incoming::Message(ToHost::Failed(problem)) => Err(failed(what, &problem)),
        Incoming::Message(message) => Ok(message),
        Incoming::Data(..) => Err(protocol(what, "data instead of an answer")),
        Incoming::Closed => Err(protocol(what, "closed without an answer")),
    }
}

/// Waits for the agent, but not for ever.
async fn patiently<T>(
    waiting: impl Future<Output = Result<T, SessionError>>,
) -> Result<T, SessionError> {
    let late = |_| SessionError::Ended(format!("silent for {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .map_err(late)?
}

fn failed(what: &str, problem: &str) -> AgentError {
    AgentError::Failed {
        what: what.into(),
        problem: printable(problem),
    }
}

/// A guest's sentence as it may stand in a log: short, and without control characters.
fn printable(problem: &str) -> String {
    problem
        .chars()
        .take(MAX_PROBLEM)
        .flat_map(char::escape_debug)
        .collect()
}

fn unexpected(what: &str, message: &ToHost) -> AgentError {
    let name = match message {
        ToHost::Done => "done",
        ToHost::Failed(_) => "failed",
        ToHost::Ended(_) => "ended",
        ToHost::Stored(_) => "stored",
        ToHost::Settled(_) => "settled",
        ToHost::Probed(_) => "probed",
        ToHost::Surveyed(_) => "surveyed",
        ToHost::Found(_) => "found",
        ToHost::File { .. } => "file",
    };
    protocol(what, &format!("the answer was {name:?}"))
}

fn protocol(what: &str, problem: &str) -> AgentError {
    SessionError::Protocol(format!("{what}: {problem}")).into()
}
