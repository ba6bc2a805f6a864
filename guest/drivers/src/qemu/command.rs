//! The command line: from what a guest needs to QEMU's words.
//!
//! What always holds: no file is named that is not passed as a descriptor or does not lie in the slot.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use vm::{Machine, Slot, VmError};

use super::QemuConfig;

/// Kernel command line. `panic=-1` with a triple-fault reset and `-no-reboot` makes a dying guest end its VMM at once;
/// mitigations protect a guest's programs from each other, which is not what keeps builds apart here, and cost most under
/// emulation. That the kernel clears what it takes for itself (`init_on_alloc`, Debian's default) stays: without, pages that it uses
/// only in part keep what a program had in them, and a snapshot with them.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 reboot=t mitigations=off audit=0 apparmor=0 selinux=0 8250.nr_uarts=1";

/// What QEMU is forbidden: obsolete system calls, gaining privileges, starting processes, changing its own limits.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// All that the emulator knows, but for ERMS: with it the kernel clears and copies pages by `rep stosb` and `rep movsb`, which are
/// emulated byte by byte. Without, by words: to settle a guest with 0.9 GiB free took 2.6 s and not 9.7 s (QEMU 7.2, 2 cores, not idle).
pub(super) const EMULATED_CPU: &str = "max,erms=off";

/// Name of a bake's memory in its slot and in its snapshot.
pub(super) const MEMORY: &str = "memory";

/// Name of a bake's disk, likewise.
pub(super) const DISK: &str = "disk";

/// Everything that differs between starts.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) machine: Machine,
    pub(super) memory: Memory,
    pub(super) disk: Disk,
    /// Kernel and initramfs; a restored guest has no use for them.
    pub(super) boot: Option<(PathBuf, PathBuf)>,
    /// Device state to load.
    pub(super) state: Option<PathBuf>,
}

/// The guest's RAM.
#[derive(Debug)]
pub(super) enum Memory {
    /// The slot's file of that name, still to be made, shared with us.
    New,
    /// The slot's file of that name, shared with us.
    Own,
    /// A sealed file, mapped privately.
    Sealed(Arc<OwnedFd>),
}

/// The guest's root disk.
#[derive(Debug)]
pub(super) enum Disk {
    /// The slot's file of that name.
    Own,
    /// A file that is only read; what the guest writes goes to an unnamed file in the slot.
    Overlay(PathBuf),
}

/// The VMM's ends of the sockets that it shares with us.
#[derive(Debug)]
pub(super) struct Sockets {
    /// Its control protocol.
    pub(super) qmp: OwnedFd,
    /// The guest's virtio-serial port.
    pub(super) agent: OwnedFd,
    /// The guest's serial console.
    pub(super) console: OwnedFd,
}

/// A command line and the descriptors that it names by number.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) command: Command,
    pub(super) inherited: Vec<OwnedFd>,
    /// Number of the descriptor that the state to load is read from.
    pub(super) state_in: Option<RawFd>,
}

impl Prepared {
    /// Builds the command line.
    pub(super) fn new(
        config: &QemuConfig,
        start: &Start,
        slot: &Slot,
        sockets: Sockets,
    ) -> Result<Self, VmError> {
        let mut command = Command::new(&config.program);
        let mut prepared = Self {
            command: Command::new(""),
            inherited: Vec::new(),
            state_in: None,
        };
        let mut socket = |id: &str, fd: OwnedFd| format!("socket,id={id},fd={}", prepared.pass(fd));
        let qmp = socket("qmp", sockets.qmp);
        let agent = socket("agent", sockets.agent);
        let console = socket("console", sockets.console);
        let cpu = match config.accelerator.as_str() {
            "tcg" => EMULATED_CPU,
            _ => "host",
        };
        command
            .env_clear()
            // Its files are named from within the slot: the VMM's user cannot pass through every directory above it.
            .current_dir(slot.dir())
            // Where QEMU makes the unnamed overlay.
            .env("TMPDIR", ".")
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
                "-S",
            ])
            .args(["-sandbox", SANDBOX])
            .args([
                "-machine",
                "microvm,memory-backend=mem",
                "-accel",
                &config.accelerator,
                "-cpu",
                cpu,
            ])
            .args(["-smp", &start.machine.vcpu.to_string()])
            .args(["-m", &format!("{}M", start.machine.memory_mib)])
            .args(["-object", &prepared.memory(start)?])
            .args(["-chardev", &console])
            .args(["-serial", "chardev:console"])
            .args(["-chardev", &qmp, "-mon", "chardev=qmp,mode=control"])
            .args(["-global", "virtio-mmio.force-legacy=false"])
            .args(["-device", "virtio-serial-device"])
            .args(["-chardev", &agent])
            .args([
                "-device",
                "virtserialport,chardev=agent,name=sourdough.agent",
            ]);
        prepared.disk(&mut command, &start.disk)?;
        prepared.boot_or_restore(&mut command, config, start)?;
        prepared.command = command;
        Ok(prepared)
    }

    /// Passes a descriptor on and gives its number.
    fn pass(&mut self, fd: OwnedFd) -> RawFd {
        let number = fd.as_raw_fd();
        self.inherited.push(fd);
        number
    }

    fn memory(&mut self, start: &Start) -> Result<String, VmError> {
        let (path, share) = match &start.memory {
            Memory::New | Memory::Own => (MEMORY.to_owned(), "on"),
            Memory::Sealed(sealed) => {
                let sealed = sealed
                    .try_clone()
                    .map_err(VmError::io("share", "sealed memory".as_ref()))?;
                (format!("/proc/self/fd/{}", self.pass(sealed)), "off")
            }
        };
        let size = start.machine.memory_mib;
        Ok(format!(
            "memory-backend-file,id=mem,mem-path={path},size={size}M,share={share}"
        ))
    }

    fn disk(&mut self, command: &mut Command, disk: &Disk) -> Result<(), VmError> {
        // An error of the host's disk stops the guest, and QEMU says so: the process is then killed, and it was the VMM that failed. Reported to
        // the guest, it would be a build's failure, or be found out when what was never written is read.
        let common = "if=none,id=root,format=raw,werror=stop,rerror=stop,discard=unmap";
        let drive = match disk {
            Disk::Own => format!("{common},file={DISK}"),
            Disk::Overlay(path) => {
                let base = File::open(path).map_err(VmError::io("open", path))?;
                let number = self.pass(base.into());
                command.args(["-add-fd", &format!("fd={number},set=1")]);
                // The overlay dies with its VM: nothing in it need reach the disk.
                format!("{common},file=/dev/fdset/1,snapshot=on,cache=unsafe")
            }
        };
        command.args(["-drive", &drive, "-device", "virtio-blk-device,drive=root"]);
        Ok(())
    }

    fn boot_or_restore(
        &mut self,
        command: &mut Command,
        config: &QemuConfig,
        start: &Start,
    ) -> Result<(), VmError> {
        if let Some((kernel, initrd)) = &start.boot {
            let mut by_number = |path: &PathBuf| -> Result<String, VmError> {
                let file = File::open(path).map_err(VmError::io("open", path))?;
                Ok(format!("/proc/self/fd/{}", self.pass(file.into())))
            };
            let (kernel, initrd) = (by_number(kernel)?, by_number(initrd)?);
            command.args([
                "-kernel",
                &kernel,
                "-initrd",
                &initrd,
                "-append",
                &kernel_arguments(config),
            ]);
        }
        if let Some(state) = &start.state {
            let file = File::open(state).map_err(VmError::io("open", state))?;
            self.state_in = Some(self.pass(file.into()));
            command.args(["-incoming", "defer"]);
        }
        Ok(())
    }
}

fn kernel_arguments(config: &QemuConfig) -> String {
    match config.accelerator.as_str() {
        "tcg" => format!("{KERNEL_ARGUMENTS} tsc_early_khz={}", super::tsc::khz()),
        // A real processor, or its hypervisor, tells the kernel itself.
        _ => KERNEL_ARGUMENTS.into(),
    }
}
