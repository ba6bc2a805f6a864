//! The bakery: makes snapshots and publishes them. A template is booted once from Debian packages; an environment is derived
//! from its template, gets the declared inputs and nothing else, and runs its setup steps.
//!
//! ```text
//! bake.request ─▶ serve ─▶ template there and current? ──no──▶ root, kernel, boot, setup, freeze ─▶ publish
//!                            │ yes                                                                   │
//!                            ▼                                                                       ▼
//!                 source ─▶ input digests ─▶ key ─▶ published? ──no──▶ derive, inputs, setup, freeze ─▶ publish
//!                                                      │ yes                                             │
//!                                                      └──────────────▶ bake.event: published ◀──────────┘
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | [`config`], [`args`] | what the operator says |
//! | [`init`], [`apply`], [`request`], [`serve`] | the four commands |
//! | [`definitions`] | templates and environments as they were applied |
//! | [`bakery`] | what a bake needs; templates and environments are baked in its submodules |
//! | [`news`], [`events`] | what a bake tells, and where |
//! | [`error`] | what can go wrong, and whose fault it is |
//!
//! What always holds: a snapshot is published whole or not at all; a bake that fails publishes nothing; a guest is frozen with its
//! way out closed; nothing here names a VMM.

pub mod apply;
pub mod args;
pub mod bakery;
mod base;
pub mod config;
pub mod definitions;
mod election;
pub mod error;
pub mod events;
mod files;
mod follow;
pub mod history;
pub mod init;
mod kernel;
pub mod news;
mod pack;
mod program;
pub mod request;
mod root;
pub mod serve;

pub use bakery::{Bakery, MakeInitramfs, host_class};
pub use config::{Config, ConfigError};
pub use error::BakeError;
