//! JSON Schema 2020-12 of every message, generated from the types. The files in `schemas/json` are these, which a test compares.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use crate::bake::{BakeEvent, BakeRequest, BakeTrigger};
use crate::dead::DeadLetter;
use crate::event::Event;
use crate::record::JobRecord;
use crate::{Environment, Job, JobResult, Template, Tenant, WorkerState};

/// Every schema with the name of its file, without `.schema.json`.
pub fn all() -> Vec<(&'static str, Schema)> {
    vec![
        ("job", as_read::<Job>()),
        ("environment", as_read::<Environment>()),
        ("template", as_read::<Template>()),
        ("tenant", as_read::<Tenant>()),
        ("bake-request", as_read::<BakeRequest>()),
        ("bake-trigger", as_read::<BakeTrigger>()),
        ("result", as_written::<JobResult>()),
        ("event", as_written::<Event>()),
        ("bake-event", as_written::<BakeEvent>()),
        ("record", as_written::<JobRecord>()),
        ("dead-letter", as_written::<DeadLetter>()),
        ("worker", as_written::<WorkerState>()),
    ]
}

/// What a publisher may leave out, since it has a default, is optional.
fn as_read<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12()
        .for_deserialize()
        .into_generator()
        .into_root_schema_for::<T>()
}

/// What we always write is required.
fn as_written<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<T>()
}
