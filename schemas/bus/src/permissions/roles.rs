//! What each role does, in the order in which it does it.

use schemas::names::{bucket, stream};

use super::Role;
use super::grants::{Grants, subjects};
use crate::streams::BUCKETS;

/// All of it.
pub(super) fn of(role: &Role) -> Grants {
    let mut grants = Grants::answered_at(&role.inbox_prefix());
    match role {
        Role::Publisher {
            tenant,
            trust,
            pool,
        } => publisher(&mut grants, tenant.as_str(), trust.as_str(), pool.as_str()),
        Role::Subscriber { tenant } => subscriber(&mut grants, tenant.as_str()),
        Role::Worker => worker(&mut grants),
        Role::Bakery => bakery(&mut grants),
        Role::Operator => operator(&mut grants),
    }
    grants
}

/// What the roles of all tenants together ask and hear: what their accounts may import.
pub(super) fn of_any_tenant() -> Grants {
    let mut grants = Grants::default();
    publisher(&mut grants, "*", "*", "*");
    grants
}

fn publisher(grants: &mut Grants, tenant: &str, trust: &str, pool: &str) {
    grants.publishes(subjects(stream::JOBS, &[pool, trust, "*", tenant]));
    grants.publishes(subjects(stream::BAKE_TRIGGERS, &[trust, tenant]));
    grants.writes(bucket::CANCELS, &format!("{tenant}.*"));
    subscriber(grants, tenant);
}

fn subscriber(grants: &mut Grants, tenant: &str) {
    let of_tenant = |stream| subjects(stream, &[tenant]);
    let reports = of_tenant(stream::RESULTS);
    grants.hears(reports.replace("build.report.", "build.result."));
    grants.looks_at(stream::RESULTS, &reports);
    // Heard as they are published. A consumer would give what was published before as well, but who makes one chooses where the server
    // delivers to, the queue of jobs included.
    for stream in [stream::EVENTS, stream::LOGS] {
        grants.hears(of_tenant(stream));
        grants.looks_at(stream, &of_tenant(stream));
    }
    let record = format!("$KV.{}.job.{tenant}.*", bucket::JOBS);
    grants.looks_at(&format!("KV_{}", bucket::JOBS), &record);
}

fn worker(grants: &mut Grants) {
    // A publish wakes the workers that wait.
    grants.hears(subjects(stream::JOBS, &[]).replace(".*.*.*.*", ".>"));
    grants.takes(stream::JOBS);

    reads_every_bucket(grants);
    for keys in ["lease.*.*", "cap.*.*"] {
        grants.writes(bucket::LEASES, keys);
    }
    grants.hears(format!("$KV.{}.cap.>", bucket::LEASES));
    grants.writes(bucket::JOBS, "job.*.*");
    grants.writes(bucket::WORKERS, "*");

    // A snapshot that is damaged is withdrawn; an archive that was made of a commit is kept.
    grants.writes(bucket::SNAPSHOTS, "key.*");
    grants.writes(bucket::SNAPSHOTS, "git.*.*.*.*");
    grants.hears(format!("$KV.{}.key.*", bucket::SNAPSHOTS));
    grants.publishes(subjects(stream::BAKE_REQUESTS, &[]));
    grants.asks(format!("STREAM.INFO.{}", stream::BAKE_EVENTS));
    grants.follows(stream::BAKE_EVENTS, &subjects(stream::BAKE_EVENTS, &[]));

    for stream in [stream::RESULTS, stream::EVENTS, stream::LOGS, stream::DEAD] {
        grants.publishes(subjects(stream, &[]));
    }
    // Whether a job has its result, and where the log of a worker that died ends.
    for stream in [stream::RESULTS, stream::LOGS] {
        grants.looks_at(stream, &subjects(stream, &[]));
    }
}

/// Worker and bakery are services of the operator: what is secret from tenants is not from them.
fn reads_every_bucket(grants: &mut Grants) {
    for bucket in BUCKETS {
        grants.reads(bucket.name);
    }
}

fn bakery(grants: &mut Grants) {
    for stream in [stream::BAKE_REQUESTS, stream::BAKE_TRIGGERS] {
        grants.makes_consumers(stream);
        grants.takes(stream);
    }
    grants.publishes(subjects(stream::BAKE_REQUESTS, &[]));
    grants.publishes(subjects(stream::BAKE_EVENTS, &[]));

    reads_every_bucket(grants);
    grants.writes(bucket::SNAPSHOTS, ">");
    grants.writes(bucket::LEASES, ">");
    janitor(grants);
}

/// One bakery keeps the queue of jobs: it makes and removes consumers, and ends jobs that nobody took. It takes none.
fn janitor(grants: &mut Grants) {
    let jobs = stream::JOBS;
    for request in [
        "STREAM.INFO",
        "STREAM.MSG.GET",
        "STREAM.MSG.DELETE",
        "CONSUMER.NAMES",
    ] {
        grants.asks(format!("{request}.{jobs}"));
    }
    grants.asks(format!("DIRECT.GET.{jobs}"));
    grants.makes_consumers(jobs);
    for request in ["CONSUMER.INFO", "CONSUMER.DELETE"] {
        grants.asks(format!("{request}.{jobs}.*"));
    }
    // Whether a job has its result, and where the log of a worker that died ends.
    for stream in [stream::RESULTS, stream::LOGS] {
        grants.looks_at(stream, &subjects(stream, &[]));
    }
    for stream in [stream::RESULTS, stream::EVENTS, stream::LOGS] {
        grants.publishes(subjects(stream, &[]));
    }
    grants.writes(bucket::JOBS, "job.*.*");
}

fn operator(grants: &mut Grants) {
    for all in ["build.>", "bake.>"] {
        grants.hears(all);
    }
    // Streams and buckets are made and brought to other settings; jobs are ended by a cancel, and never taken out of the queue.
    for request in ["INFO", "STREAM.NAMES", "STREAM.LIST", "DIRECT.GET.>"] {
        grants.asks(request);
    }
    for request in ["CREATE", "UPDATE", "INFO", "MSG.GET"] {
        grants.asks(format!("STREAM.{request}.*"));
    }
    for request in [
        "NAMES.*",
        "LIST.*",
        "INFO.*.*",
        "CREATE.>",
        "DELETE.*.*",
        "MSG.NEXT.*.*",
    ] {
        grants.asks(format!("CONSUMER.{request}"));
    }
    grants.publishes("$JS.FC.>");
    // Dead letters that are done with.
    grants.asks(format!("STREAM.MSG.DELETE.{}", stream::DEAD));
    grants.asks(format!("STREAM.PURGE.{}", stream::DEAD));
    grants.publishes("$KV.>");
    for stream in [stream::JOBS, stream::BAKE_REQUESTS, stream::BAKE_TRIGGERS] {
        grants.publishes(subjects(stream, &[]));
    }
}
