//! A guest that is being set up as an environment.

use egress::{Counters, Policy};
use schemas::Environment;
use schemas::guest::BUILD_ROOT;
use schemas::step::Env;
use source::Archive;
use vm::AgentClient;
use wire::{PutSpec, User};

use crate::error::SetupError;
use crate::news::{Happened, News};
use crate::steps::Setup;
use crate::way_out::WayOut;

/// A guest, derived or forked from the template, that is to become an environment.
#[derive(Debug, Clone)]
pub struct Room<'a> {
    /// In messages: `environment widget`.
    pub what: String,
    /// What it is to become.
    pub definition: &'a Environment,
    /// In seconds since the Unix epoch: the inputs get it as their time, the steps as a variable.
    pub source_date_epoch: i64,
}

impl Room<'_> {
    /// Puts the declared inputs in, and no other file of the source; runs the setup steps, with a way out only if there is to be
    /// one. Returns what went through it, which is nothing where there was none.
    ///
    /// Dropping the future ends the step that runs and closes the way out.
    pub async fn set_up(
        &self,
        agent: &AgentClient,
        archive: &Archive,
        way_out: Option<(Policy, Env)>,
        news: &dyn News,
    ) -> Result<Counters, SetupError> {
        self.put_inputs(agent, archive).await?;
        let Some((policy, env)) = way_out else {
            self.run(agent, &Env::new(), news).await?;
            return Ok(Counters::default());
        };
        let way_out = WayOut::open(agent, policy).await?;
        let ran = self.run(agent, &env, news).await;
        let counters = way_out.close().await;
        let closed = Happened::WayOutClosed {
            counters: &counters,
        };
        news.tell(closed).await;
        ran.map(|()| counters)
    }

    async fn put_inputs(&self, agent: &AgentClient, archive: &Archive) -> Result<(), SetupError> {
        let spec = PutSpec {
            root: BUILD_ROOT.to_owned(),
            owner: User::BUILD,
        };
        let (inputs, epoch) = (&self.definition.inputs, self.source_date_epoch);
        archive.put_inputs(agent, &spec, inputs, epoch).await?;
        Ok(())
    }

    async fn run(
        &self,
        agent: &AgentClient,
        network: &Env,
        news: &dyn News,
    ) -> Result<(), SetupError> {
        let setup = Setup {
            what: self.what.clone(),
            user: User::BUILD,
            source_date_epoch: self.source_date_epoch,
            layers: vec![network, &self.definition.env],
        };
        setup.run(agent, &self.definition.setup, news).await
    }
}
