//! How many jobs of a tenant run at a time, over all workers: a tenant with a cap of n has n places, and a job of its runs in one.
//!
//! A place is a lease, which is taken before a job is fetched, renewed with the job's own, and given back when the job ends or parks. So
//! the places of a worker that dies come free by themselves.
//!
//! What always holds: no job of a tenant is fetched but into a place of its own, so no more run than it has places while the server is
//! there to renew them; where nobody set a cap, nothing is asked. A job whose place was lost, as where the server was away for longer than
//! a lease lasts, is not ended for it: until it has a place again, which it asks for at every heartbeat, the tenant may have a job more than
//! its cap.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::jetstream::kv::EntryError;
use async_nats::{Client, Message};
use bus::lease::{Lease, LeaseError, Leases};
use bus::telemetry::Causes;
use futures_util::StreamExt as _;
use schemas::Token;
use schemas::names::{bucket, cap_lease};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::warn;

use super::places::Places;
use super::tenants::{Tenants, Terms};

/// The caps of all tenants. Clones share what is known.
#[derive(Clone, Debug)]
pub struct Caps {
    leases: Leases,
    tenants: Tenants,
    worker: Token,
    shared: Arc<Shared>,
    /// Ends with the last clone.
    _listening: Arc<JoinSet<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    places: Mutex<Places>,
    /// How often a tenant that was at its cap had a place given back, or a cap was changed.
    freed: watch::Sender<u64>,
}

/// One of the places that a tenant's running jobs have. Where it is dropped without [`Cap::release`], it goes when its time is over.
#[derive(Debug)]
pub struct Cap {
    caps: Box<Caps>,
    tenant: Token,
    /// None after it was lost, until there is another.
    lease: Option<Box<Lease>>,
}

/// What became of asking for a place.
#[derive(Debug)]
pub enum CapTurn {
    /// The tenant has no cap: nothing is held.
    Free,
    /// A place, until it is released.
    Held(Cap),
    /// As many of its jobs run as may.
    Full,
    /// One was given back just now, which the server has not stored yet: to be asked for again in a moment.
    NotYet,
}

/// Why it is not known whether there is a place.
#[derive(Debug, thiserror::Error)]
pub enum CapError {
    /// The tenant's definition cannot be asked for.
    #[error("look for the tenant {tenant} in build-tenants")]
    Tenant {
        /// The tenant.
        tenant: Token,
        /// What the client said.
        #[source]
        source: EntryError,
    },
    /// The places cannot be asked for.
    #[error(transparent)]
    Lease(#[from] LeaseError),
}

impl Caps {
    /// Takes places in `leases` as `worker`, and listens to those of others.
    pub fn begin(client: &Client, leases: Leases, tenants: Tenants, worker: Token) -> Self {
        let shared = Arc::<Shared>::default();
        let mut listening = JoinSet::new();
        listening.spawn(listen(client.clone(), Arc::clone(&shared)));
        listening.spawn(pass_on(tenants.changes(), shared.freed.clone()));
        Self {
            leases,
            tenants,
            worker,
            shared,
            _listening: Arc::new(listening),
        }
    }

    /// A place for one job of `tenant`.
    pub async fn take(&self, tenant: &Token) -> Result<CapTurn, CapError> {
        let terms = self.tenants.of(tenant).await;
        let terms = terms.map_err(|source| CapError::Tenant {
            tenant: tenant.clone(),
            source,
        })?;
        let Some(concurrency) = terms.concurrency else {
            return Ok(CapTurn::Free);
        };
        self.take_of(tenant, concurrency).await
    }

    /// One of so many places.
    async fn take_of(&self, tenant: &Token, concurrency: u32) -> Result<CapTurn, CapError> {
        let mut turn = CapTurn::Full;
        for place in self.may_be_free(tenant, concurrency) {
            let (key, asked_at) = (cap_lease(tenant, place), Instant::now());
            let taken = self.leases.take(&key, self.worker.as_str()).await?;
            let mut places = self.shared.places();
            if taken.is_none() && places.may_be_late(tenant, place, asked_at) {
                turn = CapTurn::NotYet;
                continue;
            }
            places.found_held(tenant, place, asked_at);
            if let Some(lease) = taken {
                return Ok(CapTurn::Held(Cap {
                    caps: Box::new(self.clone()),
                    tenant: tenant.clone(),
                    lease: Some(Box::new(lease)),
                }));
            }
        }
        if matches!(turn, CapTurn::Full) {
            self.shared.places().found_full(tenant);
        }
        Ok(turn)
    }

    /// Whether it is worth asking for a place, as far as is known here.
    pub fn may_have_room(&self, tenant: &Token) -> bool {
        let Some(concurrency) = self.terms(tenant).concurrency else {
            return true;
        };
        // In one go: a place that was given back in between would wake nobody.
        let mut places = self.shared.places();
        let free = places.may_be_free(tenant, concurrency, 0, Instant::now());
        if free.is_empty() {
            places.found_full(tenant);
        }
        !free.is_empty()
    }

    /// What a tenant has of the queue, as far as is known here.
    pub fn terms(&self, tenant: &Token) -> Terms {
        self.tenants.known(tenant)
    }

    /// Changes when a tenant that was at its cap had a place given back, or its cap changed.
    pub fn freed(&self) -> watch::Receiver<u64> {
        self.shared.freed.subscribe()
    }

    /// Workers begin at different places, so that they seldom meet at one.
    fn may_be_free(&self, tenant: &Token, concurrency: u32) -> Vec<u32> {
        let mut hash = DefaultHasher::new();
        self.worker.hash(&mut hash);
        let first = u32::try_from(hash.finish() % u64::from(concurrency.max(1)));
        let (first, now) = (first.unwrap_or(0), Instant::now());
        let places = self.shared.places();
        places.may_be_free(tenant, concurrency, first, now)
    }
}

impl Cap {
    /// Renews it; to be called with every heartbeat of the job. Where it was lost, another is asked for, and where there is none the job
    /// goes on without: one of the tenant too many for a while is no reason to end any.
    pub async fn renew(&mut self) -> Result<(), CapError> {
        if let Some(lease) = &mut self.lease {
            match lease.renew().await {
                Ok(()) => return Ok(()),
                Err(error @ LeaseError::Server { .. }) => return Err(error.into()),
                Err(error @ LeaseError::Lost { .. }) => {
                    warn!(error = %Causes(&error), tenant = %self.tenant, "goes on without a place");
                }
            }
        }
        // A cap that was lifted meanwhile is as good as a place.
        self.lease = match self.caps.take(&self.tenant).await? {
            CapTurn::Held(another) => another.lease,
            CapTurn::Free | CapTurn::Full | CapTurn::NotYet => None,
        };
        Ok(())
    }

    /// Gives it back.
    pub async fn release(self) {
        if let Some(lease) = self.lease {
            lease.release().await;
        }
    }
}

impl Shared {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, message: &Message) {
        if let Some((tenant, place)) = place_of(&message.subject) {
            let held = is_put(message);
            if self.places().hear(tenant, place, held, Instant::now()) {
                self.freed.send_modify(|times| *times += 1);
            }
        }
    }
}

/// Hears what is written to places, for as long as the connection lives; what is lost while the server is away costs a question.
async fn listen(client: Client, shared: Arc<Shared>) {
    let subject = format!("{}cap.>", prefix());
    match client.subscribe(subject).await {
        Ok(mut written) => {
            while let Some(message) = written.next().await {
                shared.hear(&message);
            }
        }
        Err(error) => warn!(%error, "places of tenants are not heard of"),
    }
}

/// A cap that is raised frees places that nobody gives back.
async fn pass_on(mut changes: watch::Receiver<u64>, freed: watch::Sender<u64>) {
    while changes.changed().await.is_ok() {
        freed.send_modify(|times| *times += 1);
    }
}

fn prefix() -> String {
    format!("$KV.{}.", bucket::LEASES)
}

/// The tenant and the place that a subject of the bucket is about.
fn place_of(subject: &str) -> Option<(Token, u32)> {
    let key = subject.strip_prefix(&prefix())?;
    let mut words = key.strip_prefix("cap.")?.split('.');
    let place = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some(place)
}

/// Whether a message to the bucket writes a value, and does not delete one.
fn is_put(message: &Message) -> bool {
    let headers = message.headers.as_ref();
    headers.is_none_or(|headers| headers.get("KV-Operation").is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_known_by_its_key() {
        let acme: Token = "acme".parse().unwrap();
        let subject = format!("$KV.build-leases.{}", cap_lease(&acme, 7));
        assert_eq!(place_of(&subject), Some((acme, 7)));
        for other in [
            "$KV.build-leases.janitor",
            "$KV.build-leases.cap.acme",
            "$KV.x.cap.acme.7",
        ] {
            assert_eq!(place_of(other), None, "{other}");
        }
    }
}
