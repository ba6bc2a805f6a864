//! What a setup tells while it goes on. Where it is told is somebody else's business.

use std::time::Duration;

use async_trait::async_trait;
use egress::Counters;
use schemas::Token;
use wire::Lane;

/// Something that happened in a setup.
#[derive(Debug, Clone, Copy)]
pub enum Happened<'a> {
    /// A step begins.
    StepStarted {
        /// Which.
        step: &'a Token,
    },
    /// A step wrote this.
    Output {
        /// Which.
        step: &'a Token,
        /// To standard output or standard error.
        lane: Lane,
        /// As it came, cut anywhere.
        bytes: &'a [u8],
    },
    /// A step succeeded. One that fails is the setup's error.
    StepFinished {
        /// Which.
        step: &'a Token,
        /// How long it ran.
        took: Duration,
    },
    /// The way out is closed for good.
    WayOutClosed {
        /// What was let through and what was not.
        counters: &'a Counters,
    },
}

/// Where news goes.
#[async_trait]
pub trait News: Send + Sync {
    /// Tells it. That it cannot be told does not stop a setup; while it is being told the step's output waits.
    async fn tell(&self, happened: Happened<'_>);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

#[async_trait]
impl News for Silent {
    async fn tell(&self, _: Happened<'_>) {}
}
