//! What the operations of a fake guest share: its tree, its processes, and how it ends.

use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use super::Trouble;
use super::processes::Processes;
use crate::driver::Exit;

/// One guest.
#[derive(Debug)]
pub(super) struct Guest {
    root: PathBuf,
    processes: Arc<Processes>,
    asleep: Mutex<bool>,
    trouble: Mutex<Option<Trouble>>,
    exit: watch::Sender<Option<Exit>>,
}

impl Guest {
    /// A guest whose tree is `root`; one that is asleep runs nothing before its thaw.
    pub(super) fn new(root: PathBuf, trouble: Option<Trouble>, asleep: bool) -> Self {
        Self {
            root,
            processes: Arc::default(),
            asleep: Mutex::new(asleep),
            trouble: Mutex::new(trouble),
            exit: watch::Sender::new(None),
        }
    }

    /// Its tree.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Its processes.
    pub(super) fn processes(&self) -> &Arc<Processes> {
        &self.processes
    }

    /// Whether it still waits for its thaw.
    pub(super) fn is_asleep(&self) -> bool {
        *lock(&self.asleep)
    }

    /// Wakes it.
    pub(super) fn wake(&self) {
        *lock(&self.asleep) = false;
    }

    /// What trouble it has, or is going to have.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        *lock(&self.trouble)
    }

    /// To be called when the host has some output of a command: the moment for scripted trouble.
    pub(super) fn has_spoken(&self) {
        let trouble = lock(&self.trouble).take();
        match trouble {
            Some(Trouble::GuestDies) => self.end(Exit::PoweredOff),
            Some(Trouble::VmmFails) => {
                self.end(Exit::VmmFailed("ended, as the test asked".into()));
            }
            // A start that failed has no guest.
            Some(Trouble::StartFails) | None => {}
            // These last.
            Some(Trouble::RandomRepeats | Trouble::ClockIsLate | Trouble::DiskDiffers) => {
                *lock(&self.trouble) = trouble;
            }
        }
    }

    /// Ends it; the first reason counts.
    pub(super) fn end(&self, exit: Exit) {
        self.exit.send_if_modified(|end| {
            let first = end.is_none();
            if first {
                *end = Some(exit);
            }
            first
        });
    }

    /// Kills it and all its processes, from any thread.
    pub(super) fn kill(&self) {
        self.end(Exit::Killed);
        self.processes.kill_all();
    }

    /// How it ended, if it has.
    pub(super) fn exit(&self) -> Option<Exit> {
        self.exit.borrow().clone()
    }

    /// Resolves when it has ended.
    pub(super) async fn ended(&self) {
        let mut exit = self.exit.subscribe();
        // The sender is a field of `self`, so it cannot be gone.
        drop(exit.wait_for(Option::is_some).await);
    }

    /// Where a directory of the guest is on the host. No symbolic link is followed.
    pub(super) fn locate(&self, directory: &str) -> Result<PathBuf, String> {
        let inner = directory
            .strip_prefix('/')
            .ok_or_else(|| format!("{directory:?} is not an absolute path"))?
            .trim_matches('/');
        if inner.is_empty() {
            return Ok(self.root.clone());
        }
        check(inner)?;
        Ok(self.root.join(inner))
    }
}

/// Refuses a path that is not plainly below a tree: absolute, empty, or with an empty, `.` or `..` part.
pub(super) fn check(path: &str) -> Result<(), String> {
    let bad = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains('\0');
    if path.split('/').any(bad) {
        Err(format!("{path:?} is not a path below a tree"))
    } else {
        Ok(())
    }
}

/// Whether nothing on the way from `root` to `path` is anything but a directory, `path` itself included.
pub(super) fn is_plain_directory(root: &Path, path: &Path) -> bool {
    let Ok(inner) = path.strip_prefix(root) else {
        return false;
    };
    let mut at = root.to_owned();
    let is_directory =
        |path: &Path| std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    is_directory(&at)
        && inner.components().all(|part| {
            at.push(part);
            matches!(part, Component::Normal(_)) && is_directory(&at)
        })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("nothing panics while it holds one of the guest's locks")
}
