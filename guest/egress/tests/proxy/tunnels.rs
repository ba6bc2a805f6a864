//! What is allowed goes through, whole and counted.

use egress::Reason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::fixture::{
    CONSENT, Fixture, LOOPBACK, Names, assert_refused, connect, echo, names, registry,
};

#[tokio::test]
async fn an_allowed_tunnel_carries_bytes_both_ways_and_is_logged() {
    let (fixture, endpoint) = registry().await;
    let mut guest = fixture.tunnel(&endpoint.to_uppercase()).await;
    guest.write_all(b"hello").await.unwrap();
    guest.shutdown().await.unwrap();
    let mut heard = String::new();
    guest.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "hello");
    fixture.proxy.close().await;
    let entry = fixture.last();
    assert_eq!(
        (entry.host.as_str(), entry.allowed, &entry.reason),
        ("registry.example", true, &Reason::Finished)
    );
    assert_eq!((entry.bytes_up, entry.bytes_down), (5, 5));
    assert_eq!(fixture.proxy.log().counters().allowed, 1);
}

#[tokio::test]
async fn bytes_sent_along_with_the_request_reach_the_host() {
    let (fixture, endpoint) = registry().await;
    let answer = fixture
        .ask_and_finish(&format!("{}early", connect(&endpoint)))
        .await;
    assert_eq!(answer, format!("{CONSENT}early"));
}

#[tokio::test]
async fn a_megabyte_goes_through_whole_and_counted() {
    let (fixture, endpoint) = registry().await;
    let guest = fixture.tunnel(&endpoint).await;
    let (mut read, mut write) = tokio::io::split(guest);
    let sent: Vec<u8> = (0..1_000_000_u32)
        .map(|number| number.to_le_bytes()[0])
        .collect();
    let mut heard = Vec::new();
    let (written, read) = tokio::join!(
        async {
            write.write_all(&sent).await?;
            write.shutdown().await
        },
        read.read_to_end(&mut heard)
    );
    written.unwrap();
    read.unwrap();
    assert!(heard == sent, "what came back differs");
    fixture.proxy.close().await;
    assert_eq!(
        (fixture.last().bytes_up, fixture.last().bytes_down),
        (1_000_000, 1_000_000)
    );
}

#[tokio::test]
async fn a_listed_address_is_reached_inside_the_operators_networks_only() {
    let endpoint = echo().await.to_string();
    let inside =
        Fixture::in_setup(std::slice::from_ref(&endpoint), LOOPBACK, Names::default()).await;
    drop(inside.tunnel(&endpoint).await);
    let outside = Fixture::in_setup(
        std::slice::from_ref(&endpoint),
        &["10.0.0.0/8"],
        Names::default(),
    )
    .await;
    let answer = outside.ask(&connect(&endpoint)).await;
    assert_refused(
        &answer,
        "403 Forbidden",
        &format!("{endpoint}: leads to no address that is allowed"),
    );
}

#[tokio::test]
async fn private_addresses_among_the_answers_are_passed_over() {
    let endpoint = format!("registry.example:{}", echo().await.port());
    let resolver = names(&[(
        "registry.example",
        &["::ffff:127.0.0.1", "10.0.0.1", "127.0.0.1"],
    )]);
    let fixture = Fixture::in_setup(std::slice::from_ref(&endpoint), LOOPBACK, resolver).await;
    fixture.tunnel(&endpoint).await;
}

#[tokio::test]
async fn the_next_address_is_tried_where_one_does_not_answer() {
    let endpoint = format!("registry.example:{}", echo().await.port());
    let resolver = names(&[("registry.example", &["127.0.0.2", "127.0.0.1"])]);
    let fixture = Fixture::in_setup(std::slice::from_ref(&endpoint), LOOPBACK, resolver).await;
    fixture.tunnel(&endpoint).await;
}

#[tokio::test]
async fn one_guest_has_at_most_64_tunnels() {
    let (fixture, endpoint) = registry().await;
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(fixture.tunnel(&endpoint).await);
    }
    let answer = fixture.ask("").await;
    assert_refused(
        &answer,
        "503 Service Unavailable",
        "64 tunnels are open already",
    );
    drop(open.pop());
    while fixture.entries.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    fixture.tunnel(&endpoint).await;
}
