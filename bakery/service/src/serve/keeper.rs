//! Keeps snapshots what their definitions say, without being asked: a template is baked when its definition is new or changed, or when its
//! time is over; and whenever a template or an environment changed, the sources that an environment was last baked for are requested again.
//!
//! ```text
//! definition of a template, or its time is over ─▶ bake the template ─ another key? ─▶ its environments ─╮
//! definition of an environment ──────────────────────────────────────────────────────────────────────────┤
//!                                                                     its newest source ─▶ bake.request ◀╯
//! ```
//!
//! What always holds: it decides from what is there now, so that a change made while no bakery ran is seen by the next one; a request for
//! what is there already bakes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::kv::{Entry, Operation};
use async_trait::async_trait;
use bus::telemetry::Causes;
use bus::watch;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use schemas::bake::{BakeRequest, BakeRequestSchema, RecentBake};
use schemas::names::{BakeSubject, Definition};
use schemas::{Sha256Digest, Token, Trust, canonical};
use serde_json::json;
use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::Server;
use crate::error::BakeError;
use crate::history::{Asked, Shelf};
use crate::news::{News, Reporter};

/// 1 min between two looks at the age of templates, which is counted in hours, and at what went wrong the last time.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// 1 h: a template that cannot be baked needs a person, or its mirrors.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// 200 ms without another change: definitions are applied several at a time.
const SETTLED_AFTER: Duration = Duration::from_millis(200);

/// Keeps one bakery's class.
pub(super) struct Keeper {
    server: Arc<Server>,
    /// What changed and is not dealt with.
    changed: BTreeSet<Definition>,
    /// What changed, could not be dealt with, and is due at the next look.
    postponed: BTreeSet<Definition>,
    /// The templates that are defined.
    templates: BTreeMap<Token, Kept>,
}

/// What is known of a template.
#[derive(Debug, Default)]
struct Kept {
    /// The key of its snapshot when it was last looked at.
    key: Option<Sha256Digest>,
    /// How often in a row it could not be baked.
    failures: u32,
    /// Until when it is left alone for that.
    not_before: Option<Instant>,
}

impl Server {
    /// Whether the template's snapshot is missing or too old. One that is not defined any more is left as it is.
    async fn is_stale(&self, name: &Token) -> Result<bool, BakeError> {
        match self.definitions.template(name).await? {
            Some(definition) => self.bakery.is_stale(&definition).await,
            None => Ok(false),
        }
    }
}

impl Keeper {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self {
            server,
            changed: BTreeSet::new(),
            postponed: BTreeSet::new(),
            templates: BTreeMap::new(),
        }
    }

    /// Keeps until `shutdown`.
    pub(super) async fn keep(mut self, shutdown: CancellationToken) {
        let keeping = Box::pin(self.keep_on());
        shutdown.run_until_cancelled(keeping).await;
    }

    async fn keep_on(&mut self) {
        let definitions = self.server.definitions.bucket().clone();
        let mut look = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        loop {
            let mut changes = watch::begin(&definitions, ">").await;
            loop {
                tokio::select! {
                    change = changes.next() => match change {
                        Some(Ok(entry)) => self.note(&entry),
                        // What was missed follows.
                        Some(Err(error)) => warn!(%error, "definitions are watched again"),
                        None => break,
                    },
                    () = tokio::time::sleep(SETTLED_AFTER), if !self.changed.is_empty() => {
                        self.deal_with_changes().await;
                    }
                    _ = look.tick() => self.note_what_is_due().await,
                }
            }
        }
    }

    fn note(&mut self, entry: &Entry) {
        if entry.operation != Operation::Put {
            return;
        }
        match entry.key.parse() {
            Ok(definition) => {
                self.changed.insert(definition);
            }
            Err(error) => warn!(key = entry.key, %error, "not a definition"),
        }
    }

    /// What was postponed, and templates whose time is over or that could not be baked the last time and are due again.
    async fn note_what_is_due(&mut self) {
        self.changed.append(&mut self.postponed);
        for (name, kept) in &self.templates {
            if kept.not_before.is_some_and(|time| time > Instant::now()) {
                continue;
            }
            match self.server.is_stale(name).await {
                Ok(false) => {}
                Ok(true) => {
                    self.changed.insert(Definition::Template(name.clone()));
                }
                Err(error) => {
                    warn!(template = %name, error = %Causes(&error), "age of a template not known");
                }
            }
        }
    }

    /// Templates first: what becomes of an environment depends on them.
    async fn deal_with_changes(&mut self) {
        let changed = std::mem::take(&mut self.changed);
        let mut environments = BTreeSet::new();
        for definition in changed {
            match definition {
                Definition::Template(name) => {
                    let changed = self.template(&name).await;
                    environments.extend(self.note_outcome(&name, changed));
                }
                Definition::Environment(tenant, name) => {
                    environments.insert((tenant, name));
                }
            }
        }
        for (tenant, name) in environments {
            if let Err(error) = self.environment(&tenant, &name).await {
                warn!(%tenant, environment = %name, error = %format!("{error:#}"), "bakes of a changed environment not requested; looked at again");
                self.postponed.insert(Definition::Environment(tenant, name));
            }
        }
    }

    /// Sees to the template's snapshot. Returns the environments that are to be looked at because it is another than before.
    async fn template(&mut self, name: &Token) -> Result<Vec<(Token, Token)>, BakeError> {
        let server = &self.server;
        let Some(definition) = server.definitions.template(name).await? else {
            return Ok(Vec::new());
        };
        let before = server.bakery.template_key(name).await?;
        let kept = self.templates.entry(name.clone()).or_default();
        kept.key = kept.key.or(before);
        let asked = Asked {
            request_id: "definition".parse().expect("a plain word is a token"),
            at: Timestamp::now(),
            again: false,
        };
        let manifest = server.bakery.template(&definition, &asked, &Logged).await?;
        if kept.key == Some(manifest.key) {
            return Ok(Vec::new());
        }
        let environments = server.definitions.environments_of(name).await?;
        // Last: where those could not be listed, the next look finds the key changed again.
        kept.key = Some(manifest.key);
        Ok(environments)
    }

    /// Notes how it went with a template, and leaves one alone that cannot be baked: ever longer.
    fn note_outcome<T: Default>(&mut self, name: &Token, outcome: Result<T, BakeError>) -> T {
        let kept = self.templates.entry(name.clone()).or_default();
        match outcome {
            Ok(done) => {
                (kept.failures, kept.not_before) = (0, None);
                done
            }
            Err(error) => {
                kept.failures = kept.failures.saturating_add(1);
                let wait = LOOK_EVERY.saturating_mul(kept.failures).min(LONGEST_WAIT);
                kept.not_before = Some(Instant::now() + wait);
                warn!(template = %name, error = %Causes(&error), again_in = ?wait, "template not baked");
                T::default()
            }
        }
    }

    /// Requests an environment's newest source again, for each trust.
    async fn environment(&self, tenant: &Token, name: &Token) -> anyhow::Result<()> {
        for trust in [Trust::Trusted, Trust::Untrusted] {
            let shelf = Shelf {
                class: self.server.bakery.class().clone(),
                trust,
                tenant: tenant.clone(),
                environment: name.clone(),
            };
            let recent = self.server.history.recent(&shelf).await?;
            if let Some(newest) = recent.into_iter().next() {
                self.request(shelf, newest).await?;
            }
        }
        Ok(())
    }

    async fn request(&self, shelf: Shelf, newest: RecentBake) -> anyhow::Result<()> {
        let server = &self.server;
        let environment = server
            .definitions
            .environment(&shelf.tenant, &shelf.environment)
            .await?;
        let Some(definition) = environment else {
            return Ok(());
        };
        let template = server.bakery.template_key(&definition.template).await?;
        // Bakeries of one class see the same change at the same time: the server takes one of their requests.
        let id = canonical::digest(&json!([shelf.name(), definition, template, newest.source]))?;
        let request = BakeRequest {
            schema: BakeRequestSchema,
            request_id: Uuid::now_v7().into(),
            tenant: None,
            trust: None,
            environment: shelf.environment.clone(),
            definition: None,
            source: newest.source,
            key: None,
            again: false,
        };
        let subject = BakeSubject {
            class: shelf.class,
            trust: shelf.trust,
            tenant: shelf.tenant,
            environment: shelf.environment,
        };
        info!(%subject, "definition or template changed: requested again");
        server
            .ask(&subject, &request, format!("bake-change-{id}"))
            .await
    }
}

/// Tells the log. A template's bake that nobody asked for belongs to no tenant.
struct Logged;

#[async_trait]
impl Reporter for Logged {
    async fn tell(&self, news: News) {
        info!(kind = ?news.kind, "{}", news.message);
    }
}
