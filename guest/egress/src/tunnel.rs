//! Carries bytes both ways until both sides have finished or nothing has gone either way for too long, and counts them as they go.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::sleep;

use crate::limits;

/// 16 KiB: one TLS record.
const CHUNK_BYTES: usize = 16 * 1024;

/// Bytes carried so far. They stand outside the future that carries, so they are right even if that is dropped.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    up: AtomicU64,
    down: AtomicU64,
}

impl Carried {
    pub(crate) fn up(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }

    pub(crate) fn down(&self) -> u64 {
        self.down.load(Ordering::Relaxed)
    }
}

/// Carries `first` and then all that `guest` sends to `outside`, and back. A side that finishes sending is passed on as
/// such, while the other direction goes on. Returns when both have finished, with the first error, or once the tunnel was idle.
pub(crate) async fn carry(
    guest: impl AsyncRead + AsyncWrite,
    outside: impl AsyncRead + AsyncWrite,
    first: &[u8],
    carried: &Carried,
) -> io::Result<()> {
    let (guest_read, guest_write) = tokio::io::split(guest);
    let (outside_read, outside_write) = tokio::io::split(outside);
    let both_ways = async {
        tokio::try_join!(
            one_way(first.chain(guest_read), outside_write, &carried.up),
            one_way(outside_read, guest_write, &carried.down),
        )
    };
    tokio::select! {
        ended = both_ways => ended.map(|_| ()),
        () = idle(carried) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no byte either way in {:?}", limits::IDLE),
        )),
    }
}

/// Returns when [`limits::IDLE`] have passed in which no byte was carried. Looking that often, it may take up to twice as long.
async fn idle(carried: &Carried) {
    loop {
        let before = (carried.up(), carried.down());
        sleep(limits::IDLE).await;
        if before == (carried.up(), carried.down()) {
            return;
        }
    }
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    carried: &AtomicU64,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = from.read(&mut chunk).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&chunk[..length]).await?;
        to.flush().await?;
        carried.fetch_add(length as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_direction_goes_on_after_the_other_has_finished() {
        let (mut guest, guest_end) = tokio::io::duplex(64);
        let (mut outside, outside_end) = tokio::io::duplex(64);
        let carried = Carried::default();
        let talk = async {
            guest.write_all(b"question").await?;
            guest.shutdown().await?;
            let mut question = String::new();
            outside.read_to_string(&mut question).await?;
            outside.write_all(b"a longer answer").await?;
            outside.shutdown().await?;
            let mut answer = String::new();
            guest.read_to_string(&mut answer).await?;
            Ok((question, answer))
        };
        let ((), (question, answer)) =
            tokio::try_join!(carry(guest_end, outside_end, b"first ", &carried), talk).unwrap();
        assert_eq!(
            (&question[..], &answer[..]),
            ("first question", "a longer answer")
        );
        assert_eq!((carried.up(), carried.down()), (14, 15));
    }

    #[tokio::test]
    async fn a_side_that_breaks_ends_both_directions() {
        let (_guest, guest_end) = tokio::io::duplex(64);
        let (outside, outside_end) = tokio::io::duplex(64);
        drop(outside);
        let carried = Carried::default();
        assert!(
            carry(guest_end, outside_end, b"lost", &carried)
                .await
                .is_err()
        );
        assert_eq!(carried.up(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_is_given_up_when_no_byte_has_gone_either_way_for_five_minutes() {
        let (mut guest, guest_end) = tokio::io::duplex(64);
        let (mut outside, outside_end) = tokio::io::duplex(64);
        let carried = Carried::default();
        let talk = async {
            for _ in 0..3 {
                sleep(limits::IDLE * 9 / 10).await;
                outside.write_all(b"a").await.unwrap();
                guest.read_exact(&mut [0]).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let begun = tokio::time::Instant::now();
        let carrying = carry(guest_end, outside_end, b"", &carried);
        let ended = tokio::select! {
            ended = carrying => ended,
            () = talk => unreachable!("nobody finishes"),
        };
        assert_eq!(ended.unwrap_err().to_string(), "no byte either way in 300s");
        assert_eq!(carried.down(), 3);
        assert!(begun.elapsed() <= limits::IDLE * 5);
    }
}
