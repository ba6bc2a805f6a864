//! `bakery bake NAME --dir DIR`: packs the declared inputs, asks for a bake, and tells what comes of it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, Context};
use bus::nats;
use bus::objects::Objects;
use schemas::bake::{BakeEvent, BakeEventKind, BakeRequest, BakeRequestSchema};
use schemas::names::{self, BakeSubject, stream};
use schemas::source::{ArchiveSource, Source};
use schemas::{HostClass, ObjectUri, Sha256Digest, Token, Trust};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::config::Config;
use crate::definitions::Definitions;
use crate::pack;
use crate::progress_bar::Bar;

/// 30 s: an idle bakery takes a request within a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// Events between the connection and the terminal.
const EVENTS_AHEAD: usize = 64;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// The environment.
    pub environment: &'a Token,
    /// The tree that its inputs are taken from.
    pub dir: &'a Path,
    /// Whose environment it is.
    pub tenant: &'a Token,
    /// How far the author of the tree is trusted.
    pub trust: Trust,
    /// The class of hosts that the snapshot is for.
    pub class: &'a HostClass,
}

/// Asks, and shows on `bar` what happens. Returns the last event: `published` or `failed`.
pub async fn run(config: &Config, asked: &Asked<'_>, bar: &Bar) -> anyhow::Result<BakeEvent> {
    let begun = Instant::now();
    let client = nats::connect(&config.nats, "bakery-bake").await?;
    let jetstream = jetstream::new(client);
    let source = uploaded(config, asked, &Definitions::open(&jetstream).await?).await?;
    let request_id = Token::from(Uuid::now_v7());
    let mut events = listen(&jetstream, asked, &request_id).await?;
    publish(&jetstream, asked, request_id, source).await?;
    let mut patience = Box::pin(tokio::time::sleep(PATIENCE));
    let mut taken = false;
    loop {
        tokio::select! {
            event = events.recv() => {
                let event = event.context("hear of the bake")?;
                taken = true;
                show(bar, asked, begun.elapsed(), &event);
                if is_last(&event) {
                    return Ok(event);
                }
            }
            () = &mut patience, if !taken => {
                let class = asked.class;
                bar.say(&format!("no bakery of class {class} has taken the request for 30 s; still waiting"));
                taken = true;
            }
        }
    }
}

/// Packs and uploads the inputs.
async fn uploaded(
    config: &Config,
    asked: &Asked<'_>,
    definitions: &Definitions,
) -> anyhow::Result<ArchiveSource> {
    let (tenant, name) = (asked.tenant, asked.environment);
    let environment = definitions.environment(tenant, name).await?;
    let environment = environment
        .with_context(|| format!("tenant {tenant} has no environment {name}: apply it first"))?;
    let archive = pack::pack(asked.dir, &environment.inputs)?;
    let objects = Objects::connect(&config.objects).await?;
    objects.wait_ready().await?;
    let digest = Sha256Digest::of(&archive);
    let (bucket, key) = (
        &objects.buckets().sources,
        names::source_object(tenant, &digest),
    );
    objects.put(bucket, &key, archive.into()).await?;
    Ok(ArchiveSource {
        uri: ObjectUri::new(bucket, &key)?.into(),
        digest: digest.into(),
    })
}

/// Hears the bake's events from now on: before it is asked for, so that none is missed.
async fn listen(
    jetstream: &Context,
    asked: &Asked<'_>,
    request_id: &Token,
) -> anyhow::Result<mpsc::Receiver<BakeEvent>> {
    let stored = jetstream.get_stream(stream::BAKE_EVENTS).await;
    let stored = stored.with_context(|| {
        let stream = stream::BAKE_EVENTS;
        format!("find the stream {stream}: was `bakery init` run on this server?")
    })?;
    let next = stored.cached_info().state.last_sequence + 1;
    let subject = names::bake_event_subject(asked.tenant, asked.environment);
    let (sender, events) = mpsc::channel(EVENTS_AHEAD);
    let (jetstream, request_id) = (jetstream.clone(), request_id.clone());
    tokio::spawn(crate::follow::follow(
        jetstream, subject, request_id, next, sender,
    ));
    Ok(events)
}

async fn publish(
    jetstream: &Context,
    asked: &Asked<'_>,
    request_id: Token,
    source: ArchiveSource,
) -> anyhow::Result<()> {
    let subject = BakeSubject {
        class: asked.class.clone(),
        trust: asked.trust,
        tenant: asked.tenant.clone(),
        environment: asked.environment.clone(),
    };
    let message = PublishMessage::build().message_id(format!("bake-{request_id}"));
    let request = BakeRequest {
        schema: BakeRequestSchema,
        request_id,
        tenant: None,
        trust: None,
        environment: asked.environment.clone(),
        definition: None,
        source: Source::Archive(source),
        key: None,
        again: true,
    };
    let message = message.payload(serde_json::to_vec(&request)?.into());
    let context = || format!("publish the request to {subject}");
    let sent = jetstream.send_publish(subject.to_string(), message).await;
    sent.with_context(context)?.await.with_context(context)?;
    Ok(())
}

/// Everything is a line above the bar, but how far a transfer is: that is the bar itself until something else happens.
fn show(bar: &Bar, asked: &Asked<'_>, elapsed: Duration, event: &BakeEvent) {
    if event.kind.known() == Some(&BakeEventKind::Transferring) {
        bar.turn_to(event.message.clone().unwrap_or_default());
    } else {
        bar.say(&line(elapsed, event));
        bar.turn_to(format!("baking {}", asked.environment));
    }
}

/// Whether nothing comes after it. An event of a kind that we do not know is not the last.
fn is_last(event: &BakeEvent) -> bool {
    match event.kind.known() {
        Some(BakeEventKind::Published | BakeEventKind::Failed) => true,
        Some(
            BakeEventKind::Requested
            | BakeEventKind::Started
            | BakeEventKind::StepFinished
            | BakeEventKind::Transferring
            | BakeEventKind::Retrying,
        )
        | None => false,
    }
}

fn line(elapsed: Duration, event: &BakeEvent) -> String {
    let seconds = elapsed.as_secs_f64();
    let message = event.message.as_deref().unwrap_or("");
    format!("[{seconds:6.1} s] {message}")
}
