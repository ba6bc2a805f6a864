//! The thread that starts VMMs.
//!
//! The kernel sends a parent-death signal when the *thread* that forked ends, not when its process does. Threads of an
//! async runtime come and go; this one lives as long as the process.

use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel};

type Task = Box<dyn FnOnce() + Send>;

static LAUNCHER: LazyLock<Sender<Task>> = LazyLock::new(|| {
    let (tasks, queue) = channel::<Task>();
    std::thread::Builder::new()
        .name("launcher".into())
        .spawn(move || queue.into_iter().for_each(|task| task()))
        .expect("a process that cannot start one thread cannot start a VMM either");
    tasks
});

/// Runs `start` on the launcher's thread and waits for what it gives: some milliseconds for a process.
///
/// # Panics
/// If `start` panics.
pub fn run<T: Send + 'static>(start: impl FnOnce() -> T + Send + 'static) -> T {
    let (answer, result) = channel();
    let task = move || {
        // The caller waits below, so there is somebody to answer.
        let _ = answer.send(start());
    };
    LAUNCHER
        .send(Box::new(task))
        .expect("the launcher's thread never ends");
    result.recv().expect("what starts a process does not panic")
}
