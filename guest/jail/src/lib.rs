//! What confines a VMM process, and what ties its life to ours.
//!
//! | measure | as root | otherwise |
//! | --- | --- | --- |
//! | dies with the process that started it (parent-death signal, from a thread that lives as long as the process) | yes | yes |
//! | no new privileges, no core files | yes | yes |
//! | a user of its own, no groups | yes | no: it runs as the caller |
//! | an empty network, IPC and UTS namespace | yes | no |
//!
//! There is no mount namespace and no cgroup here: a VMM that was taken over sees the host's files as its user may, which is
//! why the worker keeps its own in a directory that only it may enter.
//!
//! An owner that dies, however it does, leaves none of this: the kernel kills the VMM, whose namespaces, sockets and memory nobody else
//! holds, and lets go of the lock on its user. What stays is the lock's file, empty and taken again by the next VM, and the directory that
//! the VMM ran in, which the owner of all those directories sweeps when it starts.
//!
//! What always holds: a measure that cannot be taken is an error of the start, never left out in silence; which measures
//! apply is [`Jail::describe`]d, so that a service can say it when it starts.

pub mod launcher;

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid};

/// First of the users that VMMs run as: above the ranges that Debian's adduser, subuid and systemd hand out
/// (systemd's UIDS-GIDS document ends at 1,879,048,191).
pub const FIRST_USER: u32 = 1_879_100_000;

/// How many users there are before the first is used again: more than VMs fit on any host.
pub const USERS: u32 = 4096;

/// Where the users that are taken are locked, so that no two processes of this host give out the same one.
const USERS_IN_USE: &str = "/run/sourdough/users";

/// How one VMM is confined. To be kept for as long as the VMM lives: its user is nobody else's until then.
#[derive(Debug)]
pub struct Jail {
    user: Option<OwnUser>,
}

/// A user that only one VMM of this host has.
#[derive(Debug)]
struct OwnUser {
    id: Uid,
    _taken: File,
}

impl OwnUser {
    /// Takes the first user that is free. The lock goes with the process that holds it, however it ends.
    fn take() -> io::Result<Self> {
        std::fs::create_dir_all(USERS_IN_USE)?;
        for id in FIRST_USER..FIRST_USER + USERS {
            let taken = File::create(Path::new(USERS_IN_USE).join(id.to_string()))?;
            match taken.try_lock() {
                Ok(()) => {
                    return Ok(Self {
                        id: Uid::from_raw(id),
                        _taken: taken,
                    });
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::Error::other(format!(
            "all {USERS} users for VMMs are in use"
        )))
    }
}

impl Jail {
    /// The strictest jail that this process can make.
    pub fn strictest() -> io::Result<Self> {
        let root = Uid::effective().is_root();
        Ok(Self {
            user: root.then(OwnUser::take).transpose()?,
        })
    }

    /// The user whose files the VMM may touch, where that is not the caller.
    pub fn user(&self) -> Option<u32> {
        self.user.as_ref().map(|user| user.id.as_raw())
    }

    /// Which measures apply, for a log line.
    pub fn describe() -> &'static str {
        if Uid::effective().is_root() {
            "own user, network, IPC and UTS namespaces, no new privileges"
        } else {
            "no new privileges; not root, so no user or namespaces of its own"
        }
    }

    /// Confines what `command` will start. Of all descriptors only `inherited` and the standard ones stay open in it, under
    /// their present numbers.
    pub fn confine(&self, command: &mut Command, inherited: Vec<OwnedFd>) {
        let parent = std::process::id();
        let user = self.user.as_ref().map(|user| user.id);
        // SAFETY: between fork and exec only system calls are made; nothing allocates or takes a lock.
        #[expect(unsafe_code, reason = "what a child does before its program starts")]
        unsafe {
            command.pre_exec(move || {
                for fd in &inherited {
                    keep_open(fd)?;
                }
                enter(user, parent)
            });
        }
    }
}

/// Runs in the child. The parent-death signal comes last: a change of user takes it away.
fn enter(user: Option<Uid>, parent: u32) -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    nix::unistd::setsid()?;
    if let Some(user) = user {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)?;
        nix::unistd::setgroups(&[])?;
        nix::unistd::setgid(Gid::from_raw(user.as_raw()))?;
        nix::unistd::setuid(user)?;
    }
    nix::sys::prctl::set_no_new_privs()?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if nix::unistd::getppid().as_raw().cast_unsigned() != parent {
        // The parent died before the signal was asked for.
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    Ok(())
}

/// Takes close-on-exec off a descriptor.
fn keep_open(fd: &OwnedFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    debug_assert!(fd.as_raw_fd() > 2);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::process::Stdio;

    fn status_of(jail: &Jail) -> String {
        let mut command = Command::new("cat");
        command.arg("/proc/self/status").stdout(Stdio::piped());
        jail.confine(&mut command, Vec::new());
        let mut child = launcher::run(move || command.spawn()).unwrap();
        let mut text = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert!(child.wait().unwrap().success());
        text
    }

    fn field<'t>(status: &'t str, name: &str) -> &'t str {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim_start_matches(':').trim()
    }

    #[test]
    fn a_jailed_process_gains_nothing_and_is_nobody_else() {
        let jail = Jail::strictest().unwrap();
        let status = status_of(&jail);
        assert_eq!(field(&status, "NoNewPrivs"), "1");
        let uid = field(&status, "Uid")
            .split_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let expected = jail.user().unwrap_or_else(|| Uid::current().as_raw());
        assert_eq!(Uid::from_raw(expected), Uid::from_raw(uid));
        if jail.user().is_some() {
            assert_eq!(field(&status, "CapEff"), "0000000000000000");
            assert_eq!(field(&status, "Groups"), "");
        }
    }

    #[test]
    fn two_jails_have_two_users() {
        let jails = [Jail::strictest().unwrap(), Jail::strictest().unwrap()];
        let users = jails.each_ref().map(Jail::user);
        assert!(users[0].is_none() || users[0] != users[1]);
    }

    #[test]
    fn a_jailed_process_dies_with_the_thread_that_started_it() {
        let mut command = Command::new("sleep");
        command.arg("1000");
        let jail = Jail::strictest().unwrap();
        jail.confine(&mut command, Vec::new());
        let starter = std::thread::spawn(move || command.spawn().unwrap());
        let mut child = starter.join().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(9)
        );
    }
}
