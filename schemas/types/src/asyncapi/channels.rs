//! Every channel of the document as a table, and the parameters of their addresses.

use crate::names::{bucket, stream};

/// A channel as it stands in the tables below.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channel {
    /// Its name in the document.
    pub(super) name: &'static str,
    /// Its subject, with parameters in braces.
    pub(super) address: &'static str,
    /// The stream that stores it.
    pub(super) stored: Stored,
    /// The name of its message.
    pub(super) message: &'static str,
    /// The name of what publishers and subscribers do with it.
    pub(super) operation: &'static str,
    /// Which way its messages go.
    pub(super) action: Action,
    /// What it is for.
    pub(super) summary: &'static str,
    /// Who may, on a server with the permissions of `deploy/nats`.
    pub(super) may: May,
}

/// Who may use a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum May {
    /// Publishers of the tenant; where the address has a trust and a pool, those of this trust and pool.
    Publisher,
    /// Publishers and subscribers of the tenant.
    Subscriber,
    /// The operator alone.
    Operator,
}

/// Which way messages go, seen by publishers and subscribers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    /// They publish there.
    Send,
    /// They listen or look there.
    Receive,
}

/// Where messages are kept.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stored {
    /// In a stream of this name.
    Stream(&'static str),
    /// In a bucket of this name, whose stream has the prefix `KV_`.
    Bucket(&'static str),
    /// Nowhere: it is heard or missed.
    Not,
}

/// Every channel.
pub(super) const CHANNELS: [Channel; 15] = [
    Channel {
        name: "jobs",
        address: "build.job.{pool}.{trust}.{priority}.{tenant}",
        stored: Stored::Stream(stream::JOBS),
        message: "job",
        operation: "submitJob",
        action: Action::Send,
        summary: "Asks for a build.",
        may: May::Publisher,
    },
    Channel {
        name: "results",
        address: "build.result.{tenant}.{job_id}",
        stored: Stored::Not,
        message: "result",
        operation: "hearResult",
        action: Action::Receive,
        summary: "The one result of a job, republished by the server once it is stored. Only the server publishes here.",
        may: May::Subscriber,
    },
    Channel {
        name: "reports",
        address: "build.report.{tenant}.{job_id}",
        stored: Stored::Stream(stream::RESULTS),
        message: "result",
        operation: "fetchResult",
        action: Action::Receive,
        summary: "The one result of a job as it is stored, the first of its subject: for a direct get of the last message.",
        may: May::Subscriber,
    },
    Channel {
        name: "events",
        address: "build.event.{tenant}.{job_id}",
        stored: Stored::Stream(stream::EVENTS),
        message: "event",
        operation: "followEvents",
        action: Action::Receive,
        summary: "What happens to a job meanwhile.",
        may: May::Subscriber,
    },
    Channel {
        name: "logs",
        address: "build.log.{tenant}.{job_id}",
        stored: Stored::Stream(stream::LOGS),
        message: "log-chunk",
        operation: "followLog",
        action: Action::Receive,
        summary: "The output of a job's steps as it is written. The whole log is in S3 once the job has ended.",
        may: May::Subscriber,
    },
    Channel {
        name: "deadLetters",
        address: "build.dead.{tenant}.{job_id}",
        stored: Stored::Stream(stream::DEAD),
        message: "dead-letter",
        operation: "readDeadLetter",
        action: Action::Receive,
        summary: "A job that ended by our own trouble, with its body and its attempts.",
        may: May::Operator,
    },
    Channel {
        name: "bakeRequests",
        address: "bake.request.{class}.{trust}.{tenant}.{environment}",
        stored: Stored::Stream(stream::BAKE_REQUESTS),
        message: "bake-request",
        operation: "requestBake",
        action: Action::Send,
        summary: "Asks the bakeries of one host class for a snapshot.",
        may: May::Operator,
    },
    Channel {
        name: "bakeTriggers",
        address: "bake.trigger.{trust}.{tenant}.{environment}",
        stored: Stored::Stream(stream::BAKE_TRIGGERS),
        message: "bake-trigger",
        operation: "triggerBakes",
        action: Action::Send,
        summary: "Says that a source changed: it is baked for every host class that has a worker.",
        may: May::Publisher,
    },
    Channel {
        name: "bakeEvents",
        address: "bake.event.{tenant}.{environment}",
        stored: Stored::Stream(stream::BAKE_EVENTS),
        message: "bake-event",
        operation: "followBakes",
        action: Action::Receive,
        summary: "What happens to the bakes of an environment.",
        may: May::Operator,
    },
    Channel {
        name: "cancels",
        address: "$KV.build-cancels.{tenant}.{job_id}",
        stored: Stored::Bucket(bucket::CANCELS),
        message: "cancel",
        operation: "cancelJob",
        action: Action::Send,
        summary: "Ends a job, wherever it is: any value under its key, before or after the job itself is published.",
        may: May::Publisher,
    },
    Channel {
        name: "records",
        address: "$KV.build-jobs.job.{tenant}.{job_id}",
        stored: Stored::Bucket(bucket::JOBS),
        message: "record",
        operation: "readRecord",
        action: Action::Receive,
        summary: "Every attempt at a job so far.",
        may: May::Subscriber,
    },
    Channel {
        name: "environments",
        address: "$KV.build-environments.environment.{tenant}.{environment}",
        stored: Stored::Bucket(bucket::ENVIRONMENTS),
        message: "environment",
        operation: "defineEnvironment",
        action: Action::Send,
        summary: "Defines an environment of a tenant.",
        may: May::Operator,
    },
    Channel {
        name: "templates",
        address: "$KV.build-environments.template.{template}",
        stored: Stored::Bucket(bucket::ENVIRONMENTS),
        message: "template",
        operation: "defineTemplate",
        action: Action::Send,
        summary: "Defines a template.",
        may: May::Operator,
    },
    Channel {
        name: "tenants",
        address: "$KV.build-tenants.{tenant}",
        stored: Stored::Bucket(bucket::TENANTS),
        message: "tenant",
        operation: "limitTenant",
        action: Action::Send,
        summary: "Limits a tenant.",
        may: May::Operator,
    },
    Channel {
        name: "workers",
        address: "$KV.build-workers.{worker}",
        stored: Stored::Bucket(bucket::WORKERS),
        message: "worker",
        operation: "watchWorkers",
        action: Action::Receive,
        summary: "What each worker says of itself; a worker that is gone is gone from here within 30 s.",
        may: May::Operator,
    },
];

/// Each parameter, of A-Z, a-z, 0-9, `_` and `-`: what it means, and what it may be where that is a closed set.
pub(super) const PARAMETERS: [(&str, &str, &[&str]); 9] = [
    (
        "pool",
        "The set of workers, `default` where nobody says otherwise.",
        &[],
    ),
    (
        "trust",
        "How far the author of the source is trusted.",
        &["trusted", "untrusted"],
    ),
    (
        "priority",
        "0 goes first, 9 last; served by weight, so that none waits forever.",
        &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    ),
    ("tenant", "Whose it is.", &[]),
    (
        "job_id",
        "The id in the job; `invalid-<stream sequence>` for a message that has none which is its own.",
        &[],
    ),
    ("class", "The host class, as workers tell it.", &[]),
    ("environment", "The name of the environment.", &[]),
    ("template", "The name of the template.", &[]),
    ("worker", "The name of the worker.", &[]),
];
