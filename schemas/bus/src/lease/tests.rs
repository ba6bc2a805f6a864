//! Leases in a bucket of a real nats-server.

use async_nats::jetstream;

use super::*;

/// A lease in a bucket of a real nats-server; none where there is no server.
async fn lease() -> Option<(Lease, Leases)> {
    let Ok(url) = std::env::var("NATS_URL") else {
        eprintln!("skipped: no NATS_URL");
        return None;
    };
    let jetstream = jetstream::new(async_nats::connect(url).await.unwrap());
    crate::streams::provision(&jetstream, 1).await.unwrap();
    let leases = Leases::open(&jetstream).await.unwrap();
    let key = format!("test.{}", uuid::Uuid::new_v4());
    let lease = leases.take(&key, "one").await.unwrap().unwrap();
    assert!(leases.take(&key, "two").await.unwrap().is_none());
    Some((lease, leases))
}

#[tokio::test]
async fn a_renewal_whose_confirmation_was_lost_loses_no_lease() {
    let Some((mut lease, _)) = lease().await else {
        return;
    };
    let before = lease.confirmed;
    lease.renew().await.unwrap();
    // The server stored it, and its answer was not heard.
    let unheard = std::mem::replace(&mut lease.confirmed, before);
    lease.renew().await.unwrap();
    let again = lease.confirmed;
    assert!(again.revision > unheard.revision && again.sent_at > unheard.sent_at);
    lease.renew().await.unwrap();
    assert!(lease.confirmed.revision > again.revision);
}

#[tokio::test]
async fn a_lease_is_given_back_whose_last_renewal_was_not_confirmed() {
    let Some((mut lease, leases)) = lease().await else {
        return;
    };
    let (before, key) = (lease.confirmed, lease.key.clone());
    lease.renew().await.unwrap();
    lease.confirmed = before;
    lease.release().await;
    assert!(leases.take(&key, "two").await.unwrap().is_some());
}

#[tokio::test]
async fn what_somebody_else_took_is_lost_and_what_was_released_is_free() {
    let Some((mut lease, leases)) = lease().await else {
        return;
    };
    leases.shared.bucket.delete(&lease.key).await.unwrap();
    let mut taken = leases.take(&lease.key, "two").await.unwrap().unwrap();
    let renewed = lease.renew().await;
    assert!(matches!(renewed, Err(LeaseError::Lost { .. })));
    // Not that of another: it has a revision of its own.
    lease.release().await;
    taken.renew().await.unwrap();
    let key = taken.key.clone();
    taken.release().await;
    assert!(leases.take(&key, "three").await.unwrap().is_some());
}
