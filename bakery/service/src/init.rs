//! `bakery init`: everything that lies on the servers and that others only find. Run again, it changes what differs and nothing else.

use anyhow::Context as _;
use async_nats::jetstream;
use bus::objects::Objects;
use bus::{nats, streams};
use schemas::Trust;
use schemas::names::stream;

use crate::config::Config;

/// Makes streams, key-value buckets, consumers of jobs and S3 buckets; returns what there is now, a line each.
pub async fn run(config: &Config) -> anyhow::Result<Vec<String>> {
    let client = nats::connect(&config.nats, "bakery-init").await?;
    let jetstream = jetstream::new(client);
    streams::provision(&jetstream, config.replicas).await?;
    let mut made = vec![
        format!("streams: {}", names(streams::STREAMS.map(|it| it.name))),
        format!(
            "key-value buckets: {}",
            names(streams::BUCKETS.map(|it| it.name))
        ),
    ];
    made.push(format!(
        "consumers: {}",
        consumers(config, &jetstream).await?
    ));
    let objects = Objects::connect(&config.objects).await?;
    objects.wait_ready().await?;
    for bucket in objects.buckets().all() {
        objects.create_bucket(bucket).await?;
    }
    made.push(format!("S3 buckets: {}", names(objects.buckets().all())));
    Ok(made)
}

/// One consumer for each pool and trust.
async fn consumers(config: &Config, jetstream: &jetstream::Context) -> anyhow::Result<String> {
    let jobs = jetstream.get_stream_no_info(stream::JOBS).await?;
    let mut made = Vec::new();
    for pool in &config.pools {
        for trust in [Trust::Trusted, Trust::Untrusted] {
            let consumer = streams::job_consumer(pool, trust);
            let name = consumer.durable_name.clone().unwrap_or_default();
            jobs.create_consumer(consumer)
                .await
                .with_context(|| format!("make the consumer {name}"))?;
            made.push(name);
        }
    }
    Ok(made.join(" "))
}

fn names<const N: usize>(names: [&str; N]) -> String {
    names.join(" ")
}
