//! One proxy for one guest: each stream is one request, decided by the policy of the current phase.
//!
//! ```text
//! Source ──▶ Setup ──▶ Steps ──▶ closed        any of them may be skipped; none comes again
//!        cut       cut       cut
//! ```

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::endpoint::Endpoint;
use crate::head::{self, Head};
use crate::limits;
use crate::log::Log;
use crate::outside::{self, ConnectError};
use crate::policy::{Phase, Policy};
use crate::reason::Reason;
use crate::request::Request;
use crate::resolve::Resolver;
use crate::tunnel;

/// The way out of one guest. It begins in [`Phase::Source`]. Clones share phase, tunnels and log.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

struct Shared {
    policy: Policy,
    resolver: Box<dyn Resolver>,
    log: Log,
    slots: Semaphore,
    refusals: Semaphore,
    period: Mutex<Period>,
}

/// The time in which one phase lasts, and the streams that began in it.
#[derive(Clone)]
struct Period {
    /// `None` once the proxy is closed.
    phase: Option<Phase>,
    over: CancellationToken,
    streams: TaskTracker,
}

/// Why a proxy does not enter a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PhaseError {
    /// The phase is the current one or an earlier one.
    #[error("cannot go from phase {from} to phase {to}: phases only move forward")]
    NotForward {
        /// The current phase.
        from: Phase,
        /// The phase that was asked for.
        to: Phase,
    },
    /// The proxy was closed.
    #[error("cannot go to phase {to}: the way out is closed")]
    Closed {
        /// The phase that was asked for.
        to: Phase,
    },
}

impl Proxy {
    /// A proxy that allows what `policy` does and gives every decision to `log`.
    pub fn new(policy: Policy, resolver: impl Resolver + 'static, log: Log) -> Self {
        Self {
            shared: Arc::new(Shared {
                policy,
                resolver: Box::new(resolver),
                log,
                slots: Semaphore::new(limits::TUNNELS),
                refusals: Semaphore::new(limits::REFUSALS),
                period: Mutex::new(Period::new(Some(Phase::Source))),
            }),
        }
    }

    /// Enters a later phase. When this returns, every stream of the earlier one has been cut and is in the log.
    pub async fn advance(&self, to: Phase) -> Result<(), PhaseError> {
        let ended = {
            let mut period = self.shared.period();
            match period.phase {
                None => return Err(PhaseError::Closed { to }),
                Some(from) if from >= to => return Err(PhaseError::NotForward { from, to }),
                Some(_) => std::mem::replace(&mut *period, Period::new(Some(to))),
            }
        };
        debug!(phase = %to, "egress phase entered");
        ended.end().await;
        Ok(())
    }

    /// Refuses everything from now on. When this returns, every open stream has been cut and is in the log.
    pub async fn close(&self) {
        let ended = std::mem::replace(&mut *self.shared.period(), Period::new(None));
        debug!("egress closed");
        ended.end().await;
    }

    /// The current phase, or `None` once closed.
    pub fn phase(&self) -> Option<Phase> {
        self.shared.period().phase
    }

    /// The log that was given to [`Proxy::new`].
    pub fn log(&self) -> &Log {
        &self.shared.log
    }

    /// Serves one stream of the guest: reads its request, answers it, and carries the tunnel until it ends or the phase
    /// does. Dropping this future cuts the tunnel, which is logged too.
    pub async fn serve<S>(&self, mut stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (period, _counted) = {
            let period = self.shared.period();
            (period.clone(), period.streams.token())
        };
        // On a cut the stream is dropped unanswered: whoever holds its other end sees it close.
        let _cut = period
            .over
            .run_until_cancelled(self.shared.serve(period.phase, &mut stream))
            .await;
    }
}

impl Shared {
    async fn serve(
        &self,
        phase: Option<Phase>,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin + Send),
    ) {
        let Ok(_slot) = self.slots.try_acquire() else {
            return self.refuse_for_want_of_slots(stream).await;
        };
        let head = match head::read(stream).await {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(reason) => return refuse(stream, Request::unnamed(&self.log), reason).await,
        };
        let request = Request::to(&self.log, &head.endpoint);
        match self.open(phase, &head.endpoint).await {
            Ok(outside) => carry(stream, outside, head, request).await,
            Err(reason) => refuse(stream, request, reason).await,
        }
    }

    /// Tells the guest, unless as many streams hear the same already: then this one is only logged and closed.
    async fn refuse_for_want_of_slots(&self, stream: &mut (impl AsyncWrite + Unpin)) {
        let mut request = Request::unnamed(&self.log);
        match self.refusals.try_acquire() {
            Ok(_slot) => refuse(stream, request, Reason::TooManyTunnels).await,
            Err(_none) => request.reason = Reason::TooManyTunnels,
        }
    }

    /// Decides on `endpoint` and connects to it.
    async fn open(&self, phase: Option<Phase>, endpoint: &Endpoint) -> Result<TcpStream, Reason> {
        let phase = phase.ok_or(Reason::Closed)?;
        let rules = self.policy.rules(phase, endpoint);
        let connected = outside::connect(&rules, endpoint, &*self.resolver).await;
        connected.map_err(|error| match error {
            ConnectError::NotAllowed => Reason::NotAllowed(phase),
            ConnectError::PrivateAddress => Reason::PrivateAddress,
            ConnectError::Unreachable(problem) => Reason::Unreachable(problem),
        })
    }

    /// A panic elsewhere cannot leave a period half replaced.
    fn period(&self) -> MutexGuard<'_, Period> {
        self.period.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Period {
    fn new(phase: Option<Phase>) -> Self {
        Self {
            phase,
            over: CancellationToken::new(),
            streams: TaskTracker::new(),
        }
    }

    /// Cuts what is open and waits until it is gone.
    async fn end(self) {
        self.over.cancel();
        self.streams.close();
        self.streams.wait().await;
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("phase", &self.phase())
            .field("policy", &self.shared.policy)
            .field("log", &self.shared.log)
            .finish_non_exhaustive()
    }
}

/// Tells the guest that its tunnel is open, and carries it.
async fn carry(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    outside: TcpStream,
    head: Head,
    mut request: Request<'_>,
) {
    debug!(endpoint = %head.endpoint, "egress tunnel open");
    let carried = async {
        answer(stream, "HTTP/1.1 200 Connection Established\r\n\r\n").await?;
        tunnel::carry(stream, outside, &head.rest, &request.carried).await
    };
    request.reason = match carried.await {
        Ok(()) => Reason::Finished,
        Err(error) => Reason::Broken(error.to_string()),
    };
}

/// Logs a refusal, then tells the guest in one line. A guest that is gone, or does not listen, does not hear it.
async fn refuse(stream: &mut (impl AsyncWrite + Unpin), mut request: Request<'_>, reason: Reason) {
    let refusal = request.refusal(&reason);
    request.reason = reason;
    drop(request);
    let telling = async {
        answer(stream, &refusal).await?;
        stream.shutdown().await
    };
    let _unheard = timeout(limits::ANSWER_DEADLINE, telling).await;
}

/// Sends an answer, for which the guest has a limited time.
async fn answer(stream: &mut (impl AsyncWrite + Unpin), text: &str) -> io::Result<()> {
    let sending = stream.write_all(text.as_bytes());
    let sent = timeout(limits::ANSWER_DEADLINE, sending).await;
    sent.map_err(|_elapsed| {
        io::Error::new(
            io::ErrorKind::TimedOut,
            "the guest does not take its answer",
        )
    })?
}
