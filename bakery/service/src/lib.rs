//! The bakery: makes snapshots and publishes them. A template is booted once from Debian packages, an image or an archive; an environment
//! is derived from its template, gets the declared inputs and nothing else, and runs its setup steps.
//!
//! ```text
//! bake.trigger ─▶ requests for every class
//! bake.request ─▶ serve ─▶ template there and current? ──no──▶ root, kernel, boot, setup, freeze, gate ─▶ publish
//!                            │ yes                                                                         │
//!                            ▼                                                                             ▼
//!                 source ─▶ input digests ─▶ key ─▶ published? ──no──▶ lease ─▶ derive, inputs, setup, freeze, gate ─▶ publish
//!                                                      │ yes                                                           │
//!                                                      └──────────────────▶ bake.event: published ◀────────────────────┘
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | [`config`], [`args`] | what the operator says |
//! | [`init`], [`apply`], [`request`], [`serve`] | the commands that make something |
//! | [`list`], [`inspect`], [`collect`], [`registries`], [`detect`] | the commands that tell what there is, and take away what nobody needs |
//! | [`permissions`] | the accounts of a tenant on the NATS server, printed |
//! | [`inventory`] | every snapshot, and what points to it |
//! | [`progress_bar`] | how far a command is, on a terminal |
//! | [`definitions`] | templates and environments as they were applied |
//! | [`bakery`] | what a bake needs; templates and environments are baked in its submodules |
//! | `base`, `root`, `kernel` | what a template is booted from |
//! | [`gate`] | what every bake is checked by before it is published |
//! | `election` | which bakery bakes, of all that could |
//! | `janitor` | keeps the queue of jobs in order: consumers, and jobs that no worker ends |
//! | [`history`] | which keys failed, and what was baked last |
//! | [`news`], [`events`] | what a bake tells, and where |
//! | [`error`] | what can go wrong, and whose fault it is |
//!
//! What always holds: a snapshot is published whole or not at all; a bake that fails publishes nothing; a guest is frozen with its
//! way out closed; nothing here names a VMM.

pub mod apply;
pub mod args;
pub mod bakery;
mod base;
pub mod collect;
pub mod config;
pub mod definitions;
pub mod detect;
mod election;
pub mod error;
pub mod events;
mod files;
mod follow;
pub mod gate;
pub mod history;
mod human;
pub mod init;
pub mod inspect;
pub mod inventory;
mod janitor;
mod kernel;
pub mod list;
pub mod news;
mod pack;
pub mod permissions;
mod program;
pub mod progress_bar;
pub mod registries;
pub mod request;
mod root;
pub mod serve;
mod table;
mod transfers;

pub use bakery::{Bakery, MakeInitramfs, host_class};
pub use config::{Config, ConfigError};
pub use error::BakeError;
