//! How far a command is: a bar on standard error, where that is a terminal and the command takes longer than a second.

use std::borrow::Cow;
use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::AbortHandle;

/// 1 s: what is done sooner needs no bar, and one that only flashes up disturbs.
const PATIENCE: Duration = Duration::from_secs(1);

/// 100 ms between two pictures of the spinner.
const TICK: Duration = Duration::from_millis(100);

/// A bar of a command. It goes when this is dropped.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    showing: Option<AbortHandle>,
}

impl Bar {
    /// A bar that says `what` is being done, without an end yet.
    pub fn new(what: impl Into<Cow<'static, str>>) -> Self {
        let bar = ProgressBar::hidden();
        bar.set_style(style("{spinner} {msg} {elapsed}"));
        bar.set_message(what);
        let showing = stderr().is_terminal().then(|| {
            let bar = bar.clone();
            tokio::spawn(show_later(bar)).abort_handle()
        });
        Self { bar, showing }
    }

    /// One that nobody sees: a service has no terminal.
    pub fn hidden() -> Self {
        Self {
            bar: ProgressBar::hidden(),
            showing: None,
        }
    }

    /// From now on `what` is being done, `total` times.
    pub fn begin(&self, what: &'static str, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(0);
        self.bar
            .set_style(style("{spinner} {msg} {wide_bar} {pos}/{len}"));
        self.bar.set_message(what);
    }

    /// One more of them is done.
    pub fn one_more(&self) {
        self.bar.inc(1);
    }

    /// From now on `what` is being done, and nobody knows for how long.
    pub fn turn_to(&self, what: impl Into<Cow<'static, str>>) {
        self.bar.set_style(style("{spinner} {msg} {elapsed}"));
        self.bar.set_message(what);
    }

    /// Writes a line to standard error, above the bar.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(showing) = &self.showing {
            showing.abort();
        }
        self.bar.finish_and_clear();
    }
}

async fn show_later(bar: ProgressBar) {
    tokio::time::sleep(PATIENCE).await;
    bar.set_draw_target(ProgressDrawTarget::stderr());
    bar.enable_steady_tick(TICK);
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates above are well-formed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bar_is_not_shown_at_once() {
        let bar = Bar::new("working");
        assert!(bar.bar.is_hidden());
        bar.begin("reading", 3);
        bar.one_more();
        assert_eq!((bar.bar.position(), bar.bar.length()), (1, Some(3)));
        bar.turn_to("ending");
        assert!(bar.bar.is_hidden());
    }
}
