//! What the end of a phase does to tunnels, and who may begin one.

use egress::{Phase, PhaseError, Reason};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::{CONSENT, Fixture, LOOPBACK, Names, assert_refused, connect, registry};

#[tokio::test]
async fn the_next_phase_cuts_open_tunnels_and_refuses_new_ones() {
    let (fixture, endpoint) = registry().await;
    let mut guest = fixture.tunnel(&endpoint).await;
    guest.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    guest.read_exact(&mut heard).await.unwrap();
    fixture.proxy.advance(Phase::Steps).await.unwrap();
    let entry = fixture.last();
    assert_eq!(
        (&entry.reason, entry.bytes_up, entry.bytes_down),
        (&Reason::Cut, 5, 5)
    );
    assert_eq!(guest.read(&mut heard).await.unwrap(), 0);
    let answer = fixture.ask(&connect(&endpoint)).await;
    assert_refused(
        &answer,
        "403 Forbidden",
        &format!("{endpoint}: not allowed during steps"),
    );
}

#[tokio::test]
async fn a_cut_tunnel_is_closed_on_the_outside_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let fixture =
        Fixture::in_setup(std::slice::from_ref(&endpoint), LOOPBACK, Names::default()).await;
    let (_guest, accepted) = tokio::join!(fixture.tunnel(&endpoint), listener.accept());
    let (mut outside, _): (TcpStream, _) = accepted.unwrap();
    fixture.proxy.close().await;
    assert_eq!(outside.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_stream_that_has_not_asked_yet_does_not_outlive_its_phase() {
    let (fixture, endpoint) = registry().await;
    let (mut guest, served) = fixture.open();
    guest.write_all(b"CONNECT ").await.unwrap();
    tokio::task::yield_now().await;
    fixture.proxy.close().await;
    served.await.unwrap();
    assert!(guest.write_all(endpoint.as_bytes()).await.is_err());
}

#[tokio::test]
async fn a_closed_proxy_refuses_everything_for_good() {
    let (fixture, endpoint) = registry().await;
    fixture.proxy.close().await;
    let answer = fixture.ask(&connect(&endpoint)).await;
    assert_refused(
        &answer,
        "403 Forbidden",
        &format!("{endpoint}: the way out is closed"),
    );
    let refused = fixture.proxy.advance(Phase::Steps).await;
    assert_eq!(refused, Err(PhaseError::Closed { to: Phase::Steps }));
    assert_eq!(fixture.proxy.phase(), None);
}

#[tokio::test]
async fn phases_only_move_forward() {
    let (fixture, _) = registry().await;
    for to in [Phase::Source, Phase::Setup] {
        let refused = fixture.proxy.advance(to).await;
        assert_eq!(
            refused,
            Err(PhaseError::NotForward {
                from: Phase::Setup,
                to
            })
        );
    }
    assert_eq!(fixture.proxy.phase(), Some(Phase::Setup));
}

#[tokio::test]
async fn a_tunnel_whose_server_task_is_dropped_is_logged_as_cut() {
    let (fixture, endpoint) = registry().await;
    let (mut guest, served) = fixture.open();
    guest
        .write_all(connect(&endpoint).as_bytes())
        .await
        .unwrap();
    guest.read_exact(&mut [0; CONSENT.len()]).await.unwrap();
    served.abort();
    assert!(served.await.unwrap_err().is_cancelled());
    assert_eq!(fixture.last().reason, Reason::Cut);
}
