//! Programs of the host that a bake runs: what they say is kept, and they do not outlive whoever asked for them.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Output, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;

/// 4 KiB of what a program said last: enough for its own error message.
const SAID_BYTES: usize = 4096;

/// Why a program did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is not there, or cannot be run.
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
}

/// A program with its arguments, run with no environment but `PATH`, the host's proxies and what is given.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    command: Command,
}

impl Program {
    /// The program `name`, which is looked for in `PATH`.
    pub(crate) fn new(name: &str) -> Self {
        let mut command = Command::new(name);
        command
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
    /// with it, however it ends.
    pub(crate) fn contained(name: &str) -> Self {
        let unshare = Self::new("unshare");
        let contained =
            unshare.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        Self {
            name: name.to_owned(),
            ..contained.arg(name)
        }
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

    /// Runs it to its end; returns what it wrote to its standard output. When this future is dropped, the program and
    /// what is still in its process group are killed.
    pub(crate) async fn run(mut self) -> Result<String, ProgramError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_gives_its_output_or_its_complaint() {
        let shell = |script: &str| Program::new("sh").args(["-c", script]).run();
        assert_eq!(shell("echo yes").await.unwrap(), "yes\n");
        let error = shell("echo no >&2; exit 3").await.unwrap_err().to_string();
        assert_eq!(error, "sh: exit status: 3; it said: no");
        let error = Program::new("no-such-program").run().await.unwrap_err();
        assert_eq!(error.to_string(), "run no-such-program");
    }

    #[tokio::test]
    async fn a_program_sees_no_variable_of_the_host_but_its_proxies() {
        let output = Program::new("env").env("A", "b").run().await.unwrap();
        let mut names: Vec<_> = output
            .lines()
            .filter_map(|line| Some(line.split_once('=')?.0))
            .filter(|name| !is_way_out(OsStr::new(name)))
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["A", "LC_ALL", "PATH"]);
    }

    #[tokio::test]
    async fn a_program_whose_answer_nobody_waits_for_is_killed_with_what_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let held = directory.path().join("held");
        nix::unistd::mkfifo(&held, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // Both hold the writing end: the reader sees its end only when both are gone.
        let script = format!("exec 3>{}; sleep 1000 & sleep 1000", held.display());
        let running = tokio::spawn(Program::new("sh").args(["-c", &script]).run());
        let mut reader = tokio::fs::File::open(&held).await.unwrap();
        running.abort();
        let mut rest = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut rest)
            .await
            .unwrap();
    }
}
