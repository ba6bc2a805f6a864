//! What a channel can be opened for: the table from [`Open`] to the code that does it.

use std::convert::Infallible;

use nix::sys::reboot::RebootMode;
use wire::{Open, ToHost};

use crate::reaper::Reaper;
use crate::session::{Channel, Gone};
use crate::{exec, files, probe, proxy, put, settle, survey, thaw};

/// Why an operation has no good answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It cannot be done; the host is told the sentence.
    Problem(String),
    /// Nobody is there to be told.
    Gone,
}

impl From<Gone> for Failure {
    fn from(Gone: Gone) -> Self {
        Failure::Gone
    }
}

impl Failure {
    /// For `map_err`: `doing` something failed.
    pub(crate) fn doing<E: std::fmt::Display>(doing: &str) -> impl FnOnce(E) -> Self {
        move |error| Failure::Problem(format!("{doing}: {error}"))
    }
}

/// Runs one operation to its end and closes the channel.
pub(crate) fn run(open: Open, mut channel: Channel, reaper: &Reaper) {
    let half = channel.half();
    let last = match open {
        Open::Thaw(thaw) => thaw::thaw(&thaw).map(|()| ToHost::Done),
        Open::Exec(spec) => exec::exec(&mut channel, &spec, reaper).map(ToHost::Ended),
        Open::Put(spec) => put::put(&mut channel, &spec).map(ToHost::Stored),
        Open::List(spec) => files::list(&half, &spec).map(|()| ToHost::Done),
        Open::Read(spec) => files::read(&half, &spec).map(|()| ToHost::Done),
        Open::Proxy { port } => return proxy::listen(channel, port),
        Open::Sync => {
            nix::unistd::sync();
            Ok(ToHost::Done)
        }
        Open::Settle => settle::settle(&mut channel, reaper).map(ToHost::Settled),
        Open::Probe => probe::probe().map(ToHost::Probed),
        Open::Survey(spec) => survey::survey(&spec).map(ToHost::Surveyed),
        Open::PowerOff => {
            nix::unistd::sync();
            // The host sees the end of the machine even where it does not see this.
            drop(half.send(&ToHost::Done));
            reboot();
        }
        Open::Tunnel => Err(Failure::Problem("a tunnel is opened by the guest".into())),
    };
    let told = match last {
        Ok(message) => half.send(&message),
        Err(Failure::Problem(problem)) => half.send(&ToHost::Failed(problem)),
        Err(Failure::Gone) => Err(Gone),
    };
    if told.is_ok() {
        half.close();
    }
}

/// Ends the machine. A reset, since the VMM is told to take a reset for the end (`-no-reboot`) and every machine type knows
/// one, while switching off needs a power controller.
pub(crate) fn reboot() -> ! {
    let Err(error): nix::Result<Infallible> = nix::sys::reboot::reboot(RebootMode::RB_AUTOBOOT);
    eprintln!("sourdough-agent: reboot: {error}");
    loop {
        // Returning would be a kernel panic; there is nothing left to do.
        std::thread::park();
    }
}
