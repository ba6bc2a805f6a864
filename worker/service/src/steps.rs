//! Runs one step in the guest and says how it ended.
//!
//! The guest keeps the step's own timeout; the host keeps the limits over all steps and over silence, and a last one for a
//! guest that does not keep its own.
//!
//! What always holds: every wait has an end; a step that was cut says for which limit.

use std::time::Duration;

use schemas::guest::{BUILD_GID, BUILD_UID, directory, step_environment};
use schemas::log::LogStream;
use schemas::result::{StepResult, Termination};
use schemas::step::{Command, Env, Step};
use tokio::time::Instant;
use vm::{AgentClient, ExecEvent};
use wire::{Ended, ExecSpec, Lane, User};

use crate::log::{JobLog, LogError};
use crate::verdict::{self, Cut, Verdict};

/// What a guest gets, beyond a step's own limits, to report its end before it is given up.
const GUEST_MARGIN: Duration = Duration::from_secs(30);

/// The limits over all steps of a job.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// When the time for all steps is over.
    pub run_until: Instant,
    /// How long a step may be silent.
    pub idle: Duration,
    /// Time between SIGTERM and SIGKILL.
    pub kill_grace: Duration,
}

/// A step that came to its end.
#[derive(Debug)]
pub struct StepEnd {
    /// For the result.
    pub result: StepResult,
    /// What it means for the job; `None` if the next step may run.
    pub verdict: Option<Verdict>,
    /// What it used.
    pub usage: wire::Usage,
}

/// A step that did not.
#[derive(Debug)]
pub enum StepLost {
    /// The guest is gone, or does not keep its own limits.
    Guest(String),
    /// The host could not keep the log.
    Log(LogError),
}

/// Runs `step`, with `env` of the environment and the job below its own.
pub async fn run(
    agent: &AgentClient,
    step: &Step,
    env: [&Env; 2],
    epoch: i64,
    limits: Limits,
    log: &mut JobLog,
) -> Result<StepEnd, StepLost> {
    let spec = spec(step, env, epoch, limits.kill_grace);
    let started = Instant::now();
    let (ended, cut) = supervise(agent, step, &spec, limits, log).await?;
    let (termination, problem) = in_messages(&ended);
    Ok(StepEnd {
        verdict: verdict::of_step(&step.name, termination, cut, ended.disk_free_bytes, problem),
        result: StepResult::new(step.name.clone(), termination, started.elapsed()),
        usage: ended.usage,
    })
}

fn spec(step: &Step, [environment, job]: [&Env; 2], epoch: i64, kill_grace: Duration) -> ExecSpec {
    let command = match &step.command {
        Command::Run(words) => wire::Command::Argv(words.clone()),
        Command::Sh(text) => wire::Command::Shell(text.clone()),
    };
    ExecSpec {
        command,
        env: step_environment(epoch, [environment, job, &step.env])
            .into_iter()
            .collect(),
        cwd: directory(&step.cwd),
        user: User {
            uid: BUILD_UID,
            gid: BUILD_GID,
        },
        timeout: step.timeout(),
        kill_grace,
    }
}

/// Moves output to the log until the command's end, which it brings about when a limit is reached.
async fn supervise(
    agent: &AgentClient,
    step: &Step,
    spec: &ExecSpec,
    limits: Limits,
    log: &mut JobLog,
) -> Result<(Ended, Option<Cut>), StepLost> {
    let lost = |error: vm::AgentError| StepLost::Guest(error.to_string());
    let mut execution = agent.exec(spec).map_err(lost)?;
    let mut cut = None;
    let mut silent_until = Instant::now() + limits.idle;
    let mut give_up_at =
        (Instant::now() + spec.timeout).min(limits.run_until) + limits.kill_grace + GUEST_MARGIN;
    loop {
        let (deadline, why) = match cut {
            Some(_) => (give_up_at, None),
            None if silent_until < limits.run_until => (silent_until, Some(Cut::Idle)),
            None => (limits.run_until, Some(Cut::Run)),
        };
        tokio::select! {
            event = execution.next() => match event.map_err(lost)? {
                ExecEvent::Output(lane, bytes) => {
                    silent_until = Instant::now() + limits.idle;
                    log.write(&step.name, stream(lane), &bytes).await.map_err(StepLost::Log)?;
                }
                ExecEvent::Ended(ended) => return Ok((ended, cut)),
            },
            () = tokio::time::sleep_until(deadline.min(give_up_at)) => {
                if Instant::now() >= give_up_at {
                    return Err(StepLost::Guest("the guest does not end the step".into()));
                }
                cut = why;
                give_up_at = give_up_at.min(Instant::now() + limits.kill_grace + GUEST_MARGIN);
                execution.terminate(limits.kill_grace).await.map_err(lost)?;
            }
        }
    }
}

/// The log's word for where output came from.
pub fn stream(lane: Lane) -> LogStream {
    match lane {
        Lane::Out => LogStream::Stdout,
        Lane::Err => LogStream::Stderr,
    }
}

/// The agent's word for an end, in the words of messages, and why a command never started. The host itself only ends a step
/// for a limit of time.
fn in_messages(ended: &Ended) -> (Termination, Option<&str>) {
    match &ended.termination {
        wire::Termination::Exited { code } => (Termination::Exited { code: *code }, None),
        wire::Termination::Signalled { signal } => {
            (Termination::Signalled { signal: *signal }, None)
        }
        wire::Termination::TimedOut | wire::Termination::Terminated => {
            (Termination::TimedOut, None)
        }
        wire::Termination::OutOfMemory => (Termination::OutOfMemory, None),
        wire::Termination::NotStarted { problem } => (Termination::NotRun, Some(problem)),
    }
}
