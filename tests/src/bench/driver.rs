//! Forks and cold boots without anything around them: the driver, and one command.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use drivers::{Qemu, QemuConfig, initramfs, sparse};
use vm::{BakeVm, BootSpec, Driver, ExecEvent, Identity, Machine, Slot, SnapshotFiles, Vm};
use wire::{Command, Ended, ExecSpec, Lane, Termination, User};

/// 10 s between the request to switch off and the kill.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// What is installed in a measured bake: files by the hundred, and a look at each.
const SETUP: [&str; 2] = [
    "mkdir installed && cp -R /usr/share/perl* /usr/lib/x86_64-linux-gnu/perl-base installed/",
    "find installed -type f -exec sha256sum {} + | sort > lock",
];

/// What is measured, and where.
pub(super) struct Bench {
    qemu: Qemu,
    parts: PathBuf,
    scratch: tempfile::TempDir,
    machine: Machine,
}

impl Bench {
    /// A bench on the parts of a guest, with scratch files below `directory`.
    pub(super) fn new(parts: &Path, directory: &Path, machine: Machine) -> Result<Self> {
        let scratch = tempfile::tempdir_in(directory).context("make a directory")?;
        let qemu = Qemu::new(QemuConfig::default()).context("find QEMU")?;
        let initrd = scratch.path().join("initramfs");
        initramfs::write(
            &parts.join("sourdough-agent"),
            &parts.join("modules"),
            &initrd,
        )
        .context("write the initramfs")?;
        Ok(Self {
            qemu,
            parts: parts.to_owned(),
            scratch,
            machine,
        })
    }

    /// From power on to the first byte of an `echo`, `runs` times.
    pub(super) async fn cold_boots(&self, runs: usize) -> Result<Vec<Duration>> {
        let mut measured = Vec::new();
        for _ in 0..runs {
            let spec = self.boot_spec()?;
            let start = Instant::now();
            let vm = self.qemu.boot(spec, self.slot()?).await.context("boot")?;
            measured.push(first_byte(&*vm, start).await?);
            vm.stop(STOP_GRACE).await;
        }
        Ok(measured)
    }

    /// From the call to the first byte of an `echo`, `runs` times from one snapshot.
    pub(super) async fn forks(&self, runs: usize) -> Result<Vec<Duration>> {
        let snapshot = self.snapshot().await?;
        let mut measured = Vec::new();
        for _ in 0..runs {
            let start = Instant::now();
            let identity = Identity::fresh("sourdough");
            let vm = self
                .qemu
                .fork(&snapshot, self.slot()?, &identity)
                .await
                .context("fork")?;
            measured.push(first_byte(&*vm, start).await?);
            vm.stop(STOP_GRACE).await;
        }
        Ok(measured)
    }

    /// Bakes of the same steps, from a snapshot and from power on, in turns, `runs` times each. The snapshot's are first.
    pub(super) async fn bakes(&self, runs: usize) -> Result<[Vec<Duration>; 2]> {
        let template = self.snapshot().await?;
        let mut measured = [Vec::new(), Vec::new()];
        for _ in 0..runs {
            let start = Instant::now();
            let identity = Identity::fresh("sourdough");
            let slot = self.slot()?;
            let vm = self.qemu.derive(&template, slot, &identity).await;
            measured[0].push(self.baked(vm.context("derive")?, start).await?);
            let start = Instant::now();
            let vm = self.qemu.boot(self.boot_spec()?, self.slot()?).await;
            measured[1].push(self.baked(vm.context("boot")?, start).await?);
        }
        Ok(measured)
    }

    /// Sets a guest up and freezes it; says what all of it took.
    async fn baked(&self, vm: Box<dyn BakeVm>, start: Instant) -> Result<Duration> {
        for script in SETUP {
            setup_step(&*vm, script).await?;
        }
        let into = tempfile::tempdir_in(self.scratch.path()).context("make a directory")?;
        vm.snapshot(into.path()).await.context("freeze")?;
        Ok(start.elapsed())
    }

    async fn snapshot(&self) -> Result<SnapshotFiles> {
        let into = tempfile::tempdir_in(self.scratch.path());
        // It goes with the rest.
        let into = into.context("make a directory for the snapshot")?.keep();
        let vm = self
            .qemu
            .boot(self.boot_spec()?, self.slot()?)
            .await
            .context("boot")?;
        vm.snapshot(&into).await.context("freeze")
    }

    /// A guest about to be booted, with a disk of its own.
    fn boot_spec(&self) -> Result<BootSpec> {
        let disk = self.scratch.path().join("disk");
        sparse::copy(&self.parts.join("root.ext4"), &disk).context("copy the root disk")?;
        Ok(BootSpec {
            kernel: self.parts.join("kernel"),
            initrd: self.scratch.path().join("initramfs"),
            disk,
            machine: self.machine,
        })
    }

    fn slot(&self) -> Result<Slot> {
        Slot::create(&self.scratch.path().join("slots")).context("make a slot")
    }
}

/// Runs a script that must succeed, as a setup step runs.
async fn setup_step(vm: &(impl Vm + ?Sized), script: &str) -> Result<()> {
    let command = Command::Argv(["/bin/sh", "-ec", script].map(str::to_owned).into());
    let mut step = vm.agent().exec(&spec(command)).context("run a setup")?;
    loop {
        match step.next().await.context("run a setup")? {
            ExecEvent::Output(Lane::Out, _) => {}
            ExecEvent::Output(Lane::Err, bytes) => {
                bail!("setup: {}", String::from_utf8_lossy(&bytes))
            }
            ExecEvent::Ended(ended) => return succeeded("setup", &ended),
        }
    }
}

/// Runs `echo` as a step runs, and says when its first byte was there.
async fn first_byte(vm: &(impl Vm + ?Sized), start: Instant) -> Result<Duration> {
    let command = Command::Argv(vec!["echo".to_owned(), "hello".to_owned()]);
    let mut echo = vm.agent().exec(&spec(command)).context("run echo")?;
    let mut first = None;
    loop {
        match echo.next().await.context("run echo")? {
            ExecEvent::Output(Lane::Out, _) => first = first.or(Some(start.elapsed())),
            ExecEvent::Output(Lane::Err, bytes) => {
                bail!("echo: {}", String::from_utf8_lossy(&bytes))
            }
            ExecEvent::Ended(ended) => {
                succeeded("echo", &ended)?;
                return first.context("echo wrote nothing");
            }
        }
    }
}

/// Whether a command exited with 0: what failed was over sooner, and measures nothing.
fn succeeded(what: &str, ended: &Ended) -> Result<()> {
    let success = Termination::Exited { code: 0 };
    ensure!(
        ended.termination == success,
        "{what}: {:?}",
        ended.termination
    );
    Ok(())
}

fn spec(command: Command) -> ExecSpec {
    ExecSpec {
        command,
        env: vec![("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())],
        cwd: "/tmp".to_owned(),
        user: User::BUILD,
        timeout: Duration::from_mins(5),
        kill_grace: Duration::from_secs(1),
    }
}
