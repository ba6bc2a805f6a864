//! Every stream and bucket with its settings. `bakery init` makes them, and nobody else: all others find them.
//!
//! | stream | subjects | keeps |
//! | --- | --- | --- |
//! | `BUILD_JOBS` | `build.job.*.*.*.*` | until taken |
//! | `BUILD_RESULTS` | `build.report.*.*` | 30 d, the first of a subject |
//! | `BUILD_EVENTS` | `build.event.*.*` | 7 d |
//! | `BUILD_LOGS` | `build.log.*.*` | 1 d, 1024 MiB |
//! | `BUILD_DEAD` | `build.dead.*.*` | forever, the last of a subject |
//! | `BAKE_REQUESTS` | `bake.request.*.*.*.*` | until taken |
//! | `BAKE_TRIGGERS` | `bake.trigger.*.*.*` | until taken |
//! | `BAKE_EVENTS` | `bake.event.*.*` | 30 d |
//!
//! | bucket | history | keeps |
//! | --- | --- | --- |
//! | `build-environments` | 16 | forever |
//! | `build-snapshots` | 1 | forever |
//! | `build-leases` | 1 | as long as each value says |
//! | `build-jobs` | 1 | 8 d |
//! | `build-cancels` | 1 | 8 d |
//! | `build-workers` | 1 | 30 s |
//! | `build-tenants` | 1 | forever |
//!
//! `BUILD_RESULTS` republishes what it stored from `build.report.>` to `build.result.>`.

mod consumers;
mod provision;

use std::time::Duration;

use schemas::names::{bucket, stream};

pub use consumers::{ACK_WAIT, bake_consumer, job_consumer, trigger_consumer};
pub use provision::{ProvisionError, provision};

/// One day.
const DAY: Duration = Duration::from_hours(24);

/// 1 GiB: five builds that write 200 MB each. The whole log is in S3.
const MAX_LIVE_LOG_BYTES: i64 = 1 << 30;

/// 30 s: three missed 10 s heartbeats.
const WORKER_TTL: Duration = Duration::from_secs(30);

/// A stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamDefinition {
    /// Its name.
    pub name: &'static str,
    /// What it stores.
    pub subjects: &'static str,
    /// What it keeps.
    pub keeps: Keeps,
}

/// What a stream keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// A work queue: each message until its consumer acknowledged it.
    UntilTaken,
    /// Each message for this long.
    For(Duration),
    /// Each message for this long, the oldest less when there are more bytes.
    ForAtMost(Duration, i64),
    /// The first message of each subject for this long; later ones are refused. Republished from the first to the second subject.
    FirstFor(Duration, &'static str, &'static str),
    /// The last message of each subject, until somebody deletes it.
    LastForever,
}

/// A key-value bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketDefinition {
    /// Its name.
    pub name: &'static str,
    /// How many values of a key are kept.
    pub history: i64,
    /// How long a value is kept.
    pub expiry: Expiry,
}

/// How long a bucket keeps a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Until somebody deletes it.
    Never,
    /// For this long.
    After(Duration),
    /// For as long as the message that wrote it says.
    PerMessage,
}

/// Every stream.
pub const STREAMS: [StreamDefinition; 8] = [
    StreamDefinition {
        name: stream::JOBS,
        subjects: "build.job.*.*.*.*",
        keeps: Keeps::UntilTaken,
    },
    StreamDefinition {
        name: stream::RESULTS,
        subjects: "build.report.*.*",
        keeps: Keeps::FirstFor(DAY.saturating_mul(30), "build.report.>", "build.result.>"),
    },
    StreamDefinition {
        name: stream::EVENTS,
        subjects: "build.event.*.*",
        keeps: Keeps::For(DAY.saturating_mul(7)),
    },
    StreamDefinition {
        name: stream::LOGS,
        subjects: "build.log.*.*",
        keeps: Keeps::ForAtMost(DAY, MAX_LIVE_LOG_BYTES),
    },
    StreamDefinition {
        name: stream::DEAD,
        subjects: "build.dead.*.*",
        keeps: Keeps::LastForever,
    },
    StreamDefinition {
        name: stream::BAKE_REQUESTS,
        subjects: "bake.request.*.*.*.*",
        keeps: Keeps::UntilTaken,
    },
    StreamDefinition {
        name: stream::BAKE_TRIGGERS,
        subjects: "bake.trigger.*.*.*",
        keeps: Keeps::UntilTaken,
    },
    StreamDefinition {
        name: stream::BAKE_EVENTS,
        subjects: "bake.event.*.*",
        keeps: Keeps::For(DAY.saturating_mul(30)),
    },
];

/// Every bucket.
pub const BUCKETS: [BucketDefinition; 7] = [
    BucketDefinition {
        name: bucket::ENVIRONMENTS,
        history: 16,
        expiry: Expiry::Never,
    },
    BucketDefinition {
        name: bucket::SNAPSHOTS,
        history: 1,
        expiry: Expiry::Never,
    },
    BucketDefinition {
        name: bucket::LEASES,
        history: 1,
        expiry: Expiry::PerMessage,
    },
    BucketDefinition {
        name: bucket::JOBS,
        history: 1,
        expiry: Expiry::After(DAY.saturating_mul(8)),
    },
    BucketDefinition {
        name: bucket::CANCELS,
        history: 1,
        expiry: Expiry::After(DAY.saturating_mul(8)),
    },
    BucketDefinition {
        name: bucket::WORKERS,
        history: 1,
        expiry: Expiry::After(WORKER_TTL),
    },
    BucketDefinition {
        name: bucket::TENANTS,
        history: 1,
        expiry: Expiry::Never,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    const THIS_FILE: &str = include_str!("mod.rs");

    #[test]
    fn the_tables_above_are_the_definitions() {
        for stream in STREAMS {
            assert_documented(&format!(
                "//! | `{}` | `{}` | {} |",
                stream.name,
                stream.subjects,
                keeps_in_words(stream.keeps)
            ));
        }
        for bucket in BUCKETS {
            assert_documented(&format!(
                "//! | `{}` | {} | {} |",
                bucket.name,
                bucket.history,
                expiry_in_words(bucket.expiry)
            ));
        }
        let rows = THIS_FILE
            .lines()
            .filter(|line| line.starts_with("//! | `"))
            .count();
        assert_eq!(rows, STREAMS.len() + BUCKETS.len());
    }

    fn assert_documented(row: &str) {
        assert!(THIS_FILE.lines().any(|line| line == row), "no row: {row}");
    }

    fn keeps_in_words(keeps: Keeps) -> String {
        match keeps {
            Keeps::UntilTaken => "until taken".to_owned(),
            Keeps::For(age) => in_words(age),
            Keeps::ForAtMost(age, bytes) => format!("{}, {} MiB", in_words(age), bytes >> 20),
            Keeps::FirstFor(age, ..) => format!("{}, the first of a subject", in_words(age)),
            Keeps::LastForever => "forever, the last of a subject".to_owned(),
        }
    }

    fn expiry_in_words(expiry: Expiry) -> String {
        match expiry {
            Expiry::Never => "forever".to_owned(),
            Expiry::After(age) => in_words(age),
            Expiry::PerMessage => "as long as each value says".to_owned(),
        }
    }

    fn in_words(age: Duration) -> String {
        match age.as_secs() {
            seconds if seconds >= 86_400 => format!("{} d", seconds / 86_400),
            seconds => format!("{seconds} s"),
        }
    }
}
