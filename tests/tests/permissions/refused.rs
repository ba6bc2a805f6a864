//! What the server must refuse each user, as data.

use anyhow::Result;

use crate::server::User;

/// What a user must be refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused {
    publish: &'static [&'static [&'static str]],
    hear: &'static [&'static str],
}

/// Tries all of it.
pub(crate) async fn check(user: &User, refused: Refused) -> Result<()> {
    for subject in refused.publish.iter().copied().flatten() {
        user.cannot_publish(subject).await?;
    }
    for subject in refused.hear {
        user.cannot_hear(subject).await?;
    }
    Ok(())
}

pub(crate) const PUBLISHER: Refused = Refused {
    publish: &[
        &[
            "build.job.default.untrusted.5.other",
            "build.job.default.trusted.5.acme",
            "build.job.special.untrusted.5.acme",
            "bake.trigger.trusted.acme.widget",
            "bake.trigger.untrusted.other.widget",
            "$KV.build-cancels.other.a",
        ],
        OF_A_TENANT,
    ],
    hear: OTHERS,
};

pub(crate) const SUBSCRIBER: Refused = Refused {
    publish: &[
        &[
            "build.job.default.untrusted.5.acme",
            "bake.trigger.untrusted.acme.widget",
            "$KV.build-cancels.acme.a",
        ],
        OF_A_TENANT,
    ],
    hear: OTHERS,
};

pub(crate) const WORKER: Refused = Refused {
    publish: &[
        &[
            "build.job.default.untrusted.5.acme",
            "bake.trigger.untrusted.acme.widget",
            "bake.event.acme.widget",
            "$KV.build-snapshots.template.class.node",
            "$KV.build-snapshots.failed.a",
            "$KV.build-leases.janitor",
            "$KV.build-leases.bake.a",
            "$KV.build-cancels.acme.a",
            "$JS.API.CONSUMER.CREATE.BUILD_JOBS.mine.build.job.default.untrusted.5.acme",
            "$JS.API.CONSUMER.CREATE.BUILD_JOBS.mine",
            "$JS.API.CONSUMER.CREATE.BUILD_JOBS",
            "$JS.API.CONSUMER.DURABLE.CREATE.BUILD_JOBS.mine",
            "$JS.API.CONSUMER.DELETE.BUILD_JOBS.mine",
            "$JS.API.CONSUMER.NAMES.BUILD_JOBS",
            "$JS.API.CONSUMER.MSG.NEXT.BAKE_REQUESTS.bakery-class",
            "$JS.ACK.BAKE_REQUESTS.bakery-class.1.1.1.1.1",
            "$JS.API.DIRECT.GET.BUILD_RESULTS",
        ],
        NOT_THE_JANITORS,
        OF_AN_OPERATOR,
        OF_THE_SERVER,
    ],
    hear: &[
        "build.result.>",
        "build.log.>",
        "_INBOX.bakery.>",
        "_INBOX.>",
        "bake.>",
        ">",
    ],
};

pub(crate) const BAKERY: Refused = Refused {
    publish: &[
        &[
            "build.job.default.untrusted.5.acme",
            "bake.trigger.untrusted.acme.widget",
            "build.dead.acme.a",
            "$KV.build-cancels.acme.a",
            "$KV.build-workers.w1",
            "$JS.API.CONSUMER.MSG.NEXT.BUILD_JOBS.default=untrusted=5=acme",
            "$JS.ACK.BUILD_JOBS.default=untrusted=5=acme.1.1.1.1.1",
            "$JS.API.CONSUMER.CREATE.BUILD_LOGS.mine.build.log.acme.a",
        ],
        OF_AN_OPERATOR,
        OF_THE_SERVER,
    ],
    hear: &[
        "build.job.>",
        "build.result.>",
        "_INBOX.worker.>",
        "_INBOX.>",
        ">",
    ],
};

pub(crate) const OPERATOR: Refused = Refused {
    publish: &[
        &[
            "build.report.acme.a",
            "build.event.acme.a",
            "build.log.acme.a",
            "build.dead.acme.a",
            "bake.event.acme.widget",
            "$JS.ACK.BUILD_JOBS.default=untrusted=5=acme.1.1.1.1.1",
            "$JS.API.STREAM.DELETE.BUILD_RESULTS",
            "$JS.API.STREAM.PURGE.BUILD_RESULTS",
            "$JS.API.STREAM.MSG.DELETE.BUILD_RESULTS",
        ],
        NOT_THE_JANITORS,
        OF_THE_SERVER,
    ],
    hear: &["_INBOX.worker.>", "_INBOX.>", "$SYS.>", ">"],
};

/// What neither publisher nor subscriber of acme may do.
const OF_A_TENANT: &[&str] = &[
    "build.report.acme.a",
    "build.result.acme.a",
    "build.event.acme.a",
    "build.log.acme.a",
    "build.dead.acme.a",
    "bake.event.acme.widget",
    "bake.request.class.untrusted.acme.widget",
    "$KV.build-jobs.job.acme.a",
    "$KV.build-leases.lease.acme.a",
    "$KV.build-leases.cap.acme.0",
    "$KV.build-snapshots.key.a",
    "$KV.build-workers.w1",
    "$KV.build-tenants.acme",
    "$KV.build-environments.template.node",
    "$KV.build-environments.environment.acme.widget",
    // Another's messages, or all of a stream.
    "$JS.API.DIRECT.GET.BUILD_JOBS",
    "$JS.API.DIRECT.GET.BUILD_JOBS.build.job.default.untrusted.5.acme",
    "$JS.API.DIRECT.GET.BUILD_RESULTS",
    "$JS.API.DIRECT.GET.BUILD_RESULTS.build.report.other.a",
    "$JS.API.DIRECT.GET.BUILD_LOGS",
    "$JS.API.DIRECT.GET.BUILD_LOGS.build.log.other.a",
    "$JS.API.DIRECT.GET.KV_build-jobs",
    "$JS.API.DIRECT.GET.KV_build-jobs.$KV.build-jobs.job.other.a",
    "$JS.API.DIRECT.GET.KV_build-leases.$KV.build-leases.lease.acme.a",
    "$JS.API.STREAM.MSG.GET.BUILD_RESULTS",
    "$JS.API.STREAM.INFO.BUILD_JOBS",
    "$JS.API.STREAM.INFO.BUILD_RESULTS",
    "$JS.API.STREAM.INFO.KV_build-jobs",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.LIST",
    "$JS.API.CONSUMER.NAMES.BUILD_LOGS",
    "$JS.API.CONSUMER.LIST.BUILD_LOGS",
    // Not even over its own log: who makes a consumer chooses where the server delivers to.
    "$JS.API.CONSUMER.CREATE.BUILD_LOGS.mine.build.log.acme.a",
    "$JS.API.CONSUMER.CREATE.BUILD_EVENTS.mine.build.event.acme.a",
    "$JS.API.CONSUMER.MSG.NEXT.BUILD_LOGS.mine",
    "$JS.API.CONSUMER.CREATE.BUILD_LOGS",
    "$JS.API.CONSUMER.CREATE.BUILD_LOGS.mine",
    "$JS.API.CONSUMER.CREATE.BUILD_LOGS.mine.build.log.other.a",
    "$JS.API.CONSUMER.CREATE.BUILD_LOGS.mine.build.log.>",
    "$JS.API.CONSUMER.CREATE.BUILD_RESULTS.mine.build.report.acme.a",
    "$JS.API.CONSUMER.CREATE.KV_build-jobs.mine",
    "$JS.API.CONSUMER.DURABLE.CREATE.BUILD_LOGS.mine",
    "$JS.API.CONSUMER.CREATE.BUILD_JOBS.mine.build.job.default.untrusted.5.acme",
    "$JS.API.CONSUMER.MSG.NEXT.BUILD_JOBS.default=untrusted=5=acme",
    "$JS.ACK.BUILD_JOBS.default=untrusted=5=acme.1.1.1.1.1",
    "$JS.API.CONSUMER.DELETE.BUILD_JOBS.default=untrusted=5=acme",
    "$JS.API.STREAM.MSG.DELETE.BUILD_JOBS",
    "$JS.API.STREAM.PURGE.BUILD_JOBS",
    "$JS.API.STREAM.CREATE.BUILD_JOBS",
    "$JS.API.STREAM.UPDATE.BUILD_RESULTS",
    "$JS.API.STREAM.DELETE.BUILD_RESULTS",
    "$SYS.REQ.SERVER.PING",
];

/// What no user of acme may hear.
const OTHERS: &[&str] = &[
    "build.job.>",
    "build.result.other.*",
    "build.result.>",
    "build.report.acme.*",
    "build.event.other.*",
    "build.log.other.*",
    "build.log.*.a",
    "build.dead.acme.*",
    "bake.>",
    "$KV.>",
    "$JS.>",
    "_INBOX.worker.>",
    "_INBOX.>",
    ">",
];

/// Only the bakery takes messages out of the queue.
const NOT_THE_JANITORS: &[&str] = &[
    "$JS.API.STREAM.MSG.DELETE.BUILD_JOBS",
    "$JS.API.STREAM.PURGE.BUILD_JOBS",
];

/// What only an operator may do.
const OF_AN_OPERATOR: &[&str] = &[
    "$KV.build-tenants.acme",
    "$KV.build-environments.template.node",
    "$KV.build-environments.environment.acme.widget",
    "$JS.API.STREAM.CREATE.MINE",
    "$JS.API.STREAM.UPDATE.BUILD_JOBS",
    "$JS.API.STREAM.DELETE.BUILD_JOBS",
    "$JS.API.STREAM.PURGE.BUILD_RESULTS",
    "$JS.API.STREAM.MSG.DELETE.BUILD_RESULTS",
    "$JS.API.STREAM.MSG.DELETE.BUILD_DEAD",
    "$JS.API.STREAM.LIST",
];

/// What only the server itself, or who looks into it, may do.
const OF_THE_SERVER: &[&str] = &[
    "build.result.acme.a",
    "$JS.API.STREAM.DELETE.BUILD_JOBS",
    "$SYS.REQ.SERVER.PING",
];
