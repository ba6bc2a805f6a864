//! What the cases say to a guest, in few words.

use std::fmt::Debug;
use std::time::Duration;

use wire::{
    Command, Entry, EntryKind, ExecSpec, Found, Lane, ListSpec, PutSpec, PutSummary, ReadSpec,
    Termination, User,
};

use crate::agent::{AgentClient, AgentError, ExecEvent, Execution, Output};
use crate::driver::{Vm, VmError};

/// The directory on disk that the cases work in.
pub(super) const SOURCE: &str = "/build/src";

/// A directory in memory.
pub(super) const MEMORY: &str = "/run/conformance";

/// Where the guest's programs are.
pub(super) const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// Longest time for a command that is not about time.
const PATIENCE: Duration = Duration::from_secs(40);

/// Most bytes of output that a case keeps.
const MAX_OUTPUT: usize = 16 * 1024 * 1024;

/// A case that failed: what was seen.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// An error with all its causes.
    fn from_error(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self(text)
    }
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        Self::from_error(&error)
    }
}

impl From<VmError> for Failure {
    fn from(error: VmError) -> Self {
        Self::from_error(&error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::from_error(&error)
    }
}

/// Fails with `what` where `holds` does not.
pub(super) fn check(holds: bool, what: &str) -> Result<(), Failure> {
    if holds {
        Ok(())
    } else {
        Err(Failure::new(what))
    }
}

/// Fails where `seen` is not `wanted`.
#[expect(
    clippy::needless_pass_by_value,
    reason = "callers compare what they have just got"
)]
pub(super) fn equal<T: PartialEq<W> + Debug, W: Debug>(
    what: &str,
    seen: T,
    wanted: W,
) -> Result<(), Failure> {
    if seen == wanted {
        Ok(())
    } else {
        let text = format!("{what} is {seen:?} and should be {wanted:?}");
        Err(Failure(text))
    }
}

/// The sentence with which the agent refused; anything else is a failure.
pub(super) fn refusal<T: Debug>(
    what: &str,
    result: Result<T, AgentError>,
) -> Result<String, Failure> {
    match result {
        Err(AgentError::Failed { problem, .. }) if !problem.is_empty() => Ok(problem),
        Err(error) => Err(Failure(format!("{what} is answered with {error}"))),
        Ok(value) => Err(Failure(format!("{what} is answered with {value:?}"))),
    }
}

/// A VM that a case uses; a [`Vm`] or a [`crate::BakeVm`].
pub(super) struct Guest<V: ?Sized = dyn Vm> {
    pub(super) vm: Box<V>,
}

impl<V: Vm + ?Sized> Guest<V> {
    pub(super) fn new(vm: Box<V>) -> Self {
        Self { vm }
    }

    pub(super) fn agent(&self) -> &AgentClient {
        self.vm.agent()
    }

    /// Starts a script.
    pub(super) fn start(&self, script: &str) -> Result<Execution, Failure> {
        Ok(self.agent().exec(&shell(script))?)
    }

    /// Runs a command to its end.
    pub(super) async fn run(&self, spec: &ExecSpec) -> Result<Output, Failure> {
        Ok(self.agent().exec(spec)?.output(MAX_OUTPUT).await?)
    }

    /// Runs a script that must exit with 0, and gives its standard output without the last line's end.
    pub(super) async fn sh(&self, script: &str) -> Result<String, Failure> {
        let output = self.run(&shell(script)).await?;
        if output.success() {
            return Ok(output.text().trim_end().to_owned());
        }
        let error = String::from_utf8_lossy(&output.stderr);
        let end = &output.ended().termination;
        Err(Failure(format!("{script:?} ended with {end:?}: {error}")))
    }

    /// Whether the guest has a program.
    pub(super) async fn has(&self, program: &str) -> Result<bool, Failure> {
        let output = self.run(&shell(&format!("command -v {program}"))).await?;
        Ok(output.success())
    }

    /// Waits until the process `id` is gone; a zombie is gone.
    pub(super) async fn wait_for_end_of(&self, id: &str) -> Result<(), Failure> {
        check(
            id.parse::<u32>().is_ok(),
            &format!("{id:?} is no process id"),
        )?;
        let script = format!(
            "i=0; while read -r _ _ state _ </proc/{id}/stat && [ \"$state\" != Z ]; do
               i=$((i+1)); [ $i -lt 100 ] || exit 1; sleep 0.1
             done 2>/dev/null"
        );
        let output = self.run(&shell(&script)).await?;
        check(output.success(), &format!("process {id} is still there"))
    }

    /// Puts files below `root`.
    pub(super) async fn put(
        &self,
        root: &str,
        entries: &[(Entry, &[u8])],
    ) -> Result<PutSummary, AgentError> {
        let spec = PutSpec {
            root: root.into(),
            owner: User::BUILD,
        };
        let mut put = self.agent().put(&spec)?;
        for (entry, bytes) in entries {
            put.entry(entry).await?;
            put.bytes(bytes).await?;
        }
        put.finish().await
    }

    /// Reads a whole file.
    pub(super) async fn read(&self, root: &str, path: &str) -> Result<Contents, AgentError> {
        let spec = ReadSpec {
            root: root.into(),
            path: path.into(),
        };
        let mut read = self.agent().read(&spec).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = read.next().await? {
            bytes.extend(chunk);
        }
        Ok(Contents {
            mode: read.mode,
            digest: read.digest,
            bytes,
        })
    }

    /// Lists files below [`SOURCE`].
    pub(super) async fn list(&self, globs: &[&str], limit: u32) -> Result<Vec<Found>, AgentError> {
        let spec = ListSpec {
            root: SOURCE.into(),
            globs: globs.iter().map(|&glob| glob.into()).collect(),
            limit,
        };
        self.agent().list(&spec).await
    }
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) mode: u32,
    pub(super) digest: wire::Digest,
    pub(super) bytes: Vec<u8>,
}

/// A script, as the cases' user, in [`SOURCE`].
pub(super) fn shell(script: &str) -> ExecSpec {
    spec(Command::Shell(script.into()))
}

/// A program with its arguments, as the cases' user, in [`SOURCE`].
pub(super) fn program(words: &[&str]) -> ExecSpec {
    let words = words.iter().map(|&word| word.into());
    spec(Command::Argv(words.collect()))
}

fn spec(command: Command) -> ExecSpec {
    ExecSpec {
        command,
        env: vec![("PATH".into(), PATH.into())],
        cwd: SOURCE.into(),
        user: User::BUILD,
        timeout: PATIENCE,
        kill_grace: Duration::ZERO,
    }
}

/// When the cases' files were last changed: long ago, and no round number.
pub(super) const MTIME: i64 = 1_234_567_891;

/// A file for [`Guest::put`].
pub(super) fn file<'b>(path: &str, bytes: &'b [u8]) -> (Entry, &'b [u8]) {
    let size = bytes.len() as u64;
    (entry(path, EntryKind::File { size }, 0o644), bytes)
}

/// A directory for [`Guest::put`].
pub(super) fn directory(path: &str) -> (Entry, &'static [u8]) {
    (entry(path, EntryKind::Directory, 0o755), &[])
}

/// A symbolic link for [`Guest::put`].
pub(super) fn link(path: &str, target: &str) -> (Entry, &'static [u8]) {
    let target = target.into();
    (entry(path, EntryKind::Symlink { target }, 0o777), &[])
}

pub(super) fn entry(path: &str, kind: EntryKind, mode: u32) -> Entry {
    Entry {
        path: path.into(),
        kind,
        mode,
        mtime: MTIME,
    }
}

/// Reads a command's output up to the end of its first line; gives the line.
pub(super) async fn first_line(execution: &mut Execution) -> Result<String, Failure> {
    let mut seen = Vec::new();
    while !seen.contains(&b'\n') {
        match execution.next().await? {
            ExecEvent::Output(_, bytes) => seen.extend(bytes),
            ExecEvent::Ended(ended) => {
                let text = String::from_utf8_lossy(&seen);
                return Err(Failure(format!("it ended with {ended:?} after {text:?}")));
            }
        }
    }
    let text = String::from_utf8_lossy(&seen);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Reads a command to its end; gives its standard output and how it ended.
pub(super) async fn rest(execution: &mut Execution) -> Result<(Vec<u8>, Termination), Failure> {
    let mut seen = Vec::new();
    loop {
        match execution.next().await? {
            ExecEvent::Output(Lane::Out, bytes) => seen.extend(bytes),
            ExecEvent::Output(Lane::Err, _) => {}
            ExecEvent::Ended(ended) => return Ok((seen, ended.termination)),
        }
    }
}
