//! What is refused, with which status and in which words.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use egress::Reason;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::fixture::{Fixture, LOOPBACK, assert_refused, connect, names, registry};

#[tokio::test]
async fn a_host_that_is_not_listed_is_refused_without_asking_for_its_name() {
    let resolver = names(&[("evil.example", &["127.0.0.1"])]);
    let asked = Arc::clone(&resolver.asked);
    let fixture = Fixture::in_setup(&["registry.example:443".to_owned()], LOOPBACK, resolver).await;
    let answer = fixture.ask(&connect("evil.example:443")).await;
    assert_refused(
        &answer,
        "403 Forbidden",
        "evil.example:443: not allowed during setup",
    );
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    let counters = fixture.proxy.log().counters();
    assert_eq!((counters.allowed, counters.denied), (0, 1));
    assert!(counters.denied_hosts.contains("evil.example:443"));
}

#[tokio::test]
async fn another_port_of_a_listed_host_is_refused() {
    let (fixture, _) = registry().await;
    let answer = fixture.ask(&connect("registry.example:1")).await;
    assert_refused(
        &answer,
        "403 Forbidden",
        "registry.example:1: not allowed during setup",
    );
}

#[tokio::test]
async fn an_address_is_not_allowed_because_its_name_is() {
    let (fixture, endpoint) = registry().await;
    let address = endpoint.replace("registry.example", "127.0.0.1");
    let answer = fixture.ask(&connect(&address)).await;
    assert_refused(
        &answer,
        "403 Forbidden",
        &format!("{address}: not allowed during setup"),
    );
}

#[tokio::test]
async fn a_listed_name_that_leads_to_private_addresses_is_refused() {
    let private = [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "::1",
        "::ffff:127.0.0.1",
        "fd00::1",
    ];
    let resolver = names(&[("registry.example", &private)]);
    let fixture = Fixture::in_setup(&["registry.example:443".to_owned()], &[], resolver).await;
    let answer = fixture.ask(&connect("registry.example:443")).await;
    assert_refused(
        &answer,
        "403 Forbidden",
        "registry.example:443: leads to no address that is allowed",
    );
    assert_eq!(fixture.last().reason, Reason::PrivateAddress);
}

#[tokio::test]
async fn tricks_with_the_target_are_refused() {
    let (fixture, endpoint) = registry().await;
    let port = endpoint.rsplit(':').next().unwrap();
    for target in [
        format!("registry.example.:{port}"),
        format!("someone@registry.example:{port}"),
        format!("http://registry.example:{port}"),
        "registry.example".to_owned(),
        "2130706433:80".to_owned(),
    ] {
        let answer = fixture.ask(&connect(&target)).await;
        assert!(
            answer.starts_with("HTTP/1.1 403 Forbidden\r\n"),
            "{target}: {answer}"
        );
        assert!(
            matches!(fixture.last().reason, Reason::BadTarget(_)),
            "{target}"
        );
    }
    assert!(fixture.proxy.log().counters().denied_hosts.is_empty());
}

#[tokio::test]
async fn a_method_other_than_connect_is_refused() {
    let (fixture, endpoint) = registry().await;
    let answer = fixture
        .ask(&format!("GET http://{endpoint}/ HTTP/1.1\r\n\r\n"))
        .await;
    assert_refused(&answer, "405 Method Not Allowed", "only CONNECT is served");
    assert!(answer.contains("\r\nAllow: CONNECT\r\n"), "{answer}");
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    let (fixture, _) = registry().await;
    assert_refused(
        &fixture.ask("SSH-2.0-x\r\n\r\n").await,
        "400 Bad Request",
        "not an HTTP/1 request",
    );
}

#[tokio::test]
async fn a_head_without_an_end_is_refused_at_the_limit() {
    let (fixture, _) = registry().await;
    let answer = fixture
        .ask(&format!("CONNECT {}", "a".repeat(8192 - "CONNECT ".len())))
        .await;
    let status = "431 Request Header Fields Too Large";
    assert_refused(
        &answer,
        status,
        "the request head is longer than 8192 bytes",
    );
}

#[tokio::test]
async fn an_allowed_host_that_does_not_answer_is_a_bad_gateway() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("registry.example:{}", listener.local_addr().unwrap().port());
    drop(listener);
    let hosts = [endpoint.clone(), "unknown.example:443".to_owned()];
    let fixture = Fixture::in_setup(
        &hosts,
        LOOPBACK,
        names(&[("registry.example", &["127.0.0.1"])]),
    )
    .await;
    let answer = fixture.ask(&connect(&endpoint)).await;
    assert!(
        answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"),
        "{answer}"
    );
    assert!(fixture.last().allowed, "the policy allowed it");
    let answer = fixture.ask(&connect("unknown.example:443")).await;
    assert_refused(
        &answer,
        "502 Bad Gateway",
        "unknown.example:443: cannot be reached: no such name",
    );
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_does_not_take_its_refusal_is_left_after_ten_seconds() {
    let (fixture, _) = registry().await;
    // Smaller than any answer, and never read.
    let (mut guest, host) = tokio::io::duplex(32);
    let proxy = fixture.proxy.clone();
    let served = tokio::spawn(async move { proxy.serve(host).await });
    guest.write_all(b"SSH-2.0-x\r\n\r\n").await.unwrap();
    let begun = tokio::time::Instant::now();
    served.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 10);
    assert_eq!(fixture.last().reason, Reason::Malformed);
}

#[tokio::test]
async fn streams_beyond_all_tunnels_and_refusals_are_closed_without_an_answer() {
    let (fixture, endpoint) = registry().await;
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(fixture.tunnel(&endpoint).await);
    }
    let mut unheard = Vec::new();
    for refused in 1..=16 {
        let (guest, host) = tokio::io::duplex(32);
        let proxy = fixture.proxy.clone();
        tokio::spawn(async move { proxy.serve(host).await });
        unheard.push(guest);
        while fixture.entries.lock().unwrap().len() < refused {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(fixture.ask("").await, "");
    assert_eq!(fixture.last().reason, Reason::TooManyTunnels);
}
