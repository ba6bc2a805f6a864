//! Requests to bake a snapshot, and what came of them. Subjects: [`crate::names::BakeSubject`], [`crate::names::bake_event_subject`].

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Sha256Digest;
use crate::environment::MAX_DEFINITION_BYTES;
use crate::field_error::{self, FieldError};
use crate::job::Source;
use crate::open::Open;
use crate::result::LogRef;
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
    /// Where the inputs come from.
    pub source: Source,
    /// The key that the requester computed. Where given, a bake that comes to another is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Sha256Digest>,
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
    /// The host failed, and it will be tried again.
    Retrying,
    /// The snapshot can be forked.
    Published,
    /// Nothing was published.
    Failed,
}

impl BakeRequest {
    /// Reads a body.
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
