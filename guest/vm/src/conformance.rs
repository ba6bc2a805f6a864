//! One suite that every driver passes: what a VM does, whatever runs it.
//!
//! ```text
//! prepare ──▶ Rig ──run──▶ Report        each case starts fresh forks of the rig's one snapshot
//! ```
//!
//! The guest needs `sh`, `sleep`, `cat`, `env`, `head`, `sha256sum`, `mkdir`, `touch`, `ls` and `stat`; what more a case
//! needs, and does not find, makes it a skipped case with a reason. Paths inside commands are relative, for a guest that
//! is a directory of the host has no root of its own.
//!
//! What always holds: a case that did not run is in the report, with the reason, and not among those that passed.

mod commands;
mod ending;
mod files;
mod forks;
mod freeze;
mod guest;
mod kernel;
mod killing;
mod rig;
mod tunnels;

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

pub use guest::Failure;
pub use rig::{Rig, prepare};

/// Longest time for one case: far above the few seconds that the longest is meant to take, since what hangs, hangs for good.
const DEADLINE: Duration = Duration::from_mins(1);

/// One thing that a driver's VMs do.
#[derive(Debug)]
pub struct Case {
    /// What holds, as a sentence.
    pub name: &'static str,
    /// What the driver must have for it.
    pub needs: Needs,
    run: for<'a> fn(&'a Rig<'a>) -> Running<'a>,
}

/// A case at work.
type Running<'a> = Pin<Box<dyn Future<Output = Result<Outcome, Failure>> + Send + 'a>>;

/// What a case needs that not every driver has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: every driver runs it.
    Nothing,
    /// A kernel that is the guest's alone.
    Kernel,
}

/// How a case that did not fail ended.
#[derive(Debug)]
enum Outcome {
    Passed,
    /// The guest lacks a program that the case is written with.
    Skipped(&'static str),
}

/// What the driver under test has; its test says so.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// Whether each guest has a kernel of its own, and not the host's.
    pub own_kernel: bool,
}

/// What became of the cases.
#[derive(Debug, Default)]
pub struct Report {
    /// Names of those that passed.
    pub passed: Vec<&'static str>,
    /// Those that could not run, with the reason.
    pub skipped: Vec<(&'static str, String)>,
    /// Those that failed, with what was seen.
    pub failed: Vec<(&'static str, String)>,
    /// What each took.
    pub took: Vec<(&'static str, Duration)>,
}

macro_rules! cases {
    ($($needs:ident $run:path, $name:literal;)*) => {
        &[$(Case { name: $name, needs: Needs::$needs, run: |rig| Box::pin($run(rig)) }),*]
    };
}

/// All cases, in the order in which they run.
static CASES: &[Case] = cases! {
    Nothing commands::argv, "a program gets its arguments as they are";
    Nothing commands::script, "a script stops at the first command that fails";
    Nothing commands::exit_code, "the exit code is the command's own";
    Nothing commands::environment, "the environment is exactly the one asked for";
    Nothing commands::working_directory, "a command starts in its working directory";
    Nothing commands::lanes, "standard output and standard error are kept apart";
    Nothing commands::standard_input, "standard input is there and empty";
    Nothing commands::umask, "new files get umask 022";
    Nothing commands::missing_program, "a program that is not there is never run, and the sentence names it";
    Nothing commands::missing_directory, "a working directory that is not there is said so, and nothing is run";
    Nothing commands::whole_output, "ten mebibytes of output arrive whole and in order";
    Nothing commands::slow_reader, "output that nobody reads is held back, and nothing of it is lost";
    Nothing commands::parallel, "eight commands run at the same time";
    Nothing ending::signal, "a signal that ends a command is named";
    Nothing ending::timeout, "a timeout ends the whole tree, whatever holds its output";
    Nothing ending::terminate, "a command that is asked to end has its grace";
    Nothing ending::stubborn, "a command that will not end is killed after its grace";
    Nothing ending::background, "what a command leaves in the background ends with it";
    Nothing ending::dropped, "a command that nobody waits for any more is killed";
    Kernel ending::escapee, "a process that leaves its session ends with its command";
    Kernel ending::orphans, "orphans are reaped";
    Nothing files::file_whole, "a file arrives with its bytes, mode and time";
    Nothing files::directories, "directories keep their time, and their content when put again";
    Nothing files::symbolic_link, "a symbolic link arrives as one";
    Nothing files::replaced, "an entry replaces whatever stands in its place";
    Nothing files::through_a_link, "an entry is never written through a symbolic link";
    Nothing files::refused, "a path that could leave the tree is refused in words";
    Nothing files::refused_early, "a put that is refused says why while the host still sends";
    Nothing files::listed, "a listing is sorted and follows its globs";
    Nothing files::limit, "a listing stops one above its limit";
    Nothing files::read, "a file that is read comes whole, with its digest";
    Nothing files::not_read, "what is no regular file below the tree is not read";
    Nothing files::large, "eight mebibytes go in whole";
    Nothing tunnels::round_trip, "a connection to the proxy port reaches the host and back";
    Nothing tunnels::hung_up, "what the host says before it hangs up arrives";
    Nothing tunnels::closed, "the proxy port closes with its owner";
    Nothing forks::disk, "a fork finds the disk as it was frozen";
    Nothing forks::memory, "a fork finds the memory as it was frozen";
    Nothing forks::private, "two forks do not see each other's files";
    Nothing forks::derived, "a snapshot that was made from a snapshot forks like any other";
    Nothing forks::several, "four forks start at once";
    Nothing forks::dropped, "a VM that is dropped ends";
    Nothing forks::stopped, "a VM that is asked to stop switches itself off";
    Nothing forks::foreign, "a snapshot that was made elsewhere is refused in words";
    Nothing killing::switched, "a kill switch ends its VM at once";
    Nothing killing::wedged, "a lifetime that is over kills its VM while the runtime's threads are blocked";
    Nothing killing::let_live, "a lifetime that is dropped kills nothing";
    Nothing killing::late, "a kill switch does nothing once its VM has ended";
    Kernel kernel::user, "a command runs as its user, with no other groups";
    Kernel kernel::memory, "the guest's /run is memory";
    Kernel kernel::hostname, "a fork has the hostname of its thaw";
    Kernel kernel::clock, "a fork tells the host's time";
    Kernel kernel::entropy, "two forks do not repeat each other's random bytes";
    Nothing freeze::probed, "two forks say that they are not the same guest";
    Nothing freeze::surveyed, "two forks say that they see the same disk";
    Nothing freeze::settled, "a guest that was settled goes on";
    Kernel freeze::forgotten, "a snapshot holds next to nothing of what was freed before the freeze";
    Nothing forks::unchanged, "the snapshot is byte for byte what it was";
};

/// All cases, in the order in which they run.
pub fn cases() -> &'static [Case] {
    CASES
}

/// Runs the cases whose name contains `filter`, one after the other, and prints a line for each.
pub async fn run(rig: &Rig<'_>, capabilities: Capabilities, filter: Option<&str>) -> Report {
    let mut report = Report::default();
    let wanted = |case: &&Case| filter.is_none_or(|filter| case.name.contains(filter));
    for case in cases().iter().filter(wanted) {
        let started = Instant::now();
        let outcome = attempt(case, rig, capabilities).await;
        report.add(case.name, outcome, started.elapsed());
    }
    report
}

async fn attempt(
    case: &Case,
    rig: &Rig<'_>,
    capabilities: Capabilities,
) -> Result<Outcome, Failure> {
    match case.needs {
        Needs::Kernel if !capabilities.own_kernel => {
            return Ok(Outcome::Skipped("the guest has no kernel of its own"));
        }
        Needs::Kernel | Needs::Nothing => {}
    }
    match tokio::time::timeout(DEADLINE, (case.run)(rig)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::new(format!("not through within {DEADLINE:?}"))),
    }
}

impl Report {
    fn add(&mut self, name: &'static str, outcome: Result<Outcome, Failure>, took: Duration) {
        let line = match outcome {
            Ok(Outcome::Passed) => {
                self.passed.push(name);
                format!("passed: {name}")
            }
            Ok(Outcome::Skipped(why)) => {
                self.skipped.push((name, why.into()));
                format!("skipped: {name}: {why}")
            }
            Err(failure) => {
                self.failed.push((name, failure.to_string()));
                format!("FAILED: {name}: {failure}")
            }
        };
        self.took.push((name, took));
        println!("{line} ({} ms)", took.as_millis());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_cases_have_the_same_name() {
        let names: std::collections::HashSet<_> = cases().iter().map(|case| case.name).collect();
        assert_eq!(names.len(), cases().len());
    }
}
