//! What is going on, on one line that vanishes, and only on a terminal.

use std::time::Duration;

use indicatif::ProgressBar;

/// A line that says what is going on. Nothing is written where standard error is not a terminal: `indicatif` sees to that.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Starts with this.
    pub(crate) fn start(doing: &'static str) -> Self {
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(100));
        bar.set_message(doing);
        Self(bar)
    }

    /// Goes on with this.
    pub(crate) fn now(&self, doing: &'static str) {
        self.0.set_message(doing);
    }

    /// Takes the line away.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
