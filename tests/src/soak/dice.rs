//! Chance that a seed repeats: `SplitMix64`, as Steele, Lea and Flood give it in "Fast Splittable Pseudorandom Number Generators" (2014).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A sequence of numbers that look like chance.
#[derive(Debug)]
pub(super) struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    /// The sequence of a seed.
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// Another one each time.
    pub(super) fn of_the_time() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        // A clock before 1970 is as good a seed.
        Self::new(now.map_or(0, |now| now.as_secs()))
    }

    /// What it began with.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("a length is below 2^64");
        usize::try_from(self.next() % bound).expect("it is below a length")
    }

    /// A time from `least` to `most`.
    pub(super) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = most.saturating_sub(least).as_millis();
        let span = usize::try_from(span).expect("it is less than a day");
        let more = u64::try_from(self.below(span + 1)).expect("it is less than a day");
        least + Duration::from_millis(more)
    }

    /// One of `choices`, each as often as its weight says. They are not empty, and neither is the sum of their weights 0.
    pub(super) fn choose<T: Copy>(&mut self, choices: &[(T, usize)]) -> T {
        let all = choices.iter().map(|(_, weight)| weight).sum();
        let mut left = self.below(all);
        for (choice, weight) in choices {
            if left < *weight {
                return *choice;
            }
            left -= weight;
        }
        unreachable!("what is below a sum is below one of its parts")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_throws_again() {
        let throws = |seed| {
            let mut dice = Dice::new(seed);
            [(); 20].map(|()| dice.below(6))
        };
        assert_eq!(throws(7), throws(7));
        assert_ne!(throws(7), throws(8));
    }

    #[test]
    fn what_has_no_weight_is_never_chosen() {
        let mut dice = Dice::new(1);
        let thrown = [(); 100].map(|()| dice.choose(&[('a', 0), ('b', 3), ('c', 1)]));
        assert!(!thrown.contains(&'a') && thrown.contains(&'b') && thrown.contains(&'c'));
    }

    #[test]
    fn a_time_lies_within_its_bounds() {
        let mut dice = Dice::new(1);
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(2));
        for _ in 0..100 {
            let time = dice.between(least, most);
            assert!(least <= time && time <= most, "{time:?}");
        }
    }
}
