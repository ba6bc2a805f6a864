//! Programs of the host that a bake runs: what they say is kept, and they do not outlive whoever asked for them.
//!
//! ```text
//! bakery ─ pdeathsig KILL ─▶ program                                 as apt-get or mke2fs
//! bakery ─ pdeathsig KILL ─▶ unshare ─ pdeathsig KILL ─▶ program     the first process of its own namespace, and all in it
//! ```
//!
//! Where a bake is given up, its program's process group is killed. Where the bakery itself is killed, the kernel kills the program: it
//! sends the signal when the *thread* that started the program ends. So a program is started from a task of the runtime, whose threads
//! stay as long as the process, and never from a blocking task, whose thread ends after some idle seconds.
//!
//! No program runs for ever: whoever runs one says how long it may take.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::time::timeout;

/// 1 min for a program that reads its own files and answers: it takes a second or two.
pub(crate) const TO_ANSWER: Duration = Duration::from_mins(1);

/// 30 min for a program that reads or writes files of this machine: 16 GiB, the largest root filesystem, at 10 MiB/s.
pub(crate) const TO_WRITE: Duration = Duration::from_mins(30);

/// 1 h for a program that downloads from a mirror or a registry, and may install what it has: a minimal Debian takes half a minute, and
/// a mirror that sends less than 5 MiB/s of the largest image is better given up.
pub(crate) const TO_DOWNLOAD: Duration = Duration::from_hours(1);

/// 4 KiB of what a program said last: enough for its own error message.
const SAID_BYTES: usize = 4096;

/// Why a program did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// `setpriv`, through which every program is started, is not there or cannot be run.
    #[error("run {program}")]
    Start {
        /// Its name.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It says that it failed.
    #[error("{program}: {status}; it said: {said}")]
    Failed {
        /// Its name.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of its output.
        said: String,
    },
    /// It did not end.
    #[error("{program}: did not end within {} s, and was killed", limit.as_secs())]
    Late {
        /// Its name.
        program: String,
        /// How long it had.
        limit: Duration,
    },
}

impl ProgramError {
    /// Whether it failed, and said one of these sentences, or a part of one, in its last words.
    pub(crate) fn says(&self, sentences: &[&str]) -> bool {
        match self {
            Self::Failed { said, .. } => sentences.iter().any(|sentence| said.contains(sentence)),
            Self::Start { .. } | Self::Late { .. } => false,
        }
    }

    /// Whether it was ended because a file that it wrote became larger than it might.
    pub(crate) fn is_too_large(&self) -> bool {
        match self {
            Self::Failed { status, .. } => status.signal() == Some(Signal::SIGXFSZ as i32),
            Self::Start { .. } | Self::Late { .. } => false,
        }
    }
}

/// A program with its arguments, run with no environment but `PATH`, the host's proxies and what is given.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    command: Command,
}

impl Program {
    /// The program `name`, which is looked for in `PATH`. `setpriv` asks the kernel for the signal and then becomes the program, so
    /// the process is the program's own.
    pub(crate) fn new(name: &str) -> Self {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", name])
            .env_clear()
            .env("PATH", host_path())
            .env("LC_ALL", "C.UTF-8")
            .envs(std::env::vars_os().filter(|(name, _)| is_way_out(name)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: an interrupt from the terminal reaches us alone, and we end the whole of it.
            .process_group(0);
        Self {
            name: name.to_owned(),
            command,
        }
    }

    /// The program `name` with mounts and processes of its own, for which we must be root: whatever it mounts and starts is gone
    /// with it, however it ends. `--kill-child` passes the bakery's own end on.
    pub(crate) fn contained(name: &str) -> Self {
        let contained = Self::new("unshare")
            .args(["--mount", "--propagation", propagation()])
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        Self {
            name: name.to_owned(),
            ..contained.arg(name)
        }
    }

    /// As [`Self::contained`], and the kernel lets it make no devices: for what reads files of a stranger's.
    pub(crate) fn without_devices(name: &str) -> Self {
        let contained = Self::contained("setpriv").args(["--bounding-set=-mknod", "--", name]);
        Self {
            name: name.to_owned(),
            ..contained
        }
    }

    /// The program `name`, whose files may not become larger than that: the kernel ends it with the first byte too many.
    pub(crate) fn writing_up_to(name: &str, max_bytes: u64) -> Self {
        let limit = format!("--fsize={max_bytes}");
        Self {
            name: name.to_owned(),
            ..Self::new("prlimit").args([&limit, "--", name])
        }
    }

    /// With all variables of our own environment: for a program that is asked what the operator set up for it.
    pub(crate) fn own_environment(mut self) -> Self {
        self.command.envs(std::env::vars_os());
        self
    }

    /// One more argument.
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// More arguments.
    pub(crate) fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    /// A variable of its environment.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Where it runs.
    pub(crate) fn directory(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Runs it to its end; returns what it wrote to its standard output. When `limit` is over, and when this future is dropped, the
    /// program and what is still in its process group are killed. To be awaited in a task of the runtime only.
    pub(crate) async fn run(self, limit: Duration) -> Result<String, ProgramError> {
        let late = ProgramError::Late {
            program: self.name.clone(),
            limit,
        };
        timeout(limit, self.run_to_its_end())
            .await
            .unwrap_or(Err(late))
    }

    async fn run_to_its_end(mut self) -> Result<String, ProgramError> {
        let name = &self.name;
        let failed = |source| ProgramError::Start {
            program: name.clone(),
            source,
        };
        let child = self.command.spawn().map_err(failed)?;
        let group = Group(child.id());
        let output = child.wait_with_output().await.map_err(failed)?;
        group.has_ended();
        check(name, &output)
    }
}

/// The process group of a running program; kills it when dropped.
struct Group(Option<u32>);

impl Group {
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let id = self.0.and_then(|id| i32::try_from(id).ok());
        if let Some(id) = id {
            // It may have ended in this moment.
            let _gone = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

/// The host's own way to its mirrors is the only thing of its environment that a program gets.
fn is_way_out(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_lowercase();
    ["http_proxy", "https_proxy", "no_proxy"].contains(&name.as_str())
}

/// Where programs are found: our own `PATH`, with the directories of system programs, which a user's often lacks.
fn host_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}

fn check(program: &str, output: &Output) -> Result<String, ProgramError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = if output.stderr.trim_ascii().is_empty() {
        &output.stdout
    } else {
        &output.stderr
    };
    let from = said.len().saturating_sub(SAID_BYTES);
    Err(ProgramError::Failed {
        program: program.to_owned(),
        status: output.status,
        said: String::from_utf8_lossy(&said[from..]).trim().to_owned(),
    })
}

/// How the mounts of a new namespace stand to those outside: private. A root directory that is no mount point, as in a
/// `chroot`, cannot be made private; there they stay as they are.
fn propagation() -> &'static str {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    if points.any(|point| point == "/") {
        "private"
    } else {
        "unchanged"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_gives_its_output_or_its_complaint() {
        let shell = |script: &str| Program::new("sh").args(["-c", script]).run(TO_ANSWER);
        assert_eq!(shell("echo yes").await.unwrap(), "yes\n");
        let error = shell("echo no >&2; exit 3").await.unwrap_err().to_string();
        assert_eq!(error, "sh: exit status: 3; it said: no");
        let error = Program::new("no-such-program").run(TO_ANSWER).await;
        let error = error.unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with("no-such-program: exit status: 127; it said: "),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_program_sees_no_variable_of_the_host_but_its_proxies() {
        let output = Program::new("env").env("A", "b").run(TO_ANSWER).await;
        let output = output.unwrap();
        let mut names: Vec<_> = output
            .lines()
            .filter_map(|line| Some(line.split_once('=')?.0))
            .filter(|name| !is_way_out(OsStr::new(name)))
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["A", "LC_ALL", "PATH"]);
    }

    /// A pipe whose reader sees its end once every process that has opened it for writing is gone.
    struct Held {
        _directory: tempfile::TempDir,
        path: std::path::PathBuf,
    }

    impl Held {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("held");
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            Self {
                _directory: directory,
                path,
            }
        }

        fn holder(&self, program: Program, then: &str) -> Program {
            let script = format!("exec 3>{}; {then}", self.path.display());
            program.args(["-c", &script])
        }
    }

    #[tokio::test]
    async fn a_program_whose_answer_nobody_waits_for_is_killed_with_what_it_started() {
        let held = Held::new();
        let program = held.holder(Program::new("sh"), "sleep 1000 & sleep 1000");
        let running = tokio::spawn(program.run(TO_ANSWER));
        let mut reader = tokio::fs::File::open(&held.path).await.unwrap();
        running.abort();
        let mut rest = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut rest)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_in_time_is_killed_with_what_it_started() {
        let held = Held::new();
        let program = held.holder(Program::new("sh"), "sleep 1000 & sleep 1000");
        let running = tokio::spawn(program.run(Duration::from_secs(1)));
        let mut reader = tokio::fs::File::open(&held.path).await.unwrap();
        let error = running.await.unwrap().unwrap_err().to_string();
        assert_eq!(error, "sh: did not end within 1 s, and was killed");
        let mut rest = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut rest)
            .await
            .unwrap();
    }

    /// Starts it and ends the thread that did, as a killed process ends all of its threads: nothing is dropped.
    fn start_and_vanish(program: Program, held: &Held) -> std::fs::File {
        let path = held.path.clone();
        let starting = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let reader = runtime.block_on(async {
                let mut running = Box::pin(program.run(TO_ANSWER));
                let reader = tokio::select! {
                    ended = &mut running => panic!("{ended:?}"),
                    opened = tokio::fs::File::open(path) => opened.unwrap(),
                };
                std::mem::forget(running);
                reader.into_std().await
            });
            std::mem::forget(runtime);
            reader
        });
        starting.join().unwrap()
    }

    #[test]
    fn a_program_dies_with_whoever_started_it() {
        let held = Held::new();
        let program = held.holder(Program::new("sh"), "exec sleep 1000");
        let mut reader = start_and_vanish(program, &held);
        std::io::Read::read_to_end(&mut reader, &mut Vec::new()).unwrap();
    }

    #[test]
    fn a_contained_program_dies_with_whoever_started_it_and_so_does_what_it_started() {
        if !nix::unistd::Uid::effective().is_root() {
            eprintln!("skipped: not root");
            return;
        }
        let held = Held::new();
        let program = held.holder(Program::contained("sh"), "sleep 1000 & setsid sleep 1000");
        let mut reader = start_and_vanish(program, &held);
        std::io::Read::read_to_end(&mut reader, &mut Vec::new()).unwrap();
    }
}
