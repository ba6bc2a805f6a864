//! Setup steps, one after the other, in a guest.
//!
//! What always holds: a step has an end. The guest brings it about when the step's time is over; one that does not is given up.

use std::collections::BTreeMap;
use std::time::Duration;

use schemas::step::{Command, Env, Step};
use schemas::{Token, guest};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};
use vm::{AgentClient, AgentError, ExecEvent};
use wire::{ExecSpec, Termination, User};

use crate::error::SetupError;
use crate::news::{Happened, News};
use crate::transcript::Transcript;

/// 10 s between SIGTERM and SIGKILL for a step past its time.
const KILL_GRACE: Duration = Duration::from_secs(10);

/// 30 s beyond the step's own time and that grace: what a guest on a busy host may need to report the end. One that needs longer does
/// not mean to.
const GUEST_MARGIN: Duration = Duration::from_secs(30);

/// The longest that a run of all `steps` may take: each is given up when it has not ended by then.
pub fn longest(steps: &[Step]) -> Duration {
    steps.iter().map(limit).sum()
}

fn limit(step: &Step) -> Duration {
    step.timeout() + KILL_GRACE + GUEST_MARGIN
}

/// A setup step that did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("setup step {step} {problem}")]
pub struct StepFailure {
    /// Which.
    pub step: Token,
    /// How it ended.
    pub termination: Termination,
    /// The same as a predicate.
    pub problem: String,
    /// The output of the setup so far.
    pub transcript: Transcript,
}

/// A setup step whose end nobody heard of: the guest died in it.
#[derive(Debug, thiserror::Error)]
#[error("run setup step {step}")]
pub struct LostStep {
    /// Which.
    pub step: Token,
    /// The output of the setup until then.
    pub transcript: Transcript,
    /// What became of the agent.
    #[source]
    pub source: AgentError,
}

/// Who runs the steps, and with which variables.
#[derive(Debug, Clone)]
pub struct Setup<'a> {
    /// In messages: `template node`.
    pub what: String,
    /// The user.
    pub user: User,
    /// In seconds since the Unix epoch.
    pub source_date_epoch: i64,
    /// Variables for every step; a later layer wins.
    pub layers: Vec<&'a Env>,
}

impl Setup<'_> {
    /// Runs `steps` until one fails.
    ///
    /// # Errors
    /// [`SetupError::Step`] for a step that did not succeed, also where the guest did not end it in time; [`SetupError::Lost`] for a
    /// guest that is gone. After either the guest is of no more use.
    pub async fn run(
        &self,
        agent: &AgentClient,
        steps: &[Step],
        news: &dyn News,
    ) -> Result<(), SetupError> {
        let mut transcript = Transcript::default();
        for step in steps {
            let begun = Instant::now();
            transcript.begin();
            news.tell(Happened::StepStarted { step: &step.name }).await;
            let ended = self.step(agent, step, &mut transcript, news).await;
            transcript = judge(step, ended, transcript)?;
            let (step, took) = (&step.name, begun.elapsed());
            info!(what = self.what, %step, ?took, "setup step done");
            news.tell(Happened::StepFinished { step, took }).await;
        }
        Ok(())
    }

    /// Runs one step. Giving it up ends it in the guest as well, as far as that listens.
    async fn step(
        &self,
        agent: &AgentClient,
        step: &Step,
        transcript: &mut Transcript,
        news: &dyn News,
    ) -> Result<Termination, AgentError> {
        let limit = limit(step);
        let following = self.follow(agent, step, transcript, news);
        let Ok(ended) = timeout(limit, following).await else {
            let (what, step) = (&self.what, &step.name);
            warn!(what, %step, ?limit, "the guest does not end the setup step");
            return Ok(Termination::TimedOut);
        };
        ended
    }

    /// Moves a step's output until its end.
    async fn follow(
        &self,
        agent: &AgentClient,
        step: &Step,
        transcript: &mut Transcript,
        news: &dyn News,
    ) -> Result<Termination, AgentError> {
        let mut execution = agent.exec(&self.spec(step))?;
        loop {
            match execution.next().await? {
                ExecEvent::Output(lane, bytes) => {
                    transcript.write(&bytes);
                    let output = Happened::Output {
                        step: &step.name,
                        lane,
                        bytes: &bytes,
                    };
                    news.tell(output).await;
                }
                ExecEvent::Ended(ended) => return Ok(ended.termination),
            }
        }
    }

    fn spec(&self, step: &Step) -> ExecSpec {
        ExecSpec {
            command: match &step.command {
                Command::Run(argv) => wire::Command::Argv(argv.clone()),
                Command::Sh(text) => wire::Command::Shell(text.clone()),
            },
            env: self.variables(step).into_iter().collect(),
            cwd: guest::directory(&step.cwd),
            user: self.user,
            timeout: step.timeout(),
            kill_grace: KILL_GRACE,
        }
    }

    fn variables(&self, step: &Step) -> BTreeMap<String, String> {
        let layers = self.layers.iter().copied().chain([&step.env]);
        guest::step_environment(self.source_date_epoch, layers)
    }
}

/// Gives the transcript back where the step succeeded, and else makes it part of the error.
fn judge(
    step: &Step,
    ended: Result<Termination, AgentError>,
    transcript: Transcript,
) -> Result<Transcript, SetupError> {
    let step_name = step.name.clone();
    match ended.map(|termination| (problem(&termination, step), termination)) {
        Ok((None, _)) => Ok(transcript),
        Ok((Some(problem), termination)) => Err(SetupError::Step(Box::new(StepFailure {
            step: step_name,
            termination,
            problem,
            transcript,
        }))),
        Err(source) => Err(SetupError::Lost(Box::new(LostStep {
            step: step_name,
            transcript,
            source,
        }))),
    }
}

/// What is wrong with how a step ended; none if it succeeded.
fn problem(termination: &Termination, step: &Step) -> Option<String> {
    match termination {
        Termination::Exited { code: 0 } => None,
        Termination::Exited { code } => Some(format!("exited with {code}")),
        Termination::Signalled { signal } => Some(format!("was ended by signal {signal}")),
        Termination::TimedOut => Some(format!("ran past its {} s", step.timeout_s)),
        Termination::OutOfMemory => Some("used up the guest's memory".to_owned()),
        Termination::Terminated => Some("was ended by the host".to_owned()),
        Termination::NotStarted { problem } => {
            Some(format!("did not start: {}", problem.escape_debug()))
        }
    }
}

#[cfg(test)]
mod tests;
