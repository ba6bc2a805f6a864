//! Setup steps, one after the other, in a guest that will be frozen.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use schemas::bake::BakeEventKind;
use schemas::step::{Command, Env, Step};
use schemas::{Token, guest};
use tracing::info;
use vm::{AgentClient, ExecEvent};
use wire::{Ended, ExecSpec, Termination, User};

use crate::error::BakeError;
use crate::news::{News, Reporter, seconds};
use crate::transcript::Transcript;

/// 10 s between SIGTERM and SIGKILL for a step past its time.
const KILL_GRACE: Duration = Duration::from_secs(10);

/// A setup step that did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("setup step {step} {problem}")]
pub struct StepFailure {
    /// Which.
    pub step: Token,
    /// What became of it, as a predicate.
    pub problem: String,
    /// The output of the setup so far.
    pub(crate) transcript: Transcript,
}

/// Who runs the steps, and with which variables.
pub(crate) struct Setup<'a> {
    /// In messages: `template node`.
    pub(crate) what: String,
    /// The user.
    pub(crate) user: User,
    /// In seconds since the Unix epoch.
    pub(crate) source_date_epoch: i64,
    /// Variables for every step; a later layer wins.
    pub(crate) layers: Vec<&'a Env>,
}

impl Setup<'_> {
    /// Runs `steps` until one fails.
    pub(crate) async fn run(
        &self,
        agent: &AgentClient,
        steps: &[Step],
        news: &dyn Reporter,
    ) -> Result<(), BakeError> {
        let mut transcript = Transcript::default();
        for step in steps {
            let begun = Instant::now();
            transcript.begin();
            let ended = self.step(agent, step, &mut transcript).await?;
            if let Some(problem) = problem(&ended.termination, step) {
                return Err(BakeError::Step(Box::new(StepFailure {
                    step: step.name.clone(),
                    problem,
                    transcript,
                })));
            }
            let took = begun.elapsed();
            info!(what = self.what, step = %step.name, ?took, "setup step done");
            let message = format!("{}, setup step {}: {}", self.what, step.name, seconds(took));
            let mut done = News::new(BakeEventKind::StepFinished, message);
            done.step = Some(step.name.clone());
            news.tell(done).await;
        }
        Ok(())
    }

    async fn step(
        &self,
        agent: &AgentClient,
        step: &Step,
        transcript: &mut Transcript,
    ) -> Result<Ended, BakeError> {
        let failed = || BakeError::agent(format!("run setup step {}", step.name));
        let mut execution = agent.exec(&self.spec(step)).map_err(failed())?;
        loop {
            match execution.next().await.map_err(failed())? {
                ExecEvent::Output(_, bytes) => transcript.write(&bytes),
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
