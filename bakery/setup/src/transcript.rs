//! The output of setup steps: whole up to a limit for the log, and its end for the event.

use std::collections::VecDeque;

/// 16 MiB: what is kept for the log.
const LOG_BYTES: usize = 16 << 20;

/// 16 KiB: what an event shows.
const END_BYTES: usize = 16 << 10;

/// What was written so far.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    whole: Vec<u8>,
    end: VecDeque<u8>,
    truncated: bool,
}

impl Transcript {
    /// Adds what a step wrote.
    pub fn write(&mut self, bytes: &[u8]) {
        let room = LOG_BYTES - self.whole.len();
        self.truncated |= bytes.len() > room;
        self.whole
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.end.extend(bytes);
        let surplus = self.end.len().saturating_sub(END_BYTES);
        self.end.drain(..surplus);
    }

    /// Begins the output of another step: the end is that of one step only.
    pub fn begin(&mut self) {
        self.end.clear();
    }

    /// The end of the current step's output, invalid UTF-8 replaced.
    pub fn end(&self) -> String {
        let bytes: Vec<u8> = self.end.iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// All output up to the limit, and whether there was more.
    pub fn into_whole(self) -> (Vec<u8>, bool) {
        (self.whole, self.truncated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_that_of_the_last_step_and_the_log_has_all() {
        let mut transcript = Transcript::default();
        transcript.write(b"one\n");
        transcript.begin();
        transcript.write(b"two\n");
        assert_eq!(transcript.end(), "two\n");
        assert_eq!(transcript.into_whole(), (b"one\ntwo\n".to_vec(), false));
    }

    #[test]
    fn output_without_end_is_cut() {
        let mut transcript = Transcript::default();
        let block = vec![b'x'; 1 << 20];
        for _ in 0..20 {
            transcript.write(&block);
        }
        transcript.write(b"last");
        assert!(transcript.end().ends_with("xlast"));
        assert_eq!(transcript.end().len(), END_BYTES);
        let (whole, truncated) = transcript.into_whole();
        assert_eq!((whole.len(), truncated), (LOG_BYTES, true));
    }
}
