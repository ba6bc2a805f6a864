//! One QEMU process: started in its jail, spoken to through QMP, and never outliving its value.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use jail::Jail;
use serde_json::json;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::runtime::Handle;
use tokio::time::timeout;
use vm::{Exit, KillSwitch, Slot, VmError};

use super::QemuConfig;
use super::command::{DISK, Disk, MEMORY, Memory, Prepared, Sockets, Start};
use super::qmp::Qmp;
use super::tail::Tail;
use super::victim::Victim;

/// Time in which QEMU ends by itself once it has been told to, or once its guest is gone.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A running QEMU; killed when dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    victim: Arc<Victim>,
    kill_switch: KillSwitch,
    qmp: Qmp,
    messages: Tail,
    console: Tail,
    negotiated: bool,
    state_in: Option<i32>,
    /// Held for its user.
    _jail: Jail,
}

impl Process {
    /// Starts QEMU with its guest paused, and gives our end of the agent's stream.
    pub(super) fn start(
        config: &QemuConfig,
        start: &Start,
        slot: &Slot,
    ) -> Result<(Self, UnixStream), VmError> {
        let (qmp, qmp_there) = pair()?;
        let (agent, agent_there) = pair()?;
        let (console, console_there) = pair()?;
        let sockets = Sockets {
            qmp: qmp_there,
            agent: agent_there,
            console: console_there,
        };
        let Prepared {
            mut command,
            inherited,
            state_in,
        } = Prepared::new(config, start, slot, sockets)?;
        let jail = Jail::strictest().map_err(VmError::io("take a user for", slot.dir()))?;
        give_slot_to(jail.user(), start, slot)?;
        jail.confine(&mut command, inherited);
        let failed = |source| VmError::Start {
            program: config.program.clone(),
            source,
        };
        let mut child = spawn(command).map_err(failed)?;
        let stderr = child.stderr.take().expect("it was asked for when it began");
        let victim = Victim::of(&child).map_err(failed)?;
        let disk_failed = disk_failed(&victim, slot);
        let process = Self {
            child,
            kill_switch: victim.kill_switch(),
            victim,
            qmp: Qmp::new(qmp, disk_failed),
            messages: Tail::of(stderr),
            console: Tail::of(console),
            negotiated: false,
            state_in,
            _jail: jail,
        };
        Ok((process, agent))
    }

    /// What kills it from anywhere.
    pub(super) fn kill_switch(&self) -> KillSwitch {
        self.kill_switch.clone()
    }

    async fn negotiate(&mut self) -> Result<(), VmError> {
        if !self.negotiated {
            self.qmp.negotiate().await?;
            self.negotiated = true;
        }
        Ok(())
    }

    /// Lets the guest run.
    pub(super) async fn resume(&mut self) -> Result<(), VmError> {
        self.negotiate().await?;
        self.qmp.execute("cont", json!({})).await.map(drop)
    }

    /// Loads the device state that the process was started with, and lets the guest run.
    pub(super) async fn load_state(&mut self) -> Result<(), VmError> {
        self.negotiate().await?;
        let state = self
            .state_in
            .expect("only a guest started with a state is resumed from it");
        self.qmp
            .execute("migrate-incoming", json!({"uri": format!("fd:{state}")}))
            .await?;
        self.qmp.migrated().await?;
        self.qmp.execute("cont", json!({})).await.map(drop)
    }

    /// Stops the guest and writes its device state to the new file `path`.
    pub(super) async fn save_state(&mut self, path: &Path) -> Result<(), VmError> {
        let state = std::fs::File::create_new(path).map_err(VmError::io("create", path))?;
        self.qmp.execute("stop", json!({})).await?;
        self.qmp.give("state", &state).await?;
        self.qmp
            .execute("migrate", json!({"uri": "fd:state"}))
            .await?;
        self.qmp.migrated().await
    }

    /// Ends the process in order, so that all it wrote is written.
    pub(super) async fn quit(&mut self) -> Result<(), VmError> {
        self.qmp.execute("quit", json!({})).await?;
        match self.wait(LAST_WORDS).await {
            Exit::PoweredOff => Ok(()),
            Exit::Killed => Err(failed("quit", "it did not end")),
            Exit::VmmFailed(problem) => Err(failed("quit", &problem)),
        }
    }

    /// Waits for the end, kills after `grace`, and says how it ended. The process is gone then, so that its slot may go.
    pub(super) async fn wait(&mut self, grace: Duration) -> Exit {
        let exit = match timeout(grace, self.child.wait()).await {
            Ok(Ok(status)) => self.exit_of(status).await,
            Ok(Err(error)) => Exit::VmmFailed(error.to_string()),
            Err(_) => match self.child.kill().await {
                Ok(()) => Exit::Killed,
                Err(error) => Exit::VmmFailed(error.to_string()),
            },
        };
        // Whatever else is seen of its end follows from that.
        let broken = self.victim.broken().map(str::to_owned);
        broken.map_or(exit, Exit::VmmFailed)
    }

    async fn exit_of(&mut self, status: ExitStatus) -> Exit {
        if status.success() {
            Exit::PoweredOff
        } else if self.was_killed(status) {
            Exit::Killed
        } else {
            let words = self.messages.whole().await;
            Exit::VmmFailed(format!("QEMU ended with {status}: {words}"))
        }
    }

    /// Whether it was the switch that ended it, and not the kernel or somebody else of this host.
    fn was_killed(&self, status: ExitStatus) -> bool {
        status.signal() == Some(libc::SIGKILL) && self.kill_switch.is_pulled()
    }

    /// A guest that did not answer in time: with what its console says.
    pub(super) fn silent(&self, doing: &str, limit: Duration) -> VmError {
        VmError::Silent {
            doing: doing.into(),
            limit,
            console: self.console.text(),
        }
    }

    /// Puts the last words of QEMU and of the guest to an error, if QEMU has ended.
    pub(super) async fn explain(&mut self, error: VmError) -> VmError {
        let Ok(Ok(status)) = timeout(LAST_WORDS, self.child.wait()).await else {
            return error;
        };
        if let Some(broken) = self.victim.broken() {
            return failed(&error.to_string(), broken);
        }
        let (words, console) = (self.messages.whole().await, self.console.whole().await);
        let problem = format!(
            "QEMU ended with {status}, saying {words:?}; the guest's console ends with {console:?}"
        );
        failed(&error.to_string(), &problem)
    }
}

/// Starts a program that is killed when it is dropped. Its parent is the launcher's thread, which lives as long as this process.
fn spawn(mut command: Command) -> io::Result<Child> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    let runtime = Handle::current();
    jail::launcher::run(move || {
        let _entered = runtime.enter();
        command.spawn()
    })
}

/// What is done when QEMU cannot write or read its disk. It has stopped the guest, which must not go on: it could only take what this
/// host lacks for a fault of its own, or not notice it until it reads back what was never written.
fn disk_failed(victim: &Arc<Victim>, slot: &Slot) -> impl Fn(&str) + Send + 'static {
    let (victim, slot) = (Arc::clone(victim), slot.dir().to_owned());
    move |problem| victim.give_up(format!("the disk in {}: {problem}", slot.display()))
}

fn failed(doing: &str, problem: &str) -> VmError {
    VmError::Vmm {
        doing: doing.into(),
        problem: problem.into(),
    }
}

/// A connected pair of sockets: ours, and one to pass on.
fn pair() -> Result<(UnixStream, OwnedFd), VmError> {
    let make = || -> io::Result<_> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok((UnixStream::from_std(ours)?, theirs.into()))
    };
    make().map_err(VmError::io("create", "a pair of sockets".as_ref()))
}

/// Gives the jail's user what it needs of the slot: a fork the directory, for its overlay; a bake no more than its two files,
/// so that it cannot put anything else in their place.
fn give_slot_to(user: Option<u32>, start: &Start, slot: &Slot) -> Result<(), VmError> {
    let (memory, disk) = (slot.path(MEMORY), slot.path(DISK));
    if let Memory::New = start.memory {
        std::fs::File::create_new(&memory).map_err(VmError::io("create", &memory))?;
    }
    if user.is_none() {
        return Ok(());
    }
    let give = |path: &Path| {
        std::os::unix::fs::chown(path, user, user).map_err(VmError::io("change the owner of", path))
    };
    match (&start.memory, &start.disk) {
        (Memory::Sealed(_), Disk::Overlay(_)) => give(slot.dir()),
        (Memory::New | Memory::Own, Disk::Own) => {
            let enter = std::fs::Permissions::from_mode(0o711);
            std::fs::set_permissions(slot.dir(), enter).map_err(VmError::io("open", slot.dir()))?;
            give(&memory)?;
            give(&disk)
        }
        (Memory::Sealed(_), Disk::Own) | (Memory::New | Memory::Own, Disk::Overlay(_)) => {
            unreachable!("memory and disk are both a bake's or both a fork's")
        }
    }
}

/// Takes a baked file back from the jail's user and write permission from everybody. The file itself, not what its name may
/// lead to.
pub(super) fn make_read_only(path: &Path) -> Result<(), VmError> {
    let file = std::fs::File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(VmError::io("open", path))?;
    if nix::unistd::Uid::effective().is_root() {
        std::os::unix::fs::fchown(&file, Some(0), Some(0))
            .map_err(VmError::io("take back", path))?;
    }
    let read_only = std::fs::Permissions::from_mode(0o444);
    file.set_permissions(read_only)
        .map_err(VmError::io("protect", path))
}
