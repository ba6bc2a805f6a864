//! From a bare kernel to a system that commands can run in.
//!
//! ```text
//! initramfs: /init (this program), /modules/NN-name.ko
//!   mount proc, sys, dev ─▶ load the modules in the order of their names ─▶ wait for the root disk, mount it
//!   mount the usual pseudo file systems into it ─▶ make it the root ─▶ loopback up, limits, a cgroup for steps
//! ```
//!
//! What always holds: every failure ends in one sentence on the console that says what was being done.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::cgroup;

/// Where the root disk is mounted before it becomes the root.
const NEW_ROOT: &str = "/newroot";

/// The root disk: the first virtio block device.
const ROOT_DISK: &str = "/dev/vda";

/// Open files a process may have: what a large bundler or linker needs, far above the kernel's own 1,024.
const OPEN_FILES: u64 = 65_536;

/// One mount of the table.
struct Mount {
    source: &'static str,
    target: &'static str,
    kind: &'static str,
    flags: MsFlags,
    options: &'static str,
}

const NOSUID_NODEV: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);
const NOSUID_NODEV_NOEXEC: MsFlags = NOSUID_NODEV.union(MsFlags::MS_NOEXEC);

/// What a Debian userland expects to be mounted, parents first.
const PSEUDO_FILE_SYSTEMS: [Mount; 8] = [
    Mount::new("proc", "/proc", "proc", NOSUID_NODEV_NOEXEC, ""),
    Mount::new("sysfs", "/sys", "sysfs", NOSUID_NODEV_NOEXEC, ""),
    Mount::new(
        "devtmpfs",
        "/dev",
        "devtmpfs",
        MsFlags::MS_NOSUID,
        "mode=0755",
    ),
    Mount::new(
        "devpts",
        "/dev/pts",
        "devpts",
        MsFlags::MS_NOSUID,
        "gid=5,mode=0620,ptmxmode=0666",
    ),
    Mount::new("tmpfs", "/dev/shm", "tmpfs", NOSUID_NODEV, "mode=1777"),
    Mount::new("tmpfs", "/run", "tmpfs", NOSUID_NODEV, "mode=0755"),
    Mount::new("tmpfs", "/tmp", "tmpfs", NOSUID_NODEV, "mode=1777"),
    Mount::new("cgroup2", cgroup::ROOT, "cgroup2", NOSUID_NODEV_NOEXEC, ""),
];

impl Mount {
    const fn new(
        source: &'static str,
        target: &'static str,
        kind: &'static str,
        flags: MsFlags,
        options: &'static str,
    ) -> Self {
        Self {
            source,
            target,
            kind,
            flags,
            options,
        }
    }

    fn mount_below(&self, root: &str) -> io::Result<()> {
        let target = format!("{root}{}", self.target);
        fs::create_dir_all(&target).map_err(doing(&format!("create {target}")))?;
        mount(
            Some(self.source),
            target.as_str(),
            Some(self.kind),
            self.flags,
            Some(self.options),
        )
        .map_err(|error| doing(&format!("mount {} on {target}", self.kind))(error.into()))
    }
}

/// Runs the whole sequence.
pub(crate) fn make_a_system() -> io::Result<()> {
    for early in &PSEUDO_FILE_SYSTEMS[..3] {
        early.mount_below("")?;
    }
    speak_on_the_console()?;
    load_modules(Path::new("/modules"))?;
    wait_for_device(|name| Path::new(ROOT_DISK).ends_with(name))?;
    fs::create_dir_all(NEW_ROOT)?;
    mount(
        Some(ROOT_DISK),
        NEW_ROOT,
        Some("ext4"),
        MsFlags::MS_NOATIME,
        None::<&str>,
    )
    .map_err(|error| doing("mount the root disk")(error.into()))?;
    for table in &PSEUDO_FILE_SYSTEMS {
        table.mount_below(NEW_ROOT)?;
    }
    enter(NEW_ROOT)?;
    setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES)?;
    raise_loopback()?;
    cgroup::prepare()
}

/// For `map_err`: says what failed.
pub(crate) fn doing(what: &str) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Waits until `/dev` holds a device whose name `wanted` accepts, and gives its path. Devices appear some time after their
/// driver is loaded.
pub(crate) fn wait_for_device(wanted: impl Fn(&str) -> bool) -> io::Result<std::path::PathBuf> {
    let changes = Inotify::init(InitFlags::IN_CLOEXEC)?;
    changes.add_watch(
        "/dev",
        AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO,
    )?;
    loop {
        for entry in fs::read_dir("/dev")? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(&wanted) {
                return Ok(entry.path());
            }
        }
        // Watched before it was looked: a device that came in between is an event already.
        changes.read_events()?;
    }
}

/// The kernel gives the init of an initramfs no console when there is no device node for it.
fn speak_on_the_console() -> io::Result<()> {
    let console = File::options()
        .read(true)
        .write(true)
        .open("/dev/console")?;
    for standard in 0..=2 {
        // SAFETY: both descriptors are open or free; nothing else owns 0 to 2 in this process.
        #[expect(unsafe_code, reason = "dup2 onto the standard descriptors")]
        let copied = unsafe { libc::dup2(console.as_raw_fd(), standard) };
        if copied < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn load_modules(folder: &Path) -> io::Result<()> {
    let mut paths: Vec<_> = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    for path in paths {
        let what = format!("load {}", path.display());
        let module = File::open(&path).map_err(doing(&what))?;
        let none = CString::default();
        nix::kmod::finit_module(&module, &none, nix::kmod::ModuleInitFlags::empty())
            .map_err(|error| doing(&what)(error.into()))?;
    }
    Ok(())
}

/// Makes `root` the root of this process and of all that it starts. An initramfs cannot be pivoted away from: the new root
/// is moved over it.
fn enter(root: &str) -> io::Result<()> {
    std::env::set_current_dir(root)?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .map_err(|error| doing("move the root disk to /")(error.into()))?;
    nix::unistd::chroot(".")?;
    std::env::set_current_dir("/")
}

/// Brings `lo` up: it is the only network a guest has.
fn raise_loopback() -> io::Result<()> {
    let (family, kind) = (AddressFamily::Inet, SockType::Datagram);
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    let up = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).expect("0x41 fits");
    // SAFETY: `ifreq` is plain data for which all zeroes is a value; the kernel reads name and flags from it.
    #[expect(unsafe_code, reason = "SIOCSIFFLAGS has no wrapper")]
    let raised = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_flags = up;
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
    };
    if raised < 0 {
        Err(doing("bring lo up")(io::Error::last_os_error()))
    } else {
        Ok(())
    }
}
