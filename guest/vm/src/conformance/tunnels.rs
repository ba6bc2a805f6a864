//! The proxy port: connections from inside the guest, served by the host.

use std::net::{Ipv4Addr, TcpListener};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Outcome::{self, Passed, Skipped};
use super::guest::{Failure, Guest, check, equal};
use super::rig::Rig;
use crate::agent::ProxyPort;

/// Connects to the port, says what it was given, ends its half if it has said anything, and prints all that comes back.
const CLIENT: &str = r#"
use Socket;
my ($port, $greeting) = @ARGV;
socket(my $socket, PF_INET, SOCK_STREAM, 0) or die "socket: $!";
connect($socket, sockaddr_in($port, INADDR_LOOPBACK)) or die "connect: $!";
syswrite($socket, $greeting);
shutdown($socket, 1) if $greeting;
while (sysread($socket, my $bytes, 65536)) { print $bytes; }
"#;

/// More than a channel's window and a socket's buffers hold.
const ANSWER: usize = 4 * 1024 * 1024;

pub(super) async fn round_trip(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    if !guest.has("perl").await? {
        return Ok(Skipped("the guest has no perl"));
    }
    let (mut proxy, port) = open(&guest).await?;
    let client = run_client(&guest, port, "greetings");
    let server = async {
        let tunnel = proxy.accept().await;
        let mut tunnel = tunnel.ok_or_else(|| Failure::new("no connection came"))?;
        let mut heard = String::new();
        tunnel.read_to_string(&mut heard).await?;
        equal("what the host heard", heard, "greetings")?;
        tunnel.write_all(&vec![b'x'; ANSWER]).await?;
        // Dropped with most of it still on the way.
        Ok(tunnel.shutdown().await?)
    };
    let (heard, ()) = tokio::try_join!(client, server)?;
    equal("the length of what the guest heard", heard.len(), ANSWER)?;
    check(heard.bytes().all(|byte| byte == b'x'), "it came changed")?;
    Ok(Passed)
}

pub(super) async fn hung_up(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    if !guest.has("perl").await? {
        return Ok(Skipped("the guest has no perl"));
    }
    let (mut proxy, port) = open(&guest).await?;
    let client = run_client(&guest, port, "");
    let server = async {
        let tunnel = proxy.accept().await;
        let mut tunnel = tunnel.ok_or_else(|| Failure::new("no connection came"))?;
        tunnel.write_all(b"no").await?;
        Ok(tunnel.shutdown().await?)
    };
    let (heard, ()) = tokio::try_join!(client, server)?;
    equal("what the guest heard", heard, "no")?;
    Ok(Passed)
}

pub(super) async fn closed(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    if !guest.has("perl").await? {
        return Ok(Skipped("the guest has no perl"));
    }
    let (mut proxy, port) = open(&guest).await?;
    // An open connection is cut when the host lets go of it.
    let client = run_client(&guest, port, "");
    let server = async {
        drop(proxy.accept().await);
        Ok(())
    };
    let (heard, ()) = tokio::try_join!(client, server)?;
    equal("what the guest heard", heard, "")?;
    drop(proxy);
    let refused = run_client(&guest, port, "").await;
    check(refused.is_err(), "the port is still open")?;
    Ok(Passed)
}

/// Opens a proxy port. Where the guest's loopback is the host's, another program may have the port by then.
async fn open(guest: &Guest) -> Result<(ProxyPort, u16), Failure> {
    let mut attempts = 0;
    loop {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        attempts += 1;
        match guest.agent().proxy(port).await {
            Ok(proxy) => return Ok((proxy, port)),
            Err(_) if attempts < 5 => {}
            Err(error) => return Err(error.into()),
        }
    }
}

async fn run_client(guest: &Guest, port: u16, greeting: &str) -> Result<String, Failure> {
    guest
        .sh(&format!("perl -e '{CLIENT}' {port} '{greeting}'"))
        .await
}
