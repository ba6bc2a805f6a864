//! Whose turn it is, of all who have jobs that wait. Pure: no socket, no clock.
//!
//! First a priority is drawn, then a tenant of that priority. Both are a smooth weighted round robin: whoever is ready gains its weight
//! as credit, the one with the most credit has the turn and pays what all gained together. So with priorities 0 and 9 ready, which weigh
//! 10 and 1, the second has every eleventh turn: it waits, and is not starved.
//!
//! What always holds: of those that stay ready, each has its share of any run of turns, to within one turn; a tenant's share does not
//! grow with its number of jobs, nor by its having trusted and untrusted ones at once.

use std::collections::BTreeMap;

use schemas::token::Priority;
use schemas::{Token, Trust};

/// The jobs of one subject, within one pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// Which is drawn first.
    pub priority: Priority,
    /// Whose jobs they are.
    pub tenant: Token,
    /// How far their author is trusted.
    pub trust: Trust,
}

/// Remembers who had turns.
#[derive(Debug, Default)]
pub struct Turns {
    priorities: Wheel<Priority>,
    lines: BTreeMap<Priority, Wheel<Line>>,
}

impl Turns {
    /// Who of `ready` is next; `weight_of` gives a tenant's weight.
    pub fn next(&mut self, ready: &[Line], weight_of: impl Fn(&Token) -> u32) -> Option<Line> {
        let priorities = ready.iter().map(|line| line.priority);
        let priority = self
            .priorities
            .turn(priorities.map(|one| (one, weight_of_priority(one))))?;
        let of_priority = || ready.iter().filter(|line| line.priority == priority);
        let mut lines_of = BTreeMap::<&Token, i64>::new();
        for line in of_priority() {
            *lines_of.entry(&line.tenant).or_default() += 1;
        }
        // A tenant has at most two lines of one priority, which share its weight.
        let weighed = of_priority().map(|line| {
            let weight = i64::from(weight_of(&line.tenant).max(1));
            (line.clone(), weight * 2 / lines_of[&line.tenant])
        });
        self.lines.entry(priority).or_default().turn(weighed)
    }
}

/// 10 for priority 0, 1 for priority 9: each step matters, and the last has its turn among any 55.
fn weight_of_priority(priority: Priority) -> i64 {
    10 - i64::from(priority.value())
}

/// A smooth weighted round robin.
#[derive(Debug)]
struct Wheel<K> {
    /// What each of those that were ready at the last turn has gained and not paid.
    credit: BTreeMap<K, i64>,
}

impl<K> Default for Wheel<K> {
    fn default() -> Self {
        Self {
            credit: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone> Wheel<K> {
    fn turn(&mut self, ready: impl Iterator<Item = (K, i64)>) -> Option<K> {
        let weights: BTreeMap<K, i64> = ready.collect();
        let total: i64 = weights.values().sum();
        // Whoever comes back begins anew: what it gained was for the time that it was here.
        self.credit.retain(|one, _| weights.contains_key(one));
        for (one, weight) in weights {
            let credit = self.credit.entry(one).or_default();
            // Those that left took theirs along; what remains must not add up over thousands of turns.
            *credit = (*credit + weight).clamp(-total, total);
        }
        // The first of equals.
        let most = self.credit.iter_mut().rev().max_by_key(|one| *one.1)?;
        *most.1 -= total;
        Some(most.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(priority: u8, tenant: &str, trust: Trust) -> Line {
        Line {
            priority: Priority::new(priority).unwrap(),
            tenant: tenant.parse().unwrap(),
            trust,
        }
    }

    fn trusted(priority: u8, tenant: &str) -> Line {
        line(priority, tenant, Trust::Trusted)
    }

    /// How often each has its turn.
    fn shares(ready: &[Line], turns: usize, weight_of: impl Fn(&Token) -> u32) -> Vec<usize> {
        let mut wheel = Turns::default();
        let had: Vec<Line> = (0..turns)
            .map(|_| wheel.next(ready, &weight_of).unwrap())
            .collect();
        let share = |line: &Line| had.iter().filter(|one| *one == line).count();
        ready.iter().map(share).collect()
    }

    #[test]
    fn a_flood_of_one_tenant_holds_up_another_by_one_turn() {
        let (flood, quiet) = (trusted(5, "flood"), trusted(5, "quiet"));
        let mut turns = Turns::default();
        for _ in 0..500 {
            assert_eq!(
                turns.next(std::slice::from_ref(&flood), |_| 1).unwrap(),
                flood
            );
        }
        let both = [flood.clone(), quiet.clone()];
        let next_two = [(); 2].map(|()| turns.next(&both, |_| 1).unwrap());
        assert!(next_two.contains(&quiet), "{next_two:?}");
    }

    #[test]
    fn every_priority_has_its_share() {
        let ready: Vec<Line> = (0..10).map(|priority| trusted(priority, "a")).collect();
        assert_eq!(
            shares(&ready, 110, |_| 1),
            [20, 18, 16, 14, 12, 10, 8, 6, 4, 2]
        );
    }

    #[test]
    fn a_tenant_of_twice_the_weight_has_twice_the_turns() {
        let ready = [trusted(5, "heavy"), trusted(5, "light")];
        let weight = |tenant: &Token| if tenant.as_str() == "heavy" { 2 } else { 1 };
        assert_eq!(shares(&ready, 30, weight), [20, 10]);
    }

    #[test]
    fn a_tenant_with_both_kinds_of_jobs_has_no_more_turns() {
        let ready = [
            line(5, "a", Trust::Trusted),
            line(5, "a", Trust::Untrusted),
            line(5, "b", Trust::Trusted),
        ];
        assert_eq!(shares(&ready, 40, |_| 1), [10, 10, 20]);
    }

    #[test]
    fn turns_that_others_took_away_leave_no_debt() {
        let (stays, flaps, comes) = (trusted(5, "b"), trusted(5, "c"), trusted(5, "d"));
        let mut turns = Turns::default();
        for round in 0..1000 {
            let both = [stays.clone(), flaps.clone()];
            let ready = if round % 2 == 0 {
                &both[..]
            } else {
                &both[..1]
            };
            turns.next(ready, |_| 1);
        }
        let both = [stays.clone(), comes];
        let next_five = [(); 5].map(|()| turns.next(&both, |_| 1).unwrap());
        assert!(next_five.contains(&stays), "{next_five:?}");
    }

    #[test]
    fn nobody_has_a_turn_where_nobody_waits() {
        assert_eq!(Turns::default().next(&[], |_| 1), None);
    }
}
