//! What is known of a lease's last renewal, and what the answer to the next makes of it. No server and no clock is asked.
//!
//! What always holds: `sent_at` is no later than the moment from which the server counts the lease's time.

use async_nats::jetstream::publish::PublishAck;
use tokio::time::Instant;

/// What the server confirmed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Confirmed {
    /// The revision that the lease has.
    pub(super) revision: u64,
    /// When that renewal was sent, or one before it.
    pub(super) sent_at: Instant,
}

/// What the answer to a renewal means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was stored now.
    Renewed(Confirmed),
    /// It had been stored before, when its confirmation was lost: nothing was renewed now. A single server never answers so, as it
    /// compares the revision first and refuses; a cluster compares the id first.
    StoredBefore(Confirmed),
}

impl Confirmed {
    /// What `ack` makes of it, the answer to a renewal that was sent at `sent_at`.
    pub(super) fn after(self, ack: &PublishAck, sent_at: Instant) -> Answer {
        let revision = ack.sequence;
        if ack.duplicate {
            Answer::StoredBefore(Self { revision, ..self })
        } else {
            Answer::Renewed(Self { revision, sent_at })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The answer to a renewal of revision 7 that was sent 10 s after it, and both times.
    fn answer(duplicate: bool) -> (Answer, Instant, Instant) {
        let taken_at = Instant::now();
        let sent_at = taken_at + Duration::from_secs(10);
        let taken = Confirmed {
            revision: 7,
            sent_at: taken_at,
        };
        let ack = PublishAck {
            sequence: 9,
            duplicate,
            ..PublishAck::default()
        };
        (taken.after(&ack, sent_at), taken_at, sent_at)
    }

    #[test]
    fn what_was_stored_now_moves_the_end_of_the_lease() {
        let (answer, _, sent_at) = answer(false);
        let revision = 9;
        assert_eq!(answer, Answer::Renewed(Confirmed { revision, sent_at }));
    }

    #[test]
    fn what_had_been_stored_before_gives_the_revision_and_leaves_the_end_where_it_was() {
        let (answer, sent_at, _) = answer(true);
        let revision = 9;
        assert_eq!(
            answer,
            Answer::StoredBefore(Confirmed { revision, sent_at })
        );
    }
}
