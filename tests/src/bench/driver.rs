//! Forks and cold boots without anything around them: the driver, and one command.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use drivers::{Qemu, QemuConfig, initramfs, sparse};
use vm::{BootSpec, Driver, ExecEvent, Identity, Machine, Slot, SnapshotFiles, Vm};
use wire::{Command, ExecSpec, Lane, User};

/// 10 s between the request to switch off and the kill.
const STOP_GRACE: Duration = Duration::from_secs(10);

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

    async fn snapshot(&self) -> Result<SnapshotFiles> {
        let into = self.scratch.path().join("snapshot");
        std::fs::create_dir(&into).context("make a directory for the snapshot")?;
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

/// Runs `echo` as a step runs, and says when its first byte was there.
async fn first_byte(vm: &(impl Vm + ?Sized), start: Instant) -> Result<Duration> {
    let spec = ExecSpec {
        command: Command::Argv(vec!["echo".to_owned(), "hello".to_owned()]),
        env: vec![("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())],
        cwd: "/".to_owned(),
        user: User::BUILD,
        timeout: Duration::from_mins(1),
        kill_grace: Duration::from_secs(1),
    };
    let mut echo = vm.agent().exec(&spec).context("run echo")?;
    let mut first = None;
    loop {
        match echo.next().await.context("run echo")? {
            ExecEvent::Output(Lane::Out, _) => first = first.or(Some(start.elapsed())),
            ExecEvent::Output(Lane::Err, bytes) => {
                bail!("echo: {}", String::from_utf8_lossy(&bytes))
            }
            ExecEvent::Ended(_) => return first.context("echo wrote nothing"),
        }
    }
}
