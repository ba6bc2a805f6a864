//! What to start, and how long it lives.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

/// How long a process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lifetime {
    /// As long as its [`Process`](crate::process::Process), and never longer than the thread that spawned it: the kernel
    /// sees to that (`PR_SET_PDEATHSIG`), even where this process is killed. Spawn from a thread that stays, not from a
    /// blocking task.
    #[default]
    Owner,
    /// Until it is stopped by its [`Running`](crate::running::Running) record. It has a process group of its own, so that
    /// the terminal's ^C does not reach it.
    Detached,
}

/// What to start, and how.
#[derive(Debug)]
pub struct Launch {
    /// Name in messages.
    pub name: &'static str,
    /// The program, as a path or to be found on `PATH`.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Added to our own environment.
    pub environment: Vec<(String, String)>,
    /// Where its standard output and standard error go; appended to. Its directory must exist.
    pub log: PathBuf,
    /// When it ends.
    pub lifetime: Lifetime,
    /// Files outside the state directory that it leaves behind when it is killed. They are removed for it.
    pub leftovers: Vec<PathBuf>,
}

/// Where and how long a server runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServerOptions {
    /// The port that clients connect to, on loopback. Default: a free one.
    pub port: Option<u16>,
    /// When it ends. Default: with its owner.
    pub lifetime: Lifetime,
    /// When what nats-server acknowledges is on disk.
    pub on_disk: OnDisk,
}

/// When what nats-server acknowledges is on disk. A server that is killed loses nothing either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDisk {
    /// Before it is acknowledged, so that a power cut loses nothing either.
    #[default]
    AtOnce,
    /// Within 2 min: nats-server's own default.
    Later,
}

impl Launch {
    /// The command that starts it. `setpriv` asks the kernel for the signal and then becomes the program, so the process
    /// id is the program's.
    pub(crate) fn command(&self) -> Command {
        let mut command = match self.lifetime {
            Lifetime::Owner => {
                let mut command = Command::new("setpriv");
                command
                    .args(["--pdeathsig", "KILL", "--"])
                    .arg(&self.program);
                command
            }
            Lifetime::Detached => {
                let mut command = Command::new(&self.program);
                command.process_group(0);
                command
            }
        };
        command
            .args(&self.arguments)
            .envs(self.environment.iter().cloned());
        command
    }
}
