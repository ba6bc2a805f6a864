//! A child process: its output in a log, its end in our hands.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tracing::{debug, info};

use crate::launch::Launch;
use crate::running::Running;
use crate::wait;

/// Lines of its log that an error about a process quotes.
const QUOTED_LINES: usize = 20;

/// A child process. Dropping it kills it, waits for its end and removes its leftovers.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
    leftovers: Vec<PathBuf>,
    is_owned: bool,
}

impl Process {
    /// Starts it. That it runs does not mean that it is ready: see [`Process::ready`].
    pub fn spawn(launch: Launch) -> Result<Self> {
        let mut command = launch.command();
        let Launch {
            name,
            program,
            log,
            leftovers,
            ..
        } = launch;
        let context = || format!("start {name} from {}", program.display());
        let output = File::options().create(true).append(true).open(&log);
        let output = output.with_context(|| format!("open {name}'s log {}", log.display()))?;
        let errors = output.try_clone().with_context(context)?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn().with_context(context)?;
        info!(process = name, pid = child.id(), log = %log.display(), "started");
        Ok(Self {
            name,
            child,
            log,
            leftovers,
            is_owned: true,
        })
    }

    /// Its process id.
    pub fn id(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("Linux's process ids are below 2^22"))
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Asks `probe` until it gives a value. Fails after `deadline`, or as soon as the process has ended, with the last
    /// lines of its log.
    pub async fn ready<T>(
        &mut self,
        deadline: Duration,
        mut probe: impl AsyncFnMut() -> Option<T>,
    ) -> Result<T> {
        let what = format!("{} to be ready", self.name);
        let found = wait::until(&what, deadline, async || {
            if let Some(status) = self.ended()? {
                bail!("{} ended before it was ready: {status}", self.name);
            }
            Ok(probe().await)
        });
        found.await.with_context(|| self.quote())
    }

    /// Its status, if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("look after {}", self.name))
    }

    /// Waits until it has ended by itself.
    pub async fn has_ended(&mut self) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            tokio::time::sleep(wait::INTERVAL).await;
        }
    }

    /// Sends it `signal`.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.id(), signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// Asks it to end with `SIGTERM`, and kills it after `grace`.
    pub async fn stop(mut self, grace: Duration) -> Result<ExitStatus> {
        if self.ended()?.is_none() {
            self.signal(Signal::SIGTERM)?;
        }
        let what = format!("{} to end", self.name);
        let ended = wait::until(&what, grace, async || self.ended()).await;
        match ended {
            Ok(status) => Ok(status),
            Err(_late) => self.kill(),
        }
    }

    /// Kills it and waits for its end.
    pub fn kill(mut self) -> Result<ExitStatus> {
        self.end()
    }

    /// The same for one that stays in its place, to be replaced.
    pub fn kill_in_place(&mut self) -> Result<ExitStatus> {
        self.end()
    }

    /// Leaves it running, and gives what it takes to stop it later.
    pub fn detach(mut self) -> Result<Running> {
        let running = Running::of(self.name, self.id(), self.leftovers.clone())?;
        self.is_owned = false;
        Ok(running)
    }

    fn end(&mut self) -> Result<ExitStatus> {
        let context = || format!("kill {}", self.name);
        self.child.kill().with_context(context)?;
        let status = self.child.wait().with_context(context)?;
        debug!(process = self.name, %status, signal = status.signal(), "ended");
        for path in &self.leftovers {
            // It may never have been made.
            let _absent = fs::remove_file(path);
        }
        Ok(status)
    }

    fn quote(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(QUOTED_LINES)..];
        format!(
            "{} wrote to {}:\n{}",
            self.name,
            self.log.display(),
            last.join("\n")
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_owned {
            // Nobody is left to tell; a process that cannot be killed has ended.
            let _ended = self.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::Lifetime;

    const LONG: Duration = Duration::from_secs(30);

    fn shell(directory: &Path, script: &str) -> Launch {
        Launch {
            name: "shell",
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("GREETING".to_owned(), "hello".to_owned())],
            log: directory.join("shell.log"),
            lifetime: Lifetime::Owner,
            leftovers: vec![directory.join("leftover")],
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(future)
    }

    impl Process {
        async fn has_written(&mut self) {
            let log = self.log().to_owned();
            let text = async || {
                fs::read_to_string(&log)
                    .ok()
                    .filter(|text| !text.is_empty())
            };
            self.ready(LONG, text).await.unwrap();
        }
    }

    fn is_running(pid: Pid) -> bool {
        kill(pid, None).is_ok()
    }

    #[tokio::test]
    async fn output_goes_to_the_log_and_the_environment_is_given() {
        let directory = tempfile::tempdir().unwrap();
        let process =
            Process::spawn(shell(directory.path(), "echo $GREETING; echo there >&2")).unwrap();
        let log = process.log().to_owned();
        wait::until("the log", LONG, async || {
            Ok((fs::read_to_string(&log)? == "hello\nthere\n").then_some(()))
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn a_process_that_is_dropped_is_gone_with_its_leftovers() {
        let directory = tempfile::tempdir().unwrap();
        let leftover = directory.path().join("leftover");
        let mut process = Process::spawn(shell(directory.path(), "exec sleep 60")).unwrap();
        fs::write(&leftover, "").unwrap();
        process
            .ready(LONG, async || leftover.exists().then_some(()))
            .await
            .unwrap();
        let pid = process.id();
        assert!(is_running(pid));
        drop(process);
        assert!(!is_running(pid));
        assert!(!leftover.exists());
    }

    #[test]
    fn a_process_ends_with_the_thread_that_spawned_it() {
        let directory = tempfile::tempdir().unwrap();
        let launch = shell(directory.path(), "echo ready; exec sleep 60");
        let spawn = || async {
            let mut process = Process::spawn(launch).unwrap();
            process.has_written().await;
            process
        };
        let thread = std::thread::spawn(move || block_on(spawn()));
        let mut process = thread.join().unwrap();
        let ended = wait::until("its end", LONG, async || process.ended());
        assert_eq!(block_on(ended).unwrap().signal(), Some(9));
    }

    #[tokio::test]
    async fn a_process_that_ends_before_it_is_ready_is_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let mut process =
            Process::spawn(shell(directory.path(), "echo no such port; exit 3")).unwrap();
        let error = process.ready::<()>(LONG, async || None).await.unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("no such port") && text.contains("exit status: 3"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_process_that_ignores_a_polite_request_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let script = "trap '' TERM; echo ready; while :; do sleep 60; done";
        let mut process = Process::spawn(shell(directory.path(), script)).unwrap();
        let log = process.log().to_owned();
        let has_written = async || {
            fs::read_to_string(&log)
                .ok()
                .filter(|text| !text.is_empty())
        };
        process.ready(LONG, has_written).await.unwrap();
        let status = process.stop(Duration::from_millis(100)).await.unwrap();
        assert_eq!(status.signal(), Some(9));
    }

    #[tokio::test]
    async fn a_detached_process_outlives_its_owner_and_is_stopped_by_its_record() {
        let directory = tempfile::tempdir().unwrap();
        let launch = Launch {
            lifetime: Lifetime::Detached,
            ..shell(directory.path(), "exec sleep 60")
        };
        let running = Process::spawn(launch).unwrap().detach().unwrap();
        assert!(running.is_running());
        running.stop(LONG).await.unwrap();
        assert!(!running.is_running());
    }
}
