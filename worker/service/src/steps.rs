//! Runs one step in the guest and says how it ended.
//!
//! The guest keeps the step's own timeout; the host keeps the limits over all steps and over silence, and a last one for a
//! guest that does not keep its own.
//!
//! What always holds: every wait has an end; a step that was cut says for what.

use std::time::Duration;

use schemas::guest::{BUILD_GID, BUILD_UID, directory, step_environment};
use schemas::log::LogStream;
use schemas::result::{StepResult, Termination};
use schemas::step::{Command, Env, Step};
use tokio::time::Instant;
use vm::{AgentClient, ExecEvent};
use wire::{Ended, ExecSpec, Lane, User};

use crate::breaker::Health;
use crate::cancels::Cancel;
use crate::log::{JobLog, LogError};
use crate::verdict::{self, Cut, Verdict};

/// What a guest gets, beyond a step's own limits, to report its end before it is given up.
pub const GUEST_MARGIN: Duration = Duration::from_secs(30);

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

/// What stands around a step.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// Variables of the environment and of the job, below the step's own.
    pub env: [&'a Env; 2],
    /// The source's time, in seconds since the Unix epoch.
    pub epoch: i64,
    /// The limits over all steps.
    pub limits: Limits,
    /// What tells it to end.
    pub cancel: &'a mut Cancel,
    /// Where its output goes.
    pub log: &'a mut JobLog,
    /// What is told of the first that is heard of it: this host can run a guest's command.
    pub health: &'a Health,
}

/// Runs `step`.
pub async fn run(
    agent: &AgentClient,
    step: &Step,
    around: Surroundings<'_>,
) -> Result<StepEnd, StepLost> {
    let limits = around.limits;
    let spec = spec(step, around.env, around.epoch, limits.kill_grace);
    let started = Instant::now();
    let (ended, cut) = supervise(agent, step, &spec, around).await?;
    let (termination, problem) = in_messages(&ended, cut);
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
    around: Surroundings<'_>,
) -> Result<(Ended, Option<Cut>), StepLost> {
    let Surroundings {
        limits,
        cancel,
        log,
        health,
        ..
    } = around;
    let mut unheard = Some(health);
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
        let asked = tokio::select! {
            event = execution.next() => match heard(event, &mut unheard).map_err(lost)? {
                ExecEvent::Output(lane, bytes) => {
                    silent_until = Instant::now() + limits.idle;
                    log.write(&step.name, stream(lane), &bytes).await.map_err(StepLost::Log)?;
                    None
                }
                ExecEvent::Ended(ended) => return Ok((ended, cut)),
            },
            () = tokio::time::sleep_until(deadline.min(give_up_at)) => {
                if Instant::now() >= give_up_at {
                    return Err(StepLost::Guest("the guest does not end the step".into()));
                }
                why
            }
            () = cancel.asked(), if cut != Some(Cut::Cancel) => Some(Cut::Cancel),
        };
        if asked.is_some() {
            cut = asked;
            give_up_at = give_up_at.min(Instant::now() + limits.kill_grace + GUEST_MARGIN);
            execution.terminate(limits.kill_grace).await.map_err(lost)?;
        }
    }
}

/// Says so, once, where something came of a guest's command.
fn heard<E>(event: Result<ExecEvent, E>, unheard: &mut Option<&Health>) -> Result<ExecEvent, E> {
    event.inspect(|_| {
        if let Some(health) = unheard.take() {
            health.guest_ran();
        }
    })
}

/// The log's word for where output came from.
pub fn stream(lane: Lane) -> LogStream {
    match lane {
        Lane::Out => LogStream::Stdout,
        Lane::Err => LogStream::Stderr,
    }
}

/// The agent's word for an end, in the words of messages, and why a command never started. The host itself ends a step on request, and
/// else only for a limit of time.
fn in_messages(ended: &Ended, cut: Option<Cut>) -> (Termination, Option<&str>) {
    match (&ended.termination, cut) {
        (wire::Termination::Exited { code }, _) => (Termination::Exited { code: *code }, None),
        (wire::Termination::Signalled { signal }, _) => {
            (Termination::Signalled { signal: *signal }, None)
        }
        (wire::Termination::Terminated, Some(Cut::Cancel)) => (Termination::Cancelled, None),
        (wire::Termination::TimedOut, _)
        | (wire::Termination::Terminated, Some(Cut::Run | Cut::Idle) | None) => {
            (Termination::TimedOut, None)
        }
        (wire::Termination::OutOfMemory, _) => (Termination::OutOfMemory, None),
        (wire::Termination::NotStarted { problem }, _) => (Termination::NotRun, Some(problem)),
    }
}
