//! From a request to a snapshot: found, baked here, or baked by another bakery meanwhile.
//!
//! What always holds: a key is baked by one bakery at a time; a key whose bake failed is left alone until its time is over or somebody
//! asks for it again; the failure is remembered before the next has its turn, so whoever waited for it fails as that did.

use async_nats::jetstream::Message;
use bus::telemetry::Causes;
use jiff::Timestamp;
use schemas::bake::RecentBake;
use schemas::result::LogRef;
use schemas::{Sha256Digest, names};
use store::Fault;
use tracing::warn;

use super::Server;
use crate::bakery::{Baked, Ingredients, Order};
use crate::election::Turn;
use crate::error::BakeError;
use crate::events::Events;
use crate::history::{Asked, Shelf};

/// A request that is being served.
pub(super) struct Request<'a> {
    pub(super) order: &'a Order,
    pub(super) events: &'a Events,
    /// Its place in the stream of requests.
    pub(super) sequence: u64,
    /// How often it was delivered.
    pub(super) tries: u64,
    asked: Asked,
}

/// A bake that failed, as far as it came.
pub(super) struct Failed {
    /// The key: as it was found out, or else as the request has it.
    pub(super) key: Option<Sha256Digest>,
    /// The setup's output, where it was stored.
    pub(super) log: Option<LogRef>,
    /// Why.
    pub(super) error: BakeError,
}

impl<'a> Request<'a> {
    pub(super) fn new(order: &'a Order, events: &'a Events, message: &Message) -> Self {
        let info = message.info().ok();
        Self {
            order,
            events,
            sequence: info.as_ref().map_or(0, |info| info.stream_sequence),
            tries: super::outcome::tries(message),
            asked: Asked {
                request_id: order.request.request_id.clone(),
                at: Timestamp::now(),
                again: order.request.again,
            },
        }
    }

    /// Before the key was found out. Whoever waits for the key that the request names must hear of it all the same.
    fn failed_early(&self, error: BakeError) -> Failed {
        Failed {
            key: self.order.request.key,
            log: None,
            error,
        }
    }
}

impl Server {
    /// Sees to it that what is asked for can be forked.
    pub(super) async fn bake(&self, request: &Request<'_>) -> Result<Baked, Failed> {
        let Request { order, events, .. } = request;
        let gathering = self
            .bakery
            .gather(order, &request.asked, &self.definitions, *events);
        let ingredients = Box::pin(gathering).await;
        let ingredients = ingredients.map_err(|error| request.failed_early(error))?;
        let key = ingredients.key();
        let found = self.bake_key(request, &ingredients).await?;
        self.remember(request, &ingredients).await;
        Ok(Baked { key, found })
    }

    /// Returns whether it was there.
    async fn bake_key(
        &self,
        request: &Request<'_>,
        ingredients: &Ingredients,
    ) -> Result<bool, Failed> {
        let key = ingredients.key();
        let lease = names::bake_lease(&key);
        let failed = |error| Failed {
            key: Some(key),
            log: None,
            error,
        };
        // What is there needs no turn, and does not wait for a guest that is being made.
        if self.bakery.has(&key).await.map_err(failed)? {
            return Ok(true);
        }
        loop {
            let baking = async { Ok(self.unless_there(request, ingredients).await) };
            match self.bakery.turn(&lease, Box::pin(baking)).await {
                Ok(Turn::Done(baked)) => return baked,
                Ok(Turn::LookAgain) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Bakes, if that is still to be done once it is our turn, and remembers a failure while it still is.
    async fn unless_there(
        &self,
        request: &Request<'_>,
        ingredients: &Ingredients,
    ) -> Result<bool, Failed> {
        let key = ingredients.key();
        let baked = self.bake_now(request, ingredients).await;
        let Err(error) = baked else {
            return Ok(baked.is_ok_and(|found| found));
        };
        let log = self.log_of(request, &error).await;
        let remembered = self
            .history
            .failed(&key, &error, &request.asked, log.clone());
        if let Err(problem) = remembered.await {
            warn!(%key, error = %Causes(&problem), "the failure of this bake is not remembered: jobs that wait for it ask again");
        }
        Err(Failed {
            key: Some(key),
            log,
            error,
        })
    }

    /// Returns whether it was there.
    async fn bake_now(
        &self,
        request: &Request<'_>,
        ingredients: &Ingredients,
    ) -> Result<bool, BakeError> {
        let key = ingredients.key();
        if self.bakery.has(&key).await? {
            return Ok(true);
        }
        if let Some(failure) = self.history.left_alone(&key, &request.asked).await? {
            return Err(BakeError::Remembered(Box::new(failure)));
        }
        let baking = self.bakery.bake_environment(ingredients, request.events);
        baking.await.map(|_| false)
    }

    /// Where the output of a setup that failed lies, of which there is one where a step ran. What is tried again stores none.
    async fn log_of(&self, request: &Request<'_>, error: &BakeError) -> Option<LogRef> {
        if error.fault() == Fault::Host {
            return None;
        }
        if let BakeError::Remembered(failure) = error {
            return failure.log.clone();
        }
        let transcript = error.transcript()?;
        super::outcome::stored(self, request, transcript.clone()).await
    }

    /// Remembers that a bake went well. That it cannot be remembered does not undo it: the snapshot is only collected the sooner.
    async fn remember(&self, request: &Request<'_>, ingredients: &Ingredients) {
        let key = ingredients.key();
        if let Err(error) = self.history.succeeded(&key).await {
            warn!(%key, error = %Causes(&error), "an earlier failure of this key is still remembered");
        }
        // What a job has inline is no definition that could change.
        if request.order.request.definition.is_some() {
            return;
        }
        let bake = RecentBake {
            key,
            source: ingredients.source(),
            asked_at: request.asked.at,
        };
        let shelf = self.shelf(request.order);
        let remembering = self.history.asked(&shelf, bake, self.config.keep);
        if let Err(error) = remembering.await {
            warn!(%key, error = %Causes(&error), "this bake is not remembered");
        }
    }

    fn shelf(&self, order: &Order) -> Shelf {
        Shelf {
            class: self.bakery.class().clone(),
            trust: order.trust,
            tenant: order.tenant.clone(),
            environment: order.request.environment.clone(),
        }
    }
}
