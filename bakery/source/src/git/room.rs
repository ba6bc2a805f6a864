//! The VM that git runs in: a fork of the operator's template with a way out to one host, thrown away afterwards.
//!
//! ```text
//! template ─fork─▶ guest ── git ── proxy port ═══▶ egress: that host and no other ──▶ server
//!                    │
//!                    └── git cat-file --batch ═══▶ Batch: every id recomputed here
//! ```
//!
//! What always holds: what git does in there, and what a server does to it, stays in there. The host takes bytes out and believes none.

use std::sync::Arc;
use std::time::Duration;

use egress::{Endpoint, Rule};
use schemas::guest::{BUILD_HOME, HOSTNAME};
use schemas::https::HttpsUri;
use schemas::source::GitRef;
use store::{NoProgress, Snapshot, StoreError};
use tokio::sync::mpsc;
use tracing::info;
use vm::{ExecEvent, Execution, Identity, Lifetime, Slot, SnapshotFiles, Vm, lifetime};
use wire::{Command, Entry, EntryKind, ExecSpec, Lane, PutSpec, Termination, User};

use crate::git::batch::Batch;
use crate::git::objects::Objects;
use crate::git::plumbing::{self, Guest};
use crate::git::problem::{GitProblem, Matter};
use crate::git::way_out::WayOut;
use crate::sources::Shared;

/// 20 min for one command: a repository of some GiB, under software emulation.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(20);

/// A repository costs four commands at most: one makes it, two fetch, one sends.
const LONGEST_FETCH: Duration = COMMAND_TIMEOUT.saturating_mul(4);

/// 64 KiB of git's complaints are kept.
const MAX_STDERR: usize = 64 * 1024;

/// 16 pieces of what git sends wait for the thread that reads them: a MiB.
const QUEUE: usize = 16;

/// A repository, and the commit of it that is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) uri: HttpsUri,
    /// 40 hexadecimal digits.
    pub(crate) commit: String,
    pub(crate) reference: Option<GitRef>,
}

/// A running VM for repositories of one host.
pub(crate) struct Room {
    /// First: the way out is shut before the guest goes.
    way_out: WayOut,
    vm: Box<dyn Vm>,
    /// Begins anew with every fetch.
    lifetime: Lifetime,
    guest: Guest,
    /// The host that it leads to.
    pub(crate) endpoint: Endpoint,
    /// Repositories so far; each has a directory of its own.
    repositories: usize,
    /// Its files are the guest's memory and disk.
    _snapshot: Snapshot,
}

impl Room {
    /// Forks the template, and opens a way out to `endpoint` by `rules`.
    pub(crate) async fn open(
        shared: &Shared,
        endpoint: Endpoint,
        rules: Vec<Rule>,
    ) -> Result<Self, GitProblem> {
        let snapshot = template(shared).await?;
        let files = SnapshotFiles::open(&snapshot.dir).map_err(GitProblem::Vm)?;
        let slot = Slot::create(&shared.slots).map_err(GitProblem::Vm)?;
        let identity = Identity::fresh(HOSTNAME);
        let vm = shared.driver.fork(&files, slot, &identity).await;
        let vm = vm.map_err(GitProblem::Vm)?;
        let lifetime = lifetime_of(&*vm);
        let guest = shared.guest.clone();
        let resolver = Arc::clone(&shared.resolver);
        let way_out = WayOut::open(vm.agent(), guest.proxy_port, rules, resolver).await?;
        info!(host = %endpoint, "fetch VM forked");
        Ok(Self {
            way_out,
            vm,
            lifetime,
            guest,
            endpoint,
            repositories: 0,
            _snapshot: snapshot,
        })
    }

    /// Fetches what is wanted and adds every object of it to `objects`.
    pub(crate) async fn fetch(
        &mut self,
        wanted: &Wanted,
        objects: Objects,
    ) -> Result<Objects, GitProblem> {
        self.lifetime = lifetime_of(&*self.vm);
        let directory = self.directory().await?;
        let fetched = self.fetch_into(&directory, wanted).await;
        fetched.map_err(|problem| self.way_out.explain(problem))?;
        self.receive(&directory, &wanted.commit, objects).await
    }

    /// Lets git fetch what is wanted into the directory.
    async fn fetch_into(&self, directory: &str, wanted: &Wanted) -> Result<(), GitProblem> {
        let Wanted {
            uri,
            commit,
            reference,
        } = wanted;
        self.run(directory, plumbing::init(), "make a repository".to_owned())
            .await?;
        let shown = uri.shown();
        let command = plumbing::fetch_commit(uri.as_str(), commit);
        let fetched = self.run(directory, command, format!("fetch {commit} from {shown}"));
        match (fetched.await, reference) {
            // A server that hands out no commit by its id alone.
            (
                Err(GitProblem::Failed {
                    matter: Matter::NotThere,
                    ..
                }),
                Some(reference),
            ) => {
                let command = plumbing::fetch_reference(uri.as_str(), reference.as_str());
                let doing = format!("fetch {reference} from {shown}");
                self.run(directory, command, doing).await
            }
            (fetched, _) => fetched,
        }
    }

    /// A new directory for a repository.
    async fn directory(&mut self) -> Result<String, GitProblem> {
        self.repositories += 1;
        let name = format!("repository-{}", self.repositories);
        let spec = PutSpec {
            root: BUILD_HOME.to_owned(),
            owner: User::BUILD,
        };
        let entry = Entry {
            path: name.clone(),
            kind: EntryKind::Directory,
            mode: 0o755,
            mtime: 0,
        };
        let mut put = self.vm.agent().put(&spec).map_err(GitProblem::Agent)?;
        put.entry(&entry).await.map_err(GitProblem::Agent)?;
        put.finish().await.map_err(GitProblem::Agent)?;
        Ok(format!("{BUILD_HOME}/{name}"))
    }

    /// Runs one command to its end. What it writes is of interest only where it fails.
    async fn run(
        &self,
        directory: &str,
        command: Vec<String>,
        doing: String,
    ) -> Result<(), GitProblem> {
        let execution = self.start(directory, Command::Argv(command))?;
        let output = execution.output(MAX_STDERR).await;
        let output = output.map_err(GitProblem::Agent)?;
        succeeded(&output.ended().termination, doing, &output.stderr)
    }

    /// Takes the commit and all that lies in its tree out of the guest.
    async fn receive(
        &self,
        directory: &str,
        commit: &str,
        objects: Objects,
    ) -> Result<Objects, GitProblem> {
        let execution = self.start(directory, Command::Shell(plumbing::send(commit)))?;
        let (sender, pieces) = mpsc::channel(QUEUE);
        let reader = tokio::task::spawn_blocking(move || read(pieces, objects));
        let sent = forward(execution, sender).await;
        let read = reader
            .await
            .expect("the reader neither panics nor is it cancelled");
        let (termination, stderr) = match (sent, read) {
            (Ok(sent), Ok(objects)) => {
                succeeded(&sent.0, format!("read {commit}"), &sent.1)?;
                return Ok(objects);
            }
            // Git's own words are worth more than where its stream broke off.
            (Ok(sent), Err(GitProblem::Stream(_))) if !is_success(&sent.0) => sent,
            (_, Err(problem)) | (Err(problem), _) => return Err(problem),
        };
        succeeded(&termination, format!("read {commit}"), &stderr)?;
        Err(GitProblem::Stream("ends within an object"))
    }

    fn start(&self, directory: &str, command: Command) -> Result<Execution, GitProblem> {
        let spec = ExecSpec {
            command,
            env: self.guest.environment(),
            cwd: directory.to_owned(),
            user: User::BUILD,
            timeout: COMMAND_TIMEOUT,
            kill_grace: Duration::ZERO,
        };
        self.vm.agent().exec(&spec).map_err(GitProblem::Agent)
    }
}

/// Long enough for a whole fetch, from now on.
fn lifetime_of(vm: &dyn Vm) -> Lifetime {
    Lifetime::begin(vm.kill_switch(), LONGEST_FETCH + lifetime::MARGIN)
}

/// The snapshot of the template that git runs in.
async fn template(shared: &Shared) -> Result<Snapshot, GitProblem> {
    let name = shared.config.fetch_template.as_ref();
    let name = name.ok_or(GitProblem::NoTemplate)?;
    let key = shared.store.template_key(&shared.class, name).await;
    let key = key.map_err(GitProblem::Store)?;
    let not_baked = || GitProblem::NotBaked {
        template: name.clone(),
        class: shared.class.clone(),
    };
    let key = key.ok_or_else(not_baked)?;
    match shared.store.fetch(&key, &NoProgress).await {
        Err(StoreError::NotFound { .. }) => Err(not_baked()),
        fetched => fetched.map_err(GitProblem::Store),
    }
}

/// Hands what the command writes to the reader, until either ends; returns how the command ended, and its complaints.
async fn forward(
    mut execution: Execution,
    pieces: mpsc::Sender<Vec<u8>>,
) -> Result<(Termination, Vec<u8>), GitProblem> {
    let mut stderr = Vec::new();
    loop {
        match execution.next().await.map_err(GitProblem::Agent)? {
            ExecEvent::Output(Lane::Out, bytes) => {
                if pieces.send(bytes).await.is_err() {
                    // The reader has its reason. Dropping the command ends it.
                    return Ok((Termination::Terminated, stderr));
                }
            }
            ExecEvent::Output(Lane::Err, bytes) => {
                let room = MAX_STDERR.saturating_sub(stderr.len());
                stderr.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            ExecEvent::Ended(ended) => return Ok((ended.termination, stderr)),
        }
    }
}

/// Reads pieces until there are no more.
fn read(mut pieces: mpsc::Receiver<Vec<u8>>, objects: Objects) -> Result<Objects, GitProblem> {
    let mut batch = Batch::new(objects);
    while let Some(piece) = pieces.blocking_recv() {
        batch.feed(&piece)?;
    }
    batch.finish()
}

fn is_success(termination: &Termination) -> bool {
    *termination == Termination::Exited { code: 0 }
}

fn succeeded(termination: &Termination, doing: String, stderr: &[u8]) -> Result<(), GitProblem> {
    let trouble = |said: String| GitProblem::Failed {
        doing: doing.clone(),
        said,
        matter: Matter::Trouble,
    };
    match termination {
        Termination::Exited { code: 0 } => Ok(()),
        Termination::Exited { .. } => Err(plumbing::failure(doing, stderr)),
        Termination::Signalled { signal } => Err(trouble(format!("ended by signal {signal}"))),
        Termination::TimedOut => Err(GitProblem::TimedOut(COMMAND_TIMEOUT)),
        Termination::OutOfMemory => Err(trouble("the VM has too little memory".to_owned())),
        Termination::Terminated => Err(trouble("ended by the host".to_owned())),
        Termination::NotStarted { problem } => Err(trouble(format!(
            "{problem} (the template for git sources needs git)"
        ))),
    }
}
