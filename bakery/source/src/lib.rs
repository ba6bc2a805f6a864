//! Job sources: fetched from wherever they lie, checked, read once, and put into guests.
//!
//! ```text
//! s3, https ──▶ spool, hashed ──▶ digest right? ──▶╮
//! git in a VM ──▶ ids recomputed ──▶ canonical ───▶╯ inspect: one bounded reading ──▶ Archive ──▶ input digests ──▶ snapshot key
//!                                                                                        │
//!                                                                                        └──▶ sorted records ──▶ agent in the guest
//! ```
//!
//! What always holds: the host reads an archive once and writes no entry of it to a path; the guest never sees the
//! archive, only the entries that the host read. So the lockfile that gave the key is the lockfile that is built.

mod archive;
mod canonical;
mod config;
mod error;
mod feed;
mod fetch;
mod git;
mod hosts;
mod https;
mod inspect;
mod limits;
mod locks;
#[cfg(any(test, feature = "testing"))]
mod memory;
mod operator;
mod pax;
mod recent;
mod sources;
mod spool;
mod stream;
#[cfg(test)]
mod testing;
mod tree;
mod values;

pub use archive::Archive;
pub use config::SourcesConfig;
pub use error::{InputProblem, Refusal, SourceError};
pub use git::{GitProblem, Matter, SubmoduleProblem};
pub use hosts::Owner;
pub use https::HttpsProblem;
pub use limits::Limits;
pub use operator::fetch_https;
pub use sources::{Fetched, Sources, SourcesParts};
pub use values::{Value, Values, ValuesError};

#[cfg(any(test, feature = "testing"))]
pub use memory::MemoryValues;
