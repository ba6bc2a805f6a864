//! Runs one command as a process of the host, in a process group of its own.
//!
//! ```text
//! running ──exits──▶ ended
//!    │ timeout, or the host's Terminate: SIGTERM to the group
//!    ▼
//! ending ──exits, or the grace is over: SIGKILL to the group──▶ ended
//! ```
//!
//! What always holds: the group is dead and its output with the host before the end is reported.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{AccessFlags, access};
use tokio::net::unix::pipe;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire::frame::MAX_DATA;
use wire::{Command, Ended, ExecSpec, Lane, Termination, ToGuest, Usage};

use super::guest::{Guest, is_plain_directory};
use super::processes::{Group, Waiter};
use super::server::Failure;
use super::session::{Channel, Gone, Incoming, Sender};

/// Runs `spec` to its end. Its usage is not measured.
pub(super) async fn run(
    channel: &mut Channel,
    spec: &ExecSpec,
    guest: &Guest,
) -> Result<Ended, Failure> {
    let termination = if does_nothing(&spec.command) {
        Termination::Exited { code: 0 }
    } else {
        match start(spec, guest) {
            Ok(running) => running.finish(channel, spec, guest).await?,
            Err(problem) => Termination::NotStarted { problem },
        }
    };
    let disk_free_bytes = nix::sys::statvfs::statvfs(guest.root())
        .map_or(0, |disk| disk.blocks_available() * disk.fragment_size());
    Ok(Ended {
        termination,
        usage: Usage::default(),
        disk_free_bytes,
    })
}

/// `true` alone is built in, as it is in a shell: what is around commands can be measured without the making of processes.
fn does_nothing(command: &Command) -> bool {
    match command {
        Command::Argv(words) => words == &["true"],
        Command::Shell(_) => false,
    }
}

/// A command that has been started.
struct Running {
    group: Group,
    waiter: Waiter,
    stdout: Pipe,
    stderr: Pipe,
}

impl Running {
    async fn finish(
        self,
        channel: &mut Channel,
        spec: &ExecSpec,
        guest: &Guest,
    ) -> Result<Termination, Gone> {
        let sender = channel.sender();
        let over = CancellationToken::new();
        let end = async {
            let _over = over.clone().drop_guard();
            supervise(channel, spec, &self.group, self.waiter).await
        };
        let (termination, stdout, stderr) = tokio::join!(
            end,
            self.stdout.pump(Lane::Out, &sender, guest, &over),
            self.stderr.pump(Lane::Err, &sender, guest, &over),
        );
        stdout.and(stderr).and(termination)
    }
}

/// Starts the program, or says in a sentence why not.
fn start(spec: &ExecSpec, guest: &Guest) -> Result<Running, String> {
    let words = words(&spec.command);
    let name = words.first().ok_or("no program was named")?;
    let cwd = guest.locate(&spec.cwd)?;
    if !is_plain_directory(guest.root(), &cwd) {
        return Err(format!("the working directory {} is not there", spec.cwd));
    }
    let explain = |error: io::Error| format!("start {name}: {error}");
    let program = find(name, spec, &cwd, guest).ok_or_else(|| {
        let missing = io::Error::from_raw_os_error(nix::errno::Errno::ENOENT as i32);
        explain(missing)
    })?;
    let mut command = std::process::Command::new(program);
    command
        .arg0(name)
        .args(&words[1..])
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .current_dir(cwd)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // SAFETY: between fork and exec only system calls are made; nothing allocates or takes a lock.
    #[expect(unsafe_code, reason = "both are the process's own, not std's")]
    unsafe {
        command.pre_exec(|| {
            nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
            // The signal comes when the thread ends that is starting it: one of the runtime's, which stay.
            Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?)
        });
    }
    let (mut child, group) = guest.processes().spawn(&mut command).map_err(explain)?;
    let stdout = child.stdout.take().expect("stdout was made a pipe");
    let stderr = child.stderr.take().expect("stderr was made a pipe");
    Ok(Running {
        waiter: group.waiter(child),
        group,
        stdout: Pipe::new(stdout.into()).map_err(explain)?,
        stderr: Pipe::new(stderr.into()).map_err(explain)?,
    })
}

fn words(command: &Command) -> Vec<String> {
    match command {
        Command::Argv(words) => words.clone(),
        Command::Shell(script) => ["/bin/sh", "-e", "-c", script].map(Into::into).into(),
    }
}

/// Looks for a program: a path as it is, a name in the directories of the command's own `PATH`. What the guest's tree has
/// comes before what the host has.
fn find(name: &str, spec: &ExecSpec, cwd: &Path, guest: &Guest) -> Option<PathBuf> {
    let places = |path: &str| [guest.locate(path).ok(), Some(PathBuf::from(path))];
    let candidates: Vec<PathBuf> = if name.starts_with('/') {
        places(name).into_iter().flatten().collect()
    } else if name.contains('/') {
        vec![cwd.join(name)]
    } else {
        let path = spec.env.iter().find(|(name, _)| name == "PATH");
        path.map_or("", |(_, value)| value)
            .split(':')
            .filter(|directory| directory.starts_with('/'))
            .flat_map(places)
            .flatten()
            .map(|directory| directory.join(name))
            .collect()
    };
    candidates
        .into_iter()
        .find(|path| path.is_file() && access(path, AccessFlags::X_OK).is_ok())
}

/// Why a command was told to end.
#[derive(Clone, Copy)]
enum Asked {
    Timeout,
    Host,
}

/// Waits for the end of the main process, and brings it about when that is asked for.
async fn supervise(
    channel: &mut Channel,
    spec: &ExecSpec,
    group: &Group,
    waiter: Waiter,
) -> Result<Termination, Gone> {
    let mut main = tokio::task::spawn_blocking(move || waiter.wait());
    let mut asked = None;
    let mut deadline = after(spec.timeout);
    loop {
        let (why, grace) = tokio::select! {
            status = &mut main => {
                let status = status.expect("waiting reports no errors and does not panic");
                return Ok(termination(asked, status));
            }
            () = until(deadline) => match asked {
                None => (Asked::Timeout, spec.kill_grace),
                Some(_) => {
                    group.signal(Signal::SIGKILL);
                    deadline = None;
                    continue;
                }
            },
            heard = channel.receive() => match heard? {
                Incoming::Message(ToGuest::Terminate { grace }) => (Asked::Host, grace),
                // Nothing else has a meaning for a command; closing only says that no wish will follow.
                Incoming::Message(ToGuest::Entry(_) | ToGuest::Finish)
                | Incoming::Data(_)
                | Incoming::Closed => continue,
            },
        };
        asked = asked.or(Some(why));
        deadline = after(grace);
        group.signal(Signal::SIGTERM);
    }
}

fn termination(asked: Option<Asked>, status: ExitStatus) -> Termination {
    match (asked, status.signal()) {
        (Some(Asked::Timeout), _) => Termination::TimedOut,
        (Some(Asked::Host), _) => Termination::Terminated,
        (None, Some(signal)) => Termination::Signalled { signal },
        (None, None) => Termination::Exited {
            code: status.code().expect("what no signal ended has exited"),
        },
    }
}

/// The moment `duration` from now; `None` where the clock cannot tell it, which is never.
fn after(duration: Duration) -> Option<Instant> {
    Instant::now().checked_add(duration)
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// One of a command's output pipes.
struct Pipe {
    reader: pipe::Receiver,
}

impl Pipe {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        let reader = pipe::Receiver::from_owned_fd(fd)?;
        Ok(Self { reader })
    }

    /// Moves bytes to the host until the pipe ends, or, once the command is over, is empty: a process that has escaped may
    /// keep it open.
    async fn pump(
        self,
        lane: Lane,
        sender: &Sender,
        guest: &Guest,
        over: &CancellationToken,
    ) -> Result<(), Gone> {
        let mut buffer = vec![0; MAX_DATA];
        loop {
            let read = tokio::select! {
                read = self.read(&mut buffer) => read,
                () = over.cancelled() => None,
            };
            // What the reactor has not noticed yet is there all the same.
            let read = read.or_else(|| nix::unistd::read(&self.reader, &mut buffer).ok());
            match read {
                Some(0) | None => return Ok(()),
                Some(count) => sender.send_data(lane, &buffer[..count]).await?,
            }
            guest.has_spoken();
        }
    }

    /// The next bytes; `None` after an error.
    async fn read(&self, buffer: &mut [u8]) -> Option<usize> {
        loop {
            self.reader.readable().await.ok()?;
            match self.reader.try_read(buffer) {
                Ok(count) => return Some(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    }
}
