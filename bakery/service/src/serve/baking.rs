//! From a request to a snapshot: found, baked here, or baked by another bakery meanwhile.
//!
//! What always holds: a key is baked by one bakery at a time; a key whose bake failed is left alone until its time is over or somebody
//! asks for it again; whoever waited for another's bake that failed fails as that did.

use jiff::Timestamp;
use schemas::bake::{BakeFailure, RecentBake};
use schemas::result::LogRef;
use schemas::{Sha256Digest, names};
use store::Fault;
use tracing::warn;

use super::Server;
use crate::bakery::{Baked, Ingredients, Order};
use crate::election::Turn;
use crate::error::BakeError;
use crate::events::Events;
use crate::history::Shelf;
use bus::telemetry::Causes;

/// A bake that failed, as far as it came.
pub(super) struct Failed {
    /// The key, if it was found out.
    pub(super) key: Option<Sha256Digest>,
    /// Why.
    pub(super) error: BakeError,
}

impl Failed {
    /// One whose key was not found out. Of a request for another key that one is known: whoever waits for it must look again.
    fn before_the_key(error: BakeError) -> Self {
        let key = if let BakeError::Key { wanted, .. } = &error {
            Some(*wanted)
        } else {
            None
        };
        Self { key, error }
    }
}

impl Server {
    /// Sees to it that what is asked for can be forked.
    pub(super) async fn bake(&self, order: &Order, events: &Events) -> Result<Baked, Failed> {
        let asked_at = Timestamp::now();
        let gathering = self.bakery.gather(order, &self.definitions, events);
        let ingredients = Box::pin(gathering).await;
        let ingredients = ingredients.map_err(Failed::before_the_key)?;
        let key = ingredients.key();
        let baked = self.bake_key(order, &ingredients, asked_at, events).await;
        let baked = baked.map_err(|error| Failed {
            key: Some(key),
            error,
        })?;
        self.remember(order, &ingredients, asked_at).await;
        Ok(baked)
    }

    async fn bake_key(
        &self,
        order: &Order,
        ingredients: &Ingredients,
        asked_at: Timestamp,
        events: &Events,
    ) -> Result<Baked, BakeError> {
        let key = ingredients.key();
        let lease = names::bake_lease(&key);
        loop {
            let baking = self.unless_there(order, ingredients, asked_at, events);
            match self.bakery.turn(&lease, Box::pin(baking)).await? {
                Turn::Done(found) => return Ok(Baked { key, found }),
                Turn::LookAgain => {}
            }
        }
    }

    /// Bakes, if that is still to be done once it is our turn. Returns whether it was there.
    async fn unless_there(
        &self,
        order: &Order,
        ingredients: &Ingredients,
        asked_at: Timestamp,
        events: &Events,
    ) -> Result<bool, BakeError> {
        let key = ingredients.key();
        if self.bakery.has(&key).await? {
            return Ok(true);
        }
        if let Some(failure) = self.history.failure(&key).await?
            && is_left_alone(&failure, order.request.again, asked_at, Timestamp::now())
        {
            return Err(BakeError::Remembered(Box::new(failure)));
        }
        self.bakery.bake_environment(ingredients, events).await?;
        Ok(false)
    }

    /// Remembers that a bake went well. That it cannot be remembered does not undo it: the snapshot is only collected the sooner.
    async fn remember(&self, order: &Order, ingredients: &Ingredients, asked_at: Timestamp) {
        let key = ingredients.key();
        if let Err(error) = self.history.succeeded(&key).await {
            warn!(%key, error = %Causes(&error), "an earlier failure of this key is still remembered");
        }
        // What a job has inline is no definition that could change.
        if order.request.definition.is_some() {
            return;
        }
        let bake = RecentBake {
            key,
            source: ingredients.source(),
            asked_at,
        };
        let shelf = self.shelf(order);
        if let Err(error) = self.history.asked(&shelf, bake, self.config.keep).await {
            warn!(%key, error = %Causes(&error), "this bake is not remembered");
        }
    }

    /// Remembers that a bake failed for a reason that time does not mend, and until when it is left alone.
    pub(super) async fn remember_failure(
        &self,
        order: &Order,
        failed: &Failed,
        log: Option<LogRef>,
    ) {
        let (Some(key), Fault::Job) = (failed.key, failed.error.fault()) else {
            return;
        };
        let (step, message) = match &failed.error {
            // It is remembered already.
            BakeError::Remembered(_) => return,
            error => (error.step().cloned(), Causes(error).to_string()),
        };
        let now = Timestamp::now();
        let failure = BakeFailure {
            request_id: order.request.request_id.clone(),
            reason: failed.error.reason().to_owned(),
            message,
            step,
            log,
            failures: 0,
            time: now,
            retry_at: now,
        };
        if let Err(error) = self.history.failed(&key, failure).await {
            warn!(%key, error = %Causes(&error), "the failure of this bake is not remembered: jobs that wait for it ask again");
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

/// Whether a key that failed is not baked for a request of `asked_at`: it failed while the request waited, or not long enough ago and nobody
/// asks for it `again`.
fn is_left_alone(failure: &BakeFailure, again: bool, asked_at: Timestamp, now: Timestamp) -> bool {
    failure.time >= asked_at || (!again && now < failure.retry_at)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_that_failed_is_left_alone_until_its_time_is_over_or_somebody_asks() {
        let at = |minute: u32| -> Timestamp {
            format!("2026-01-01T00:{minute:02}:00Z").parse().unwrap()
        };
        let failure: BakeFailure = serde_json::from_value(json!({
            "request_id": "r1", "reason": "step_failed", "message": "m", "failures": 1,
            "time": at(10), "retry_at": at(15)
        }))
        .unwrap();
        for (again, asked, now, left_alone) in [
            (false, 11, 11, true),
            (false, 11, 15, false),
            (true, 11, 11, false),
            // It failed while this one waited for it.
            (true, 9, 11, true),
            (false, 9, 16, true),
        ] {
            let found = is_left_alone(&failure, again, at(asked), at(now));
            assert_eq!(found, left_alone, "{again} {asked} {now}");
        }
    }
}
