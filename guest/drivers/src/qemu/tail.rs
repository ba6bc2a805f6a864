//! The last words of something that may say more than anybody wants to keep.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What is kept of QEMU's messages and of the guest's console: a screenful.
const LAST_BYTES: usize = 4096;

/// Time in which what an ended process said is read.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The end of a stream that is read as it comes.
#[derive(Debug)]
pub(super) struct Tail {
    text: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Tail {
    /// Reads `stream` to its end and keeps the last of it.
    pub(super) fn of(mut stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&text);
        let reader = tokio::spawn(async move {
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                let mut kept = kept.lock().expect("no holder panics");
                kept.extend_from_slice(&buffer[..count]);
                let excess = kept.len().saturating_sub(LAST_BYTES);
                kept.drain(..excess);
            }
        });
        Self { text, reader }
    }

    /// What is there by now.
    pub(super) fn text(&self) -> String {
        let text = self.text.lock().expect("no holder panics");
        String::from_utf8_lossy(&text).trim().to_owned()
    }

    /// What is there at the end of the stream, which is close by: its process has ended.
    pub(super) async fn whole(&mut self) -> String {
        drop(timeout(LAST_WORDS, &mut self.reader).await);
        self.text()
    }
}
