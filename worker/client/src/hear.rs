//! What is published from now on, for a listener that may be slower than who publishes.
//!
//! What always holds: what is heard is taken from the connection at once, since the library keeps 65 536 messages for who does not, and at
//! most [`MAX_HELD_BYTES`] of it wait for the listener. Beyond that the oldest goes: the end of a log is what tells that it is complete.

use std::collections::VecDeque;

use async_nats::Message;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;

/// 4 MiB: 64 chunks of the largest size.
const MAX_HELD_BYTES: usize = 4 << 20;

/// Sends what `read` makes of each message to `items`, until nobody listens. `read` gives none for nonsense, which anybody who may publish
/// there could send.
pub(crate) async fn hear<T>(
    mut heard: impl Stream<Item = Message> + Unpin,
    read: impl Fn(&Message) -> Option<T>,
    items: mpsc::Sender<T>,
) {
    let mut held = Held::default();
    loop {
        tokio::select! {
            message = heard.next() => {
                let Some(message) = message else { break };
                if let Some(item) = read(&message) {
                    held.push(item, message.length);
                }
            }
            place = items.reserve(), if !held.items.is_empty() => {
                let Ok(place) = place else { return };
                if let Some(item) = held.pop() {
                    place.send(item);
                }
            }
        }
    }
    while let Some(item) = held.pop()
        && items.send(item).await.is_ok()
    {}
}

/// What waits for the listener, each with its size on the wire in bytes.
#[derive(Debug)]
struct Held<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            bytes: 0,
        }
    }
}

impl<T> Held<T> {
    fn push(&mut self, item: T, bytes: usize) {
        self.items.push_back((item, bytes));
        self.bytes += bytes;
        while self.bytes > MAX_HELD_BYTES {
            self.pop();
        }
    }

    fn pop(&mut self) -> Option<T> {
        let (item, bytes) = self.items.pop_front()?;
        self.bytes -= bytes;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use async_nats::StatusCode;
    use bytes::Bytes;
    use futures_util::stream;

    use super::*;

    fn message(text: &str) -> Message {
        Message {
            subject: "build.log.acme.j1".into(),
            reply: None,
            payload: Bytes::copy_from_slice(text.as_bytes()),
            headers: None,
            status: None::<StatusCode>,
            description: None,
            length: text.len(),
        }
    }

    #[test]
    fn of_what_waits_the_oldest_goes_where_it_is_too_much() {
        let mut held = Held::default();
        for item in 1..=5 {
            held.push(item, MAX_HELD_BYTES / 4);
        }
        let left: Vec<_> = std::iter::from_fn(|| held.pop()).collect();
        assert_eq!(left, [2, 3, 4, 5]);
        assert_eq!(held.bytes, 0);
        held.push(6, MAX_HELD_BYTES + 1);
        assert_eq!(held.pop(), None);
    }

    #[tokio::test]
    async fn what_is_heard_is_passed_on_in_order_and_nonsense_is_not() {
        let heard = stream::iter(["1", "x", "2", "3"].map(message));
        let read = |message: &Message| str::from_utf8(&message.payload).ok()?.parse::<u32>().ok();
        let (sender, mut items) = mpsc::channel(1);
        let mut passed = Vec::new();
        let listening = async {
            while let Some(item) = items.recv().await {
                passed.push(item);
            }
        };
        tokio::join!(hear(heard, read, sender), listening);
        assert_eq!(passed, [1, 2, 3]);
    }
}
