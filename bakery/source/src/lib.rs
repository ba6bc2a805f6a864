//! Job sources: archives fetched by digest, read once, and put into guests.
//!
//! ```text
//! s3 ──▶ spool, hashed ──▶ digest right? ──▶ inspect: one bounded reading ──▶ Archive ──▶ input digests ──▶ snapshot key
//!                                                                                │
//!                                                                                └──▶ sorted records ──▶ agent in the guest
//! ```
//!
//! What always holds: the host reads an archive once and writes no entry of it to a path; the guest never sees the
//! archive, only the entries that the host read. So the lockfile that gave the key is the lockfile that is built.

mod archive;
mod config;
mod error;
mod feed;
mod fetch;
mod inspect;
mod limits;
mod pax;
mod sources;
mod stream;
mod tree;
mod values;

pub use archive::Archive;
pub use config::SourcesConfig;
pub use error::{InputProblem, Refusal, SourceError};
pub use fetch::fetch_archive;
pub use limits::Limits;
pub use sources::{Fetched, Sources, SourcesParts};
pub use values::ValuesError;
