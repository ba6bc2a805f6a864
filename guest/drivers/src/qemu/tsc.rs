//! The rate of this host's time stamp counter.
//!
//! Under software emulation a guest's counter is the host's. The kernel measures it at boot against the emulated timer, and
//! gives up when the host is too busy to deliver its ticks evenly; a `microvm` has no other clock to fall back on, and the
//! boot hangs, with "could not calculate TSC khz" on the console. (4 of 24 boots beside two compilers; 2 cores, QEMU 7.2.22,
//! 2026-11-24.)
//! So the host measures it, undisturbed by emulation, and tells the kernel: `tsc_early_khz`.

use std::arch::x86_64::_rdtsc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// How long the counter is watched: with readings good to 0.1 µs, the rate is good to 5 parts in a million.
const WATCHED: Duration = Duration::from_millis(20);

static KHZ: LazyLock<u64> = LazyLock::new(measure);

/// Ticks in a millisecond; measured the first time it is asked for.
pub(super) fn khz() -> u64 {
    *KHZ
}

/// A reading of both clocks.
struct Reading {
    ticks: u64,
    at: Instant,
}

impl Reading {
    /// The best of several: the one that was interrupted least between its two reads.
    fn take() -> Self {
        let attempt = |_| {
            // SAFETY: every x86-64 processor has the instruction, and Linux lets programs use it.
            #[expect(unsafe_code, reason = "reads the time stamp counter")]
            let (before, at, after) = unsafe { (_rdtsc(), Instant::now(), _rdtsc()) };
            let gap = after.saturating_sub(before);
            (
                gap,
                Self {
                    ticks: before + gap / 2,
                    at,
                },
            )
        };
        let best = (0..16).map(attempt).min_by_key(|(gap, _)| *gap);
        best.expect("sixteen attempts are some").1
    }
}

fn measure() -> u64 {
    let start = Reading::take();
    while start.at.elapsed() < WATCHED {
        std::hint::spin_loop();
    }
    let end = Reading::take();
    let nanoseconds = u128::max(1, (end.at - start.at).as_nanos());
    let khz = u128::from(end.ticks.saturating_sub(start.ticks)) * 1_000_000 / nanoseconds;
    u64::try_from(khz).expect("no counter ticks 10^19 times a millisecond")
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_measurements_agree_within_a_thousandth() {
        let (first, second) = (super::measure(), super::measure());
        assert!(
            first.abs_diff(second) * 1000 < first,
            "{first} and {second}"
        );
        assert!(first > 100_000, "{first} kHz is no processor's rate");
    }
}
