//! What a worker says of itself, every few seconds. Bucket: [`crate::names::bucket::WORKERS`], key: the worker's name.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Sha256Digest;
use crate::environment::MAX_DEFINITION_BYTES;
use crate::field_error::{self, FieldError};
use crate::open::Open;
use crate::tag::schema_tag;
use crate::token::{HostClass, Token, Trust};

schema_tag!(
    /// `sourdough/worker/v1`.
    WorkerSchema = "sourdough/worker/v1"
);

/// A worker that is alive. May grow: readers ignore fields that they do not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerState {
    /// The version of this message.
    #[serde(default)]
    pub schema: WorkerSchema,
    /// The worker.
    pub name: Token,
    /// The pool that it serves.
    pub pool: Token,
    /// Whose jobs it takes.
    pub trust: Vec<Trust>,
    /// Which snapshots it can fork.
    pub class: HostClass,
    /// Jobs that it runs at a time.
    pub slots: u32,
    /// Processors of the largest guest that a slot takes; 0 in the words of a worker that does not say.
    #[serde(default)]
    pub slot_vcpu: u32,
    /// Memory of the largest guest that a slot takes, in MiB; 0 as above.
    #[serde(default)]
    pub slot_memory_mib: u32,
    /// Jobs that it runs now.
    pub running: u32,
    /// Jobs that wait for a bake.
    pub parked: u32,
    /// The snapshots that its jobs use: what is listed here is never collected.
    pub snapshots: Vec<Sha256Digest>,
    /// Whether it takes jobs.
    pub state: Open<WorkerCondition>,
    /// Why it is in that state, where that is not plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it said so.
    pub time: Timestamp,
}

/// Whether a worker takes jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkerCondition {
    /// It takes jobs.
    Ready,
    /// It takes none for a while, since its host is in trouble: the reason says which.
    Paused,
    /// It ends, and takes none.
    Draining,
}

impl WorkerState {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, FieldError> {
        field_error::parse(body, MAX_DEFINITION_BYTES)
    }
}
