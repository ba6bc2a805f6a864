//! Runs one command: from its specification to its typed end.
//!
//! Two threads serve it: one moves its output to the host, as fast as the host takes it; the other waits for whatever comes
//! first — its end, its timeout, the host's wish, the host's hang-up.
//!
//! ```text
//! running ──exits──▶ ended
//!    │ timeout, or the host's Terminate: SIGTERM to the tree
//!    ▼
//! ending ──exits, or the grace is over: SIGKILL to the tree──▶ ended
//! ```
//!
//! What always holds: at the end the whole tree is killed before anything is reported, so no grandchild keeps the output
//! open, and nothing of one command is there when the next starts.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::{Gid, Uid};
use wire::frame::MAX_DATA;
use wire::{Ended, ExecSpec, Lane, Termination, ToGuest, User};

use crate::cgroup::Cgroup;
use crate::operations::Failure;
use crate::reaper::Reaper;
use crate::session::{Channel, Event, Half, spawn};

/// Longest time limit the clock can add; a longer one is none.
const FOREVER: Duration = Duration::from_hours(24 * 366);

/// Runs `spec` to its end.
pub(crate) fn exec(
    channel: &mut Channel,
    spec: &ExecSpec,
    reaper: &Reaper,
) -> Result<Ended, Failure> {
    let half = channel.half();
    let group = Cgroup::create(&format!("command-{}", half.id()))
        .map_err(Failure::doing("create a cgroup for the command"))?;
    let mut child = match start(spec, &group, reaper, &half) {
        Ok(child) => child,
        Err(problem) => return Ok(ended(Termination::NotStarted { problem }, &group)),
    };
    let pump = Pump::start(&mut child, &half);
    let (asked, status) = wait(channel, spec, &group);
    group
        .kill()
        .map_err(Failure::doing("kill what the command left"))?;
    pump.finish();
    Ok(ended(termination(asked, status, &group), &group))
}

/// Starts the program, or says in a sentence why not.
fn start(spec: &ExecSpec, group: &Cgroup, reaper: &Reaper, half: &Half) -> Result<Child, String> {
    let (program, mut command) = command(spec)?;
    if !Path::new(&spec.cwd).is_dir() {
        return Err(format!("the working directory {} is not there", spec.cwd));
    }
    let door = group
        .door()
        .map_err(|error| format!("open the command's cgroup: {error}"))?;
    command
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&spec.cwd)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let user = spec.user;
    // SAFETY: between fork and exec only system calls are made; nothing allocates or takes a lock.
    #[expect(unsafe_code, reason = "what a child does before its program starts")]
    unsafe {
        command.pre_exec(move || become_the_command(&door, user));
    }
    reaper
        .spawn(&mut command, half.events())
        .map_err(|error| format!("start {program}: {error}"))
}

fn command(spec: &ExecSpec) -> Result<(String, Command), String> {
    match &spec.command {
        wire::Command::Argv(words) => {
            let (program, arguments) = words.split_first().ok_or("no program was named")?;
            let mut command = Command::new(program);
            command.args(arguments);
            Ok((program.clone(), command))
        }
        wire::Command::Shell(script) => {
            let mut command = Command::new("/bin/sh");
            command.args(["-e", "-c", script]);
            Ok(("/bin/sh".into(), command))
        }
    }
}

/// Runs in the child: into its cgroup, a session of its own, the user, the umask.
fn become_the_command(mut door: &File, user: User) -> std::io::Result<()> {
    door.write_all(b"0")?;
    nix::unistd::setsid()?;
    nix::unistd::setgroups(&[])?;
    nix::unistd::setgid(Gid::from_raw(user.gid))?;
    nix::unistd::setuid(Uid::from_raw(user.uid))?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    Ok(())
}

/// Why a command was told to end.
#[derive(Clone, Copy)]
enum Asked {
    Timeout,
    Host,
}

/// Waits for the end of the main process, and brings it about when that is asked for.
fn wait(
    channel: &mut Channel,
    spec: &ExecSpec,
    group: &Cgroup,
) -> (Option<Asked>, Option<WaitStatus>) {
    let mut asked = None;
    let mut deadline = Instant::now() + spec.timeout.min(FOREVER);
    loop {
        let (why, grace) =
            match channel.next_within(deadline.saturating_duration_since(Instant::now())) {
                Some(Event::Exited(status)) => return (asked, Some(status)),
                Some(Event::Message(ToGuest::Terminate { grace })) => (Asked::Host, grace),
                Some(Event::Gone) => return (Some(Asked::Host), None),
                None if asked.is_none() => (Asked::Timeout, spec.kill_grace),
                None => return (asked, None),
                // Nothing else has a meaning for a command; closing only says that no wish will follow.
                Some(
                    Event::Message(ToGuest::Entry(_) | ToGuest::Finish)
                    | Event::Data(_)
                    | Event::Closed
                    | Event::SaidAll,
                ) => continue,
            };
        asked = asked.or(Some(why));
        group.signal(Signal::SIGTERM);
        deadline = Instant::now() + grace.min(FOREVER);
    }
}

fn termination(asked: Option<Asked>, status: Option<WaitStatus>, group: &Cgroup) -> Termination {
    match (asked, status) {
        (Some(Asked::Timeout), _) => Termination::TimedOut,
        (Some(Asked::Host), _) | (None, None) => Termination::Terminated,
        (None, Some(WaitStatus::Exited(_, code))) => Termination::Exited { code },
        (None, Some(WaitStatus::Signaled(_, Signal::SIGKILL, _))) if group.out_of_memory() => {
            Termination::OutOfMemory
        }
        (None, Some(WaitStatus::Signaled(_, signal, _))) => Termination::Signalled {
            signal: signal as i32,
        },
        (None, Some(status)) => Termination::NotStarted {
            problem: format!("it ended as {status:?}"),
        },
    }
}

fn ended(termination: Termination, group: &Cgroup) -> Ended {
    let disk_free_bytes = nix::sys::statvfs::statvfs("/")
        .map_or(0, |root| root.blocks_available() * root.fragment_size());
    Ended {
        termination,
        usage: group.usage(),
        disk_free_bytes,
    }
}

/// The thread that moves a command's output to the host.
struct Pump {
    done: Option<std::sync::mpsc::Receiver<()>>,
}

impl Pump {
    fn start(child: &mut Child, half: &Arc<Half>) -> Self {
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Self { done: None };
        };
        let lanes = [
            (Lane::Out, OwnedFd::from(stdout)),
            (Lane::Err, OwnedFd::from(stderr)),
        ];
        let (ending, done) = std::sync::mpsc::channel();
        let own = Arc::clone(half);
        spawn(half, move || {
            pump(lanes, &own);
            drop(ending);
        });
        Self { done: Some(done) }
    }

    /// Waits until all output is with the host. The tree is dead, so the pipes end where they are.
    fn finish(self) {
        if let Some(done) = self.done {
            // Nothing is ever sent: the answer is the sender's end.
            let _ = done.recv();
        }
    }
}

/// Moves bytes until both pipes have ended or the host takes no more.
fn pump(lanes: [(Lane, OwnedFd); 2], half: &Half) {
    let mut open: Vec<(Lane, File)> = lanes
        .into_iter()
        .map(|(lane, fd)| (lane, File::from(fd)))
        .collect();
    let mut buffer = vec![0; MAX_DATA];
    while !open.is_empty() {
        let ready: Vec<bool> = {
            let mut fds: Vec<_> = open
                .iter()
                .map(|(_, pipe)| PollFd::new(pipe.as_fd(), PollFlags::POLLIN))
                .collect();
            if poll(&mut fds, PollTimeout::NONE).is_err() {
                continue;
            }
            fds.iter().map(|fd| fd.any().unwrap_or(true)).collect()
        };
        let mut ready = ready.into_iter();
        open.retain_mut(|(lane, pipe)| {
            if !ready.next().unwrap_or(false) {
                return true;
            }
            match pipe.read(&mut buffer) {
                Ok(0) | Err(_) => false,
                Ok(count) => half.send_data(*lane, &buffer[..count]).is_ok(),
            }
        });
    }
}
