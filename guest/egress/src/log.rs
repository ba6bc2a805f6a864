//! What the proxy decided: one entry for each request, and counters that stay small whatever a guest does.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{info, warn};

use crate::reason::Reason;

/// How many refused hosts are remembered: enough to see what a build wanted, small enough for a result message.
const MAX_DENIED_HOSTS: usize = 100;

/// One decision of the proxy. For an allowed tunnel it is made when the tunnel has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The host that was asked for, in lower case; empty where the request named none.
    pub host: String,
    /// The port that was asked for; 0 where the request named none.
    pub port: u16,
    /// Whether the policy allowed it. An allowed host that could not be reached was still allowed.
    pub allowed: bool,
    /// How it ended, or why it was refused.
    pub reason: Reason,
    /// Bytes from the guest to the host it asked for.
    pub bytes_up: u64,
    /// Bytes from that host to the guest.
    pub bytes_down: u64,
}

/// Sums over all entries so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests that the policy allowed.
    pub allowed: u64,
    /// Requests that were refused.
    pub denied: u64,
    /// The first 100 different `host:port` that were refused, sorted.
    pub denied_hosts: BTreeSet<String>,
}

/// Where decisions go: tracing events, the counters, and a listener. Clones share one log.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    counters: Mutex<Counters>,
    listener: Box<dyn Fn(&Entry) + Send + Sync>,
}

impl Log {
    /// A log that counts and traces.
    pub fn new() -> Self {
        Self::with_listener(|_| {})
    }

    /// A log that also gives every entry to `listener`, in the order in which they are made. The listener must not block:
    /// it runs inside the tunnel's task.
    pub fn with_listener(listener: impl Fn(&Entry) + Send + Sync + 'static) -> Self {
        Self {
            shared: Arc::new(Shared {
                counters: Mutex::default(),
                listener: Box::new(listener),
            }),
        }
    }

    /// The sums so far.
    pub fn counters(&self) -> Counters {
        self.lock().clone()
    }

    pub(crate) fn record(&self, entry: &Entry) {
        self.lock().add(entry);
        let Entry {
            host,
            port,
            allowed,
            reason,
            bytes_up,
            bytes_down,
        } = entry;
        if *allowed {
            info!(host, port, %reason, bytes_up, bytes_down, "egress allowed");
        } else {
            warn!(host, port, %reason, "egress denied");
        }
        (self.shared.listener)(entry);
    }

    /// A panic elsewhere leaves the sums as they were: they are still right.
    fn lock(&self) -> MutexGuard<'_, Counters> {
        self.shared
            .counters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Log {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

impl Counters {
    fn add(&mut self, entry: &Entry) {
        if entry.allowed {
            self.allowed += 1;
            return;
        }
        self.denied += 1;
        if !entry.host.is_empty() && self.denied_hosts.len() < MAX_DENIED_HOSTS {
            self.denied_hosts
                .insert(format!("{}:{}", entry.host, entry.port));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Phase;

    fn denied(host: &str) -> Entry {
        let reason = Reason::NotAllowed(Phase::Setup);
        Entry {
            host: host.to_owned(),
            port: 443,
            allowed: false,
            reason,
            bytes_up: 0,
            bytes_down: 0,
        }
    }

    #[test]
    fn refused_hosts_are_remembered_once_each_and_at_most_100() {
        let log = Log::new();
        for number in 0..150 {
            log.record(&denied(&format!("host{number:03}.example")));
            log.record(&denied("host000.example"));
        }
        let counters = log.counters();
        assert_eq!(
            (
                counters.allowed,
                counters.denied,
                counters.denied_hosts.len()
            ),
            (0, 300, MAX_DENIED_HOSTS)
        );
        assert!(counters.denied_hosts.contains("host000.example:443"));
    }

    #[test]
    fn a_listener_hears_every_entry() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = Log::with_listener({
            let heard = Arc::clone(&heard);
            move |entry| heard.lock().unwrap().push(entry.host.clone())
        });
        log.record(&denied("a.example"));
        log.clone().record(&denied("b.example"));
        assert_eq!(*heard.lock().unwrap(), ["a.example", "b.example"]);
    }
}
