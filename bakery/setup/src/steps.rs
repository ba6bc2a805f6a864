//! Setup steps, one after the other, in a guest.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use schemas::step::{Command, Env, Step};
use schemas::{Token, guest};
use tracing::info;
use vm::{AgentClient, ExecEvent};
use wire::{Ended, ExecSpec, Termination, User};

use crate::error::SetupError;
use crate::news::{Happened, News};
use crate::transcript::Transcript;

/// 10 s between SIGTERM and SIGKILL for a step past its time.
const KILL_GRACE: Duration = Duration::from_secs(10);

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
            let ended = self.step(agent, step, &mut transcript, news).await?;
            if let Some(problem) = problem(&ended.termination, step) {
                return Err(SetupError::Step(Box::new(StepFailure {
                    step: step.name.clone(),
                    termination: ended.termination,
                    problem,
                    transcript,
                })));
            }
            let (step, took) = (&step.name, begun.elapsed());
            info!(what = self.what, %step, ?took, "setup step done");
            news.tell(Happened::StepFinished { step, took }).await;
        }
        Ok(())
    }

    async fn step(
        &self,
        agent: &AgentClient,
        step: &Step,
        transcript: &mut Transcript,
        news: &dyn News,
    ) -> Result<Ended, SetupError> {
        let failed = || SetupError::agent(format!("run setup step {}", step.name));
        let mut execution = agent.exec(&self.spec(step)).map_err(failed())?;
        loop {
            match execution.next().await.map_err(failed())? {
                ExecEvent::Output(lane, bytes) => {
                    transcript.write(&bytes);
                    let output = Happened::Output {
                        step: &step.name,
                        lane,
                        bytes: &bytes,
                    };
                    news.tell(output).await;
                }
                ExecEvent::Ended(ended) => return Ok(ended),
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
mod tests {
    use super::*;

    fn step() -> Step {
        let mut step = Step::new("deps".parse().unwrap(), Command::Sh("true".into()));
        step.env = Env::from([("A".parse().unwrap(), "step".into())]);
        step.cwd = "sub".parse().unwrap();
        step
    }

    #[test]
    fn a_step_sees_the_base_then_each_layer_then_its_own_variables() {
        let lower = Env::from([
            ("A".parse().unwrap(), "lower".to_owned()),
            ("HOME".parse().unwrap(), "/elsewhere".to_owned()),
        ]);
        let setup = Setup {
            what: "environment widget".into(),
            user: User::BUILD,
            source_date_epoch: 7,
            layers: vec![&lower],
        };
        let spec = setup.spec(&step());
        let env: BTreeMap<_, _> = spec.env.into_iter().collect();
        assert_eq!(env["A"], "step");
        assert_eq!(env["HOME"], "/elsewhere");
        assert_eq!(env["SOURCE_DATE_EPOCH"], "7");
        assert_eq!(spec.cwd, "/build/src/sub");
    }

    #[test]
    fn how_a_step_ended_is_said_as_a_predicate() {
        let say = |termination| problem(&termination, &step());
        assert_eq!(say(Termination::Exited { code: 0 }), None);
        assert_eq!(
            say(Termination::Exited { code: 3 }).as_deref(),
            Some("exited with 3")
        );
        assert_eq!(
            say(Termination::TimedOut).as_deref(),
            Some("ran past its 1800 s")
        );
    }
}
