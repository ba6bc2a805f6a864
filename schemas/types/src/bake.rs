//! Requests to bake a snapshot, and what came of them. Subjects: [`crate::names::BakeSubject`], [`crate::names::bake_event_subject`].

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Sha256Digest;
use crate::environment::{Environment, MAX_DEFINITION_BYTES};
use crate::field_error::{self, FieldError};
use crate::open::Open;
use crate::result::LogRef;
use crate::source::Source;
use crate::tag::schema_tag;
use crate::token::{HostClass, Token, Trust};

schema_tag!(
    /// `sourdough/bake-request/v1`.
    BakeRequestSchema = "sourdough/bake-request/v1"
);

schema_tag!(
    /// `sourdough/bake-trigger/v1`.
    BakeTriggerSchema = "sourdough/bake-trigger/v1"
);

schema_tag!(
    /// `sourdough/bake-event/v1`.
    BakeEventSchema = "sourdough/bake-event/v1"
);

/// Bake an environment for one host class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BakeRequest {
    /// The version of this message.
    #[serde(default)]
    pub schema: BakeRequestSchema,
    /// What the events of this bake are told apart by: one token that the requester makes.
    pub request_id: Token,
    /// The tenant. Where given, it must be that of the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Token>,
    /// The trust. Where given, it must be that of the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<Trust>,
    /// The environment, by its name in the tenant's definitions.
    pub environment: Token,
    /// The environment itself, where a job has it inline: then the tenant's definitions are not asked. Its name must be `environment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Box<Environment>>,
    /// Where the inputs come from.
    pub source: Source,
    /// The key that the requester computed. Where given, a bake that comes to another is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Sha256Digest>,
    /// Whether it is baked even though a bake of this key failed not long ago. Default false: what failed is left alone until its
    /// [`BakeFailure::retry_at`].
    #[serde(default)]
    pub again: bool,
}

/// A source changed: bake its environment for every class that is alive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BakeTrigger {
    /// The version of this message.
    #[serde(default)]
    pub schema: BakeTriggerSchema,
    /// Where the inputs come from.
    pub source: Source,
    /// What the events of the bakes that it leads to are told apart by. Default: `trigger-<stream sequence>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Token>,
}

/// Why a key has no snapshot: the last bake of it failed. Bucket: [`crate::names::bucket::SNAPSHOTS`], key:
/// [`crate::names::bake_failure`]. It goes when a bake of the key succeeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BakeFailure {
    /// The request that failed.
    pub request_id: Token,
    /// Why, in one word.
    pub reason: String,
    /// The same in one sentence for a person.
    pub message: String,
    /// The setup step that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Token>,
    /// The whole output of the setup, where it was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogRef>,
    /// How often in a row it failed.
    pub failures: u32,
    /// When it failed.
    pub time: Timestamp,
    /// Until when a job that needs the key is told of this failure, and no bake is tried for it.
    pub retry_at: Timestamp,
}

/// The sources that an environment was last baked for, the newest first. Bucket: [`crate::names::bucket::SNAPSHOTS`], key:
/// [`crate::names::recent_bakes`]. What is on it is kept; and when a definition changes, the newest is baked anew.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecentBakes {
    /// The bakes.
    pub bakes: Vec<RecentBake>,
}

/// One bake of an environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecentBake {
    /// The snapshot.
    pub key: Sha256Digest,
    /// Where its inputs came from.
    pub source: Source,
    /// When it was last asked for.
    pub asked_at: Timestamp,
}

/// What came of a bake. Events may grow: readers ignore fields and kinds that they do not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BakeEvent {
    /// The version of this message.
    #[serde(default)]
    pub schema: BakeEventSchema,
    /// The request that it belongs to.
    pub request_id: Token,
    /// The snapshot key, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Sha256Digest>,
    /// The host class that bakes.
    pub class: HostClass,
    /// How far the author of the source is trusted. Default, for events of older bakeries: not.
    #[serde(default = "untrusted")]
    pub trust: Trust,
    /// What happened.
    pub kind: Open<BakeEventKind>,
    /// Why a bake failed, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same in one sentence for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The setup step that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Token>,
    /// The end of that step's output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The whole output, where it was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogRef>,
    /// Its place among the events of this delivery of the request, from 1. A request that is delivered again counts from 1 again.
    pub seq: u64,
    /// When it happened.
    pub time: Timestamp,
}

fn untrusted() -> Trust {
    Trust::Untrusted
}

/// What happened to a bake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BakeEventKind {
    /// A bakery took the request.
    Requested,
    /// Its VM runs.
    Started,
    /// A setup step ended.
    StepFinished,
    /// A snapshot is on its way to or from the object store: how far it is, at most every 2 s.
    Transferring,
    /// The host failed, and it will be tried again.
    Retrying,
    /// The snapshot can be forked.
    Published,
    /// Nothing was published.
    Failed,
}

impl BakeRequest {
    /// Reads a body, and checks an inline definition in full.
    pub fn parse(body: &[u8]) -> Result<Self, FieldError> {
        let request: Self = field_error::parse(body, MAX_DEFINITION_BYTES)?;
        let Some(definition) = &request.definition else {
            return Ok(request);
        };
        if definition.name != request.environment {
            let problem = format!("must be {}, is {}", request.environment, definition.name);
            return Err(FieldError::new("definition.name", problem));
        }
        definition.check().map_err(|error| {
            FieldError::new(format!("definition.{}", error.field), error.problem)
        })?;
        Ok(request)
    }
}

impl BakeFailure {
    /// Reads a value of the bucket.
    pub fn parse(body: &[u8]) -> Result<Self, FieldError> {
        field_error::parse(body, MAX_DEFINITION_BYTES)
    }
}

impl RecentBakes {
    /// Reads a value of the bucket.
    pub fn parse(body: &[u8]) -> Result<Self, FieldError> {
        field_error::parse(body, MAX_DEFINITION_BYTES)
    }
}

impl BakeTrigger {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, FieldError> {
        field_error::parse(body, MAX_DEFINITION_BYTES)
    }
}

impl BakeEvent {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, FieldError> {
        field_error::parse(body, MAX_DEFINITION_BYTES)
    }
}
