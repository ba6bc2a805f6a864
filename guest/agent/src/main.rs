//! The agent: PID 1 of every guest.
//!
//! The kernel starts it from the initramfs. It makes a Linux system out of a bare kernel and a root disk ([`boot`]), then
//! serves one session after the other over the virtio-serial port ([`session`]): run this, take that file, give me that one.
//!
//! What always holds: no child of this machine stays a zombie ([`reaper`]); when a command is reported as ended, nothing it
//! started is left ([`exec`]); the agent serves whoever is at the other end of the port, which is the host and nobody else.
#![allow(clippy::missing_docs_in_private_items)]

mod beneath;
mod boot;
mod cgroup;
mod exec;
mod files;
mod memory;
mod operations;
mod port;
mod probe;
mod proxy;
mod put;
mod reaper;
mod session;
mod settle;
mod survey;
mod thaw;
mod watermarks;

use std::process::ExitCode;

fn main() -> ExitCode {
    if settle::is_child(std::env::args_os().nth(1).as_deref()) {
        return settle::child();
    }
    if std::process::id() != 1 {
        eprintln!("sourdough-agent is the init of a guest (PID 1); it does nothing anywhere else");
        return ExitCode::from(64);
    }
    // Before any other thread is there: they inherit the blocked SIGCHLD.
    let reaper = reaper::Reaper::start();
    let served = reaper.and_then(|reaper| {
        boot::make_a_system()?;
        session::serve(&port::Port::open()?, &reaper)
    });
    if let Err(error) = served {
        eprintln!("sourdough-agent: {error}");
    }
    // PID 1 must not return: the kernel would panic in its own words after ours.
    operations::reboot()
}
