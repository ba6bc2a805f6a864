//! The way out of the fetch VM: a proxy port inside, an egress proxy here.
//!
//! What always holds: the port is there as long as its [`WayOut`], and leads where the rules say, in the phase of sources and no other.

use std::sync::{Arc, OnceLock};

use egress::{Entry, Log, Phase, Policy, Proxy, Reason, Resolver, Rule};
use vm::{AgentClient, Serving};

use crate::git::problem::{GitProblem, Matter};

/// An open way out.
pub(crate) struct WayOut {
    _serving: Serving,
    /// The first request that the rules refused, as `host:port`, and why.
    refused: Arc<OnceLock<(String, Reason)>>,
}

impl WayOut {
    /// Opens the port inside the guest, and lets `rules` decide on what comes through it.
    pub(crate) async fn open(
        agent: &AgentClient,
        port: u16,
        rules: Vec<Rule>,
        resolver: Arc<dyn Resolver>,
    ) -> Result<Self, GitProblem> {
        let port = agent.proxy(port).await.map_err(GitProblem::Agent)?;
        let allow = |policy: Policy, rule| policy.allow(Phase::Source, rule);
        let policy = rules.into_iter().fold(Policy::nothing(), allow);
        let refused = Arc::default();
        // A new proxy is in the phase of sources.
        let proxy = Proxy::new(policy, resolver, log(&refused));
        let serving = port.serve(move |tunnel| {
            let proxy = proxy.clone();
            async move { proxy.serve(tunnel).await }
        });
        Ok(Self {
            _serving: serving,
            refused,
        })
    }

    /// What `problem` comes from: where git only says that it gets nowhere, and was not let out, that is why.
    pub(crate) fn explain(&self, problem: GitProblem) -> GitProblem {
        let GitProblem::Failed {
            doing,
            said,
            matter: Matter::Trouble,
        } = problem
        else {
            return problem;
        };
        match self.refused.get().cloned() {
            Some((host, reason)) => GitProblem::NotLetOut {
                doing,
                host,
                reason,
            },
            None => GitProblem::Failed {
                doing,
                said,
                matter: Matter::Trouble,
            },
        }
    }
}

/// A log that keeps the first refusal.
fn log(refused: &Arc<OnceLock<(String, Reason)>>) -> Log {
    let refused = Arc::clone(refused);
    Log::with_listener(move |entry| {
        if is_for_good(&entry.reason) {
            // Later ones follow from the first, or repeat it.
            let Entry { host, port, .. } = entry;
            refused.get_or_init(|| (format!("{host}:{port}"), entry.reason.clone()));
        }
    })
}

/// Whether a request was refused for where it leads: another attempt would be refused as well.
fn is_for_good(reason: &Reason) -> bool {
    match reason {
        Reason::NotAllowed(_) | Reason::PrivateAddress => true,
        Reason::Finished
        | Reason::Cut
        | Reason::Broken(_)
        | Reason::Unreachable(_)
        | Reason::Closed
        | Reason::BadTarget(_)
        | Reason::NotConnect
        | Reason::Malformed
        | Reason::HeadTooLong
        | Reason::HeadTimeout
        | Reason::TooManyTunnels => false,
    }
}
