//! Where the cases run: one thread, which every process of theirs ends with, and one fleet that most of them share.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use e2e::fleet::{Fleet, Guests};
use e2e::state::State;
use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::Runtime;
use tokio::sync::{RwLock, mpsc, oneshot};

/// A case: what must hold of a fleet.
pub(crate) type Case = for<'a> fn(&'a Fleet) -> LocalBoxFuture<'a, Result<()>>;

/// 5 min for one case: twice what the longest takes.
const DEADLINE: Duration = Duration::from_mins(5);

/// Who runs at the same time as a case. In the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Company {
    /// Nobody, since it measures.
    Alone,
    /// Others.
    Together,
}

/// The thread on which cases run.
#[derive(Clone)]
pub(crate) struct Stage {
    requests: mpsc::UnboundedSender<Request>,
    thread: Arc<Mutex<Option<JoinHandle<Result<()>>>>>,
}

/// A case to run, and who waits for what comes of it.
struct Request {
    name: &'static str,
    company: Company,
    case: Case,
    outcome: oneshot::Sender<Result<()>>,
}

impl Stage {
    /// Starts the thread. The fleet is started by the first case.
    pub(crate) fn start() -> Self {
        let (requests, received) = mpsc::unbounded_channel();
        let thread = std::thread::spawn(|| {
            let runtime = Runtime::new().context("start a runtime")?;
            runtime.block_on(serve(received))
        });
        Self {
            requests,
            thread: Arc::new(Mutex::new(Some(thread))),
        }
    }

    /// Runs a case to its end.
    pub(crate) fn run(&self, name: &'static str, company: Company, case: Case) -> Result<()> {
        let (outcome, ended) = oneshot::channel();
        let request = Request {
            name,
            company,
            case,
            outcome,
        };
        let sent = self.requests.send(request);
        sent.map_err(|_| anyhow!("the fleet does not start"))?;
        ended.blocking_recv().context("the fleet has ended")?
    }

    /// Ends the fleet.
    pub(crate) fn end(self) -> Result<()> {
        let thread = self.thread.lock().expect("nobody panics with it").take();
        drop(self.requests);
        let thread = thread.context("it is ended once")?;
        thread.join().map_err(|_| anyhow!("a case panicked"))?
    }
}

async fn serve(mut requests: mpsc::UnboundedReceiver<Request>) -> Result<()> {
    let Some(first) = requests.recv().await else {
        return Ok(());
    };
    let fleet = Box::pin(Fleet::start(
        &State::from_environment()?,
        "cases",
        Guests::Fake,
    ))
    .await?;
    let turns = RwLock::new(());
    let (mut running, mut all_good) = (FuturesUnordered::new(), true);
    for request in in_order(first, &mut requests) {
        running.push(perform(request, &fleet, &turns));
    }
    loop {
        tokio::select! {
            Some(request) = requests.recv() => running.push(perform(request, &fleet, &turns)),
            Some(good) = running.next() => all_good &= good,
            else => break,
        }
    }
    drop(running);
    if all_good {
        fleet.finish().await
    } else {
        // The logs tell why.
        fleet.stop().await
    }
}

/// The cases that were asked for while the fleet was started, which are all of them: those that run alone come first, so that none of the
/// others, each of which waits for half a minute, keeps them waiting before the rest can begin.
fn in_order(first: Request, others: &mut mpsc::UnboundedReceiver<Request>) -> Vec<Request> {
    let mut requests = vec![first];
    while let Ok(request) = others.try_recv() {
        requests.push(request);
    }
    requests.sort_by_key(|request| request.company);
    requests
}

/// Runs a case; gives whether it was good.
async fn perform(request: Request, fleet: &Fleet, turns: &RwLock<()>) -> bool {
    let Request {
        name,
        company,
        case,
        outcome,
    } = request;
    let (start, result) = match company {
        Company::Together => {
            let _turn = turns.read().await;
            (Instant::now(), in_time(case(fleet)).await)
        }
        Company::Alone => {
            let _turn = turns.write().await;
            (Instant::now(), in_time(case(fleet)).await)
        }
    };
    eprintln!("{:>8.1} s  {name}", start.elapsed().as_secs_f64());
    let good = result.is_ok();
    // Who asked waits for it.
    let _received = outcome.send(result);
    good
}

async fn in_time(case: LocalBoxFuture<'_, Result<()>>) -> Result<()> {
    let ended = tokio::time::timeout(DEADLINE, case).await;
    ended.with_context(|| format!("not within {DEADLINE:?}"))?
}
