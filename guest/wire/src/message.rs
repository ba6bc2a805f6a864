//! Messages: what the frames of a session carry.
//!
//! Nothing here knows what a build is: a guest runs commands, takes files and gives files.
//!
//! | opened with | the host then sends | the agent answers |
//! | --- | --- | --- |
//! | [`Open::Thaw`] | | `Done` |
//! | [`Open::Exec`] | `Terminate`, if it wants the end | data on both lanes, `Ended` |
//! | [`Open::Put`] | `Entry` and data, in turns, then `Finish` | `Stored` |
//! | [`Open::List`] | | `Found`, any number, then `Done` |
//! | [`Open::Read`] | | `File`, data, `Done` |
//! | [`Open::Proxy`] | close, to end it | `Done` once it listens; a `Tunnel` for each connection |
//! | [`Open::Sync`] | | `Done` |
//! | [`Open::Settle`] | | `Settled` |
//! | [`Open::Probe`] | | `Probed` |
//! | [`Open::Survey`] | | `Surveyed` |
//! | [`Open::PowerOff`] | | `Done`, then the guest is gone |
//!
//! Any of them may be answered by `Failed` with a sentence, and the channel then closes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// First frame of a session, both ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The speaker's [`crate::frame::VERSION`].
    pub version: u16,
    /// Chosen by the host, repeated by the agent: what was on the way from an earlier session is told apart by it.
    pub nonce: u64,
}

/// What a channel is opened for. `Tunnel` is the guest's to open, all others the host's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Open {
    /// Makes a restored guest its own: entropy, clock, hostname.
    Thaw(Thaw),
    /// Runs one command and everything it starts.
    Exec(ExecSpec),
    /// Writes files, directories and symbolic links.
    Put(PutSpec),
    /// Lists regular files.
    List(ListSpec),
    /// Reads one regular file.
    Read(ReadSpec),
    /// Listens on the guest's loopback; each connection becomes a [`Open::Tunnel`].
    Proxy {
        /// TCP port on 127.0.0.1.
        port: u16,
    },
    /// Writes everything to the disk.
    Sync,
    /// Makes a guest ready to be frozen: everything on its disk, and what is free of memory and disk zero.
    Settle,
    /// Tells what no two guests share, and the time.
    Probe,
    /// Tells what a tree looks like.
    Survey(SurveySpec),
    /// Syncs, unmounts what it can and switches the machine off.
    PowerOff,
    /// One connection to the proxy port, from inside the guest.
    Tunnel,
}

/// What a guest gets before its first command after a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thaw {
    /// 64 fresh random bytes, credited and mixed in before anything runs. Two halves: serde knows arrays up to 32.
    pub entropy: ([u8; 32], [u8; 32]),
    /// Time since the Unix epoch, for the wall clock.
    pub realtime: Duration,
    /// Hostname.
    pub hostname: String,
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A program, found through `PATH` of the command's own environment, and its arguments.
    Argv(Vec<String>),
    /// A script for `/bin/sh -e -c`.
    Shell(String),
}

/// A user inside the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id; there are no supplementary groups.
    pub gid: u32,
}

impl User {
    /// The guest's administrator.
    pub const ROOT: User = User { uid: 0, gid: 0 };
    /// Whom builds run as.
    pub const BUILD: User = User {
        uid: 1000,
        gid: 1000,
    };
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// What to run.
    pub command: Command,
    /// The whole environment: nothing is inherited.
    pub env: Vec<(String, String)>,
    /// Working directory, absolute.
    pub cwd: String,
    /// Whom it runs as.
    pub user: User,
    /// How long it may run, by the guest's monotonic clock, before it is terminated.
    pub timeout: Duration,
    /// Time between SIGTERM and SIGKILL when it is terminated.
    pub kill_grace: Duration,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Termination {
    /// It exited by itself.
    Exited {
        /// Its exit status.
        code: i32,
    },
    /// A signal ended it that the agent did not send.
    Signalled {
        /// The signal's number.
        signal: i32,
    },
    /// It ran past its timeout and was killed.
    TimedOut,
    /// The guest's memory was used up and the kernel killed it.
    OutOfMemory,
    /// The host asked for its end.
    Terminated,
    /// It never ran.
    NotStarted {
        /// Why, as a sentence.
        problem: String,
    },
}

/// What a command used, it and everything it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time, user and system.
    pub cpu: Duration,
    /// Highest memory, page cache included.
    pub peak_memory_bytes: u64,
    /// Bytes written to disks.
    pub disk_written_bytes: u64,
}

/// The end of a command: nothing of its process tree is left when this is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How.
    pub termination: Termination,
    /// What it used.
    pub usage: Usage,
    /// Free space of the root filesystem at that moment.
    pub disk_free_bytes: u64,
}

/// Where a [`Open::Put`] writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutSpec {
    /// Directory below which everything is written, absolute; made if absent.
    pub root: String,
    /// Owner of everything written, directories that had to be made included.
    pub owner: User,
}

/// One thing to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Path below the root: relative, no `.` or `..`, no symbolic link on the way. Whatever stands there is replaced.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits; ignored for a symbolic link.
    pub mode: u32,
    /// Modification time in seconds since the Unix epoch.
    pub mtime: i64,
}

/// What an [`Entry`] is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file; exactly `size` bytes of data follow.
    File {
        /// Its length.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points; not looked at.
        target: String,
    },
}

/// What a [`Open::Put`] wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutSummary {
    /// Entries.
    pub entries: u64,
    /// Bytes of regular files.
    pub bytes: u64,
}

/// What to list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListSpec {
    /// Directory to look in, absolute.
    pub root: String,
    /// Globs over paths below it: `*` and `?` stop at `/`, `**` does not.
    pub globs: Vec<String>,
    /// Most files to report; one more is reported, so that the caller sees that there are more.
    pub limit: u32,
}

/// One regular file that a [`Open::List`] found; they come sorted by path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Path below the root.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Length in bytes.
    pub size: u64,
}

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadSpec {
    /// Directory below which the file lies, absolute.
    pub root: String,
    /// Path below it; no symbolic link is followed.
    pub path: String,
}

/// What a guest that was made ready to be frozen says of it. What could not be done is no failure: the snapshot is larger for
/// it, and holds what programs left in memory that nobody uses any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Bytes of free memory that were made zero.
    pub zeroed_bytes: u64,
    /// Bytes of free memory that may be as they were.
    pub left_bytes: u64,
    /// Bytes of the root filesystem that were given back to the disk as unused.
    pub trimmed_bytes: u64,
    /// Time for all of it.
    pub took: Duration,
    /// What could not be done, as a sentence.
    pub problem: Option<String>,
}

/// What a [`Open::Survey`] looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurveySpec {
    /// Directory, absolute. Everything below it on the same filesystem counts with its name, kind, mode, owner, size and time of
    /// change; a directory without size and time, which a filesystem of another make has its own words for.
    pub tree: String,
    /// Directory in the tree, absolute. The bytes of regular files below it count too, in the order of their names.
    pub contents: String,
    /// At most this many bytes of all files together.
    pub max_bytes: u64,
}

/// What a guest says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// 32 bytes of its `/dev/urandom`.
    pub random: [u8; 32],
    /// A fresh UUID of its kernel, as text.
    pub uuid: String,
    /// Its wall clock: time since the Unix epoch.
    pub realtime: Duration,
    /// Its hostname.
    pub hostname: String,
}

/// What a tree looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surveyed {
    /// Over what the [`SurveySpec`] names.
    pub digest: Digest,
    /// How many entries of the tree are in it.
    pub entries: u64,
}

/// A SHA-256.
pub type Digest = [u8; 32];

/// What the host says on an open channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToGuest {
    /// The next thing to write.
    Entry(Entry),
    /// Nothing more to write.
    Finish,
    /// End the command: SIGTERM to its whole tree, SIGKILL after `grace`.
    Terminate {
        /// Time between the two.
        grace: Duration,
    },
}

/// What the agent says on an open channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToHost {
    /// It is done.
    Done,
    /// It cannot be done.
    Failed(String),
    /// A command's end.
    Ended(Ended),
    /// Everything is written.
    Stored(PutSummary),
    /// It is ready to be frozen.
    Settled(Settled),
    /// What it says of itself.
    Probed(Probed),
    /// What the tree looks like.
    Surveyed(Surveyed),
    /// Some of the files found.
    Found(Vec<Found>),
    /// The file that is about to follow as data.
    File {
        /// Permission bits.
        mode: u32,
        /// Length in bytes.
        size: u64,
        /// SHA-256 of its bytes.
        digest: Digest,
    },
}
