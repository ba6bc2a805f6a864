//! The harness: a whole stack on one machine, made of real servers, for the end-to-end cases, the demo and the bench.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`state`] | the one directory that everything is kept in |
//! | [`launch`] | what to start, and how long it lives |
//! | [`process`] | a child with a log, that is killed when its owner goes |
//! | [`running`] | a process that runs on its own, and how to stop it |
//! | [`wait`] | until something is so, with a deadline |
//! | [`ports`] | TCP ports that nobody uses |
//! | [`tools`] | the pinned server binaries |
//! | [`python`] | a Python with a NATS client |
//! | [`nats`], [`s3`] | a running nats-server, a running `SeaweedFS` |
//! | [`authority`], [`web`] | repositories and files behind https, as only a test trusts them |
//! | [`programs`] | the programs that this build made |
//! | [`stack`] | servers, bakery and worker together |
//! | [`fake`], [`fleet`] | guests that are directories; servers, a bakery and any number of workers with such guests |
//! | [`left`], [`resident`] | what processes leave behind, and how large they are |
//! | [`project`] | a project to build, as a git repository |
//! | [`submit`] | a build as a person asks for it |
//! | [`queue`], [`heard`], [`archive`] | a publisher without a client, and what it hears of a job |
//! | [`root`] | the smallest template |
//! | [`snapshots`], [`news`] | what bakes leave in the servers, and what is said of them |
//! | [`guest`] | what a test boots without a bakery |
//! | [`gate`] | a server that is away, and comes |
//! | [`progress`], [`interrupt`] | what a person sees of it, and how one ends it |
//! | [`demo`], [`up`], [`with`], [`soak`], [`bench`] | the subcommands of `dev` |
//!
//! What always holds: everything listens on loopback only, is stopped by process id, and writes nowhere but into the state
//! directory (`SeaweedFS`'s sockets in `/tmp` excepted, which are removed).

pub mod archive;
pub mod authority;
pub mod bench;
pub mod demo;
pub mod fake;
pub mod fleet;
pub mod gate;
pub mod guest;
pub mod heard;
pub mod interrupt;
pub mod launch;
pub mod left;
pub mod nats;
pub mod news;
pub mod ports;
pub mod process;
pub mod programs;
pub mod progress;
pub mod project;
pub mod python;
pub mod queue;
pub mod resident;
pub mod root;
pub mod running;
pub mod s3;
pub mod snapshots;
pub mod soak;
pub mod stack;
pub mod state;
pub mod submit;
pub mod tools;
pub mod up;
pub mod wait;
pub mod web;
mod weed;
pub mod with;
