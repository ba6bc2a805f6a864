//! Keeps snapshots what their definitions say, without being asked: a template is baked when its definition is new or changed, or when its
//! time is over; and whenever a template or an environment changed, the sources that an environment was last baked for are requested again.
//!
//! ```text
//! definition of a template, or its time is over ─▶ bake the template ─ another key? ─▶ its environments ─╮
//! definition of an environment ──────────────────────────────────────────────────────────────────────────┤
//!                                                                     its newest source ─▶ bake.request ◀╯
//! ```
//!
//! A template is looked at beside all else, since that may take as long as a bake: a change of an environment does not wait for it.
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
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, interval_at, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::Server;
use super::queue::LAST_WORDS;
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
    /// The templates that changed or are due, and are not looked at yet.
    due: BTreeSet<Token>,
    /// The environments that changed, by tenant and name, and are not requested yet.
    changed: BTreeSet<(Token, Token)>,
    /// Those that could not be requested, and are tried again at the next look.
    postponed: BTreeSet<(Token, Token)>,
    /// The templates that are defined.
    templates: BTreeMap<Token, Kept>,
    /// The one template that is being looked at, which may take as long as a bake.
    looking: JoinSet<(Token, Result<Found, BakeError>)>,
}

/// What a look at a template found.
#[derive(Debug, Default)]
struct Found {
    /// The key of its snapshot; none where it is no longer defined.
    key: Option<Sha256Digest>,
    /// The environments that are to be looked at because that is another than before.
    environments: Vec<(Token, Token)>,
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

    /// Sees to the template's snapshot, whose key was `known` at the last look.
    async fn look_at(&self, name: &Token, known: Option<Sha256Digest>) -> Result<Found, BakeError> {
        let Some(definition) = self.definitions.template(name).await? else {
            return Ok(Found::default());
        };
        let before = match known {
            Some(key) => Some(key),
            None => self.bakery.template_key(name).await?,
        };
        let asked = Asked {
            request_id: "definition".parse().expect("a plain word is a token"),
            at: Timestamp::now(),
            again: false,
        };
        let manifest = self.bakery.template(&definition, &asked, &Logged).await?;
        let key = Some(manifest.key);
        let environments = if before == key {
            Vec::new()
        } else {
            self.definitions.environments_of(name).await?
        };
        Ok(Found { key, environments })
    }
}

impl Keeper {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self {
            server,
            due: BTreeSet::new(),
            changed: BTreeSet::new(),
            postponed: BTreeSet::new(),
            templates: BTreeMap::new(),
            looking: JoinSet::new(),
        }
    }

    /// Keeps until `shutdown`.
    pub(super) async fn keep(mut self, shutdown: CancellationToken) {
        let keeping = Box::pin(self.keep_on());
        shutdown.run_until_cancelled(keeping).await;
        // A bake that ends gives its lease back.
        if timeout(LAST_WORDS, self.looking.join_next()).await.is_err() {
            warn!("a template's bake was dropped where it stood");
        }
    }

    async fn keep_on(&mut self) {
        let definitions = self.server.definitions.bucket().clone();
        let mut look = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        loop {
            let mut changes = watch::begin(&definitions, ">").await;
            loop {
                self.look_at_next();
                tokio::select! {
                    change = changes.next() => match change {
                        Some(Ok(entry)) => self.note(&entry),
                        // What was missed follows.
                        Some(Err(error)) => warn!(%error, "definitions are watched again"),
                        None => break,
                    },
                    Some(looked) = self.looking.join_next() => self.note_outcome(looked),
                    () = tokio::time::sleep(SETTLED_AFTER), if !self.changed.is_empty() => {
                        self.request_changed().await;
                    }
                    _ = look.tick() => self.note_what_is_due().await,
                }
            }
        }
    }

    /// Begins with the next template that is due, unless one is being looked at.
    fn look_at_next(&mut self) {
        if !self.looking.is_empty() {
            return;
        }
        let Some(name) = self.due.pop_first() else {
            return;
        };
        let known = self.templates.entry(name.clone()).or_default().key;
        let server = self.server.clone();
        self.looking.spawn(async move {
            let found = server.look_at(&name, known).await;
            (name, found)
        });
    }

    fn note(&mut self, entry: &Entry) {
        if entry.operation != Operation::Put {
            return;
        }
        match entry.key.parse() {
            Ok(Definition::Template(name)) => {
                self.due.insert(name);
            }
            Ok(Definition::Environment(tenant, name)) => {
                self.changed.insert((tenant, name));
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
                    self.due.insert(name.clone());
                }
                Err(error) => {
                    warn!(template = %name, error = %Causes(&error), "age of a template not known");
                }
            }
        }
    }

    /// Notes how it went with a template, and leaves one alone that cannot be baked: ever longer.
    fn note_outcome(&mut self, looked: Result<(Token, Result<Found, BakeError>), JoinError>) {
        let (name, outcome) = match looked {
            Ok(looked) => looked,
            Err(error) => return error!(%error, "looking at a template panicked"),
        };
        let kept = self.templates.entry(name.clone()).or_default();
        match outcome {
            Ok(found) => {
                *kept = Kept {
                    key: found.key,
                    ..Kept::default()
                };
                self.changed.extend(found.environments);
            }
            Err(error) => {
                kept.failures = kept.failures.saturating_add(1);
                let wait = LOOK_EVERY.saturating_mul(kept.failures).min(LONGEST_WAIT);
                kept.not_before = Some(Instant::now() + wait);
                warn!(template = %name, error = %Causes(&error), again_in = ?wait, "template not baked");
            }
        }
    }

    async fn request_changed(&mut self) {
        for (tenant, name) in std::mem::take(&mut self.changed) {
            if let Err(error) = self.environment(&tenant, &name).await {
                warn!(%tenant, environment = %name, error = %format!("{error:#}"), "bakes of a changed environment not requested; looked at again");
                self.postponed.insert((tenant, name));
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
