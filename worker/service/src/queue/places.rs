//! Which places of the tenants' caps are held, as far as this worker has heard. Pure: the time is given.
//!
//! It spares questions and decides nothing: a place is ours only by compare-and-set. What is believed to be held and is not is found free
//! when its time is over, as its holder would have renewed it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bus::lease::TTL;
use schemas::Token;
use tokio::time::Instant;

/// 5 s in which the stream has stored what was heard: a word is passed on at once, a question is answered from what is stored, and
/// beside a busy disk that was seen to be 18 ms late. Asking once more costs less than a place that stands empty.
const STORED_WITHIN: Duration = Duration::from_secs(5);

/// What was heard.
#[derive(Debug, Default)]
pub(super) struct Places {
    heard: BTreeMap<Token, BTreeMap<u32, Word>>,
    /// Tenants that were found at their cap.
    full: BTreeSet<Token>,
}

/// The last that was heard of a place.
#[derive(Clone, Copy, Debug)]
struct Word {
    held: bool,
    at: Instant,
}

impl Places {
    /// A place was taken, renewed or given back just now. Tells whether somebody may have waited for it.
    pub(super) fn hear(&mut self, tenant: Token, place: u32, held: bool, now: Instant) -> bool {
        let freed = !held && self.full.remove(&tenant);
        let places = self.heard.entry(tenant).or_default();
        places.insert(place, Word { held, at: now });
        freed
    }

    /// An answer to a question of `asked_at` says that somebody holds the place; what was heard since is newer.
    pub(super) fn found_held(&mut self, tenant: &Token, place: u32, asked_at: Instant) {
        let places = self.heard.entry(tenant.clone()).or_default();
        let newer = places.get(&place).is_some_and(|word| word.at > asked_at);
        if !newer {
            let word = Word {
                held: true,
                at: asked_at,
            };
            places.insert(place, word);
        }
    }

    /// Whether an answer to a question of `asked_at`, that somebody holds the place, may be older than what was heard of it: that it was
    /// given back.
    pub(super) fn may_be_late(&self, tenant: &Token, place: u32, asked_at: Instant) -> bool {
        let word = self.heard.get(tenant).and_then(|places| places.get(&place));
        word.is_some_and(|word| !word.held && asked_at < word.at + STORED_WITHIN)
    }

    /// The tenant is at its cap: whoever gives a place back wakes us.
    pub(super) fn found_full(&mut self, tenant: &Token) {
        self.full.insert(tenant.clone());
    }

    /// Those of `concurrency` places that may be free, from `first` on.
    pub(super) fn may_be_free(
        &self,
        tenant: &Token,
        concurrency: u32,
        first: u32,
        now: Instant,
    ) -> Vec<u32> {
        let heard = self.heard.get(tenant);
        let held = |place: &u32| {
            let word = heard.and_then(|places| places.get(place));
            word.is_some_and(|word| word.held && now < word.at + TTL)
        };
        let places = (0..concurrency).map(|place| (first.wrapping_add(place)) % concurrency);
        places.filter(|place| !held(place)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn acme() -> Token {
        "acme".parse().unwrap()
    }

    #[test]
    fn a_place_that_is_held_is_not_asked_for_until_its_time_is_over() {
        let (mut places, now) = (Places::default(), Instant::now());
        assert_eq!(places.may_be_free(&acme(), 3, 4, now), [1, 2, 0]);
        places.hear(acme(), 1, true, now);
        assert_eq!(places.may_be_free(&acme(), 3, 4, now), [2, 0]);
        assert_eq!(places.may_be_free(&acme(), 3, 4, now + TTL), [1, 2, 0]);
    }

    #[test]
    fn a_place_that_is_given_back_wakes_who_found_the_tenant_at_its_cap() {
        let (mut places, now) = (Places::default(), Instant::now());
        assert!(!places.hear(acme(), 0, false, now), "nobody waits");
        places.found_full(&acme());
        assert!(!places.hear(acme(), 0, true, now));
        assert!(places.hear(acme(), 0, false, now));
        assert!(!places.hear(acme(), 1, false, now), "it is awake");
    }

    #[test]
    fn a_place_that_was_given_back_just_before_may_not_be_stored_as_such() {
        let (mut places, heard_at) = (Places::default(), Instant::now());
        assert!(!places.may_be_late(&acme(), 0, heard_at));
        places.hear(acme(), 0, false, heard_at);
        assert!(places.may_be_late(&acme(), 0, heard_at));
        assert!(!places.may_be_late(&acme(), 0, heard_at + STORED_WITHIN));
        assert!(!places.may_be_late(&acme(), 1, heard_at));
        places.hear(acme(), 0, true, heard_at);
        assert!(!places.may_be_late(&acme(), 0, heard_at));
    }

    #[test]
    fn an_answer_that_was_overtaken_by_news_changes_nothing() {
        let (mut places, asked_at) = (Places::default(), Instant::now());
        let later = asked_at + Duration::from_millis(1);
        places.hear(acme(), 0, false, later);
        places.found_held(&acme(), 0, asked_at);
        assert_eq!(places.may_be_free(&acme(), 1, 0, later), [0]);
        places.found_held(&acme(), 0, later);
        assert!(places.may_be_free(&acme(), 1, 0, later).is_empty());
    }
}
