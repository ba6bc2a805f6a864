//! `bakery init`: everything that lies on the servers and that others only find. Run again, it changes what differs and nothing else.

use async_nats::jetstream;
use bus::objects::Objects;
use bus::{nats, streams};

use crate::config::Config;

/// Makes streams, key-value buckets and S3 buckets; returns what there is now, a line each.
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
    let objects = Objects::connect(&config.objects).await?;
    objects.wait_ready().await?;
    for bucket in objects.buckets().all() {
        objects.create_bucket(bucket).await?;
    }
    made.push(format!("S3 buckets: {}", names(objects.buckets().all())));
    Ok(made)
}

fn names<const N: usize>(names: [&str; N]) -> String {
    names.join(" ")
}
