//! Every message, every NATS subject, stream and bucket, and every object key: what publishers, workers and bakeries agree on.
//!
//! Nothing here does I/O. A message that parses has been checked in full: each `parse` function reads a body, applies the limits that
//! its type documents, and refuses with a [`FieldError`] that names the field. The JSON Schemas in `schemas/json` are generated from
//! these types ([`json_schema`]), as is the `AsyncAPI` document beside them ([`asyncapi`]), and the golden messages in
//! `schemas/examples` are parsed by a test.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`job`], [`source`], [`choice`], [`step`], [`artifact`] | the build request |
//! | [`environment`], [`template`] | what a snapshot is made from |
//! | [`tenant`] | what the operator allows a tenant |
//! | [`worker`] | what a worker says of itself |
//! | [`result`], [`reason`] | the one final answer |
//! | [`refusal`] | the answer to a body that is no job |
//! | [`event`], [`log`] | what happens meanwhile |
//! | [`record`], [`dead`] | the attempts at a job, and a job that ran out of them |
//! | [`bake`] | requests to bake, and what came of them |
//! | [`guest`] | what a build finds inside its guest |
//! | [`names`], [`token`] | subjects, streams, buckets, keys, and the words they are made of |
//! | [`digest`], [`key_prefix`], [`path`], [`uri`], [`https`], [`canonical`] | values that several messages share |

pub mod artifact;
pub mod asyncapi;
pub mod bake;
pub mod canonical;
pub mod choice;
pub mod dead;
pub mod digest;
pub mod environment;
pub mod event;
pub mod field_error;
pub mod guest;
pub mod https;
pub mod job;
pub mod json_schema;
pub mod key_prefix;
pub mod log;
pub mod names;
pub mod open;
pub mod path;
pub mod reason;
pub mod record;
pub mod refusal;
pub mod result;
pub mod source;
pub mod step;
mod tag;
pub mod template;
pub mod tenant;
pub mod text;
pub mod token;
pub mod uri;
pub mod worker;

pub use choice::EnvironmentChoice;
pub use digest::{Digests, GitCommit, Sha256Digest};
pub use environment::Environment;
pub use field_error::FieldError;
pub use job::Job;
pub use key_prefix::KeyPrefix;
pub use names::JobSubject;
pub use open::Open;
pub use path::{Glob, TreePath};
pub use reason::{Reason, Status};
pub use result::JobResult;
pub use source::Source;
pub use template::Template;
pub use tenant::Tenant;
pub use text::{TextError, quoted};
pub use token::{EnvName, HostClass, Priority, Token, Trust};
pub use uri::ObjectUri;
pub use worker::WorkerState;
