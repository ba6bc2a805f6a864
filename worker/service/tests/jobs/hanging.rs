//! Supervisors that hang: they keep neither their job nor its VM.

use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::FutureExt as _;
use tokio::sync::oneshot;
use tokio::time::{interval, timeout};
use worker::queue::Taken;
use worker::services::Services;

use crate::rig::{Gate, PATIENCE, Rig, Setup, handled, heard, tried};

/// 12 s: longer than the 10 s between two signs of life.
const ACK_WAIT: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_hangs_gives_no_signs_of_life_and_says_nothing_when_it_goes_on()
-> Result<()> {
    let setup = Setup {
        with_worker: false,
        ack_wait: Some(ACK_WAIT),
        ..Setup::default()
    };
    let Some(rig) = Rig::start_with("hangs", setup).await? else {
        return Ok(());
    };
    rig.bake().await?;
    let gate = Gate::new(&rig, "gate")?;
    let job = rig.submit(&[("steps", &gate.steps())]).await?;
    let taken = Taken {
        message: rig.delivered().await?,
        cap: None,
    };
    let supervisor = Supervisor::start(rig.idle("a").await?, taken);
    rig.written(&job, "waits").await?;
    let hanging = supervisor.hang()?;
    rig.delivered().await?;
    rig.lease_gone(&job).await?;
    let (mut answers, mut tries) = (rig.answers().await?, rig.tries(&job).await?);
    // Without the gate's being opened: the VM is killed.
    hanging.go_on().await?;
    ensure!(rig.result_now(&job).await?.is_none());
    ensure!(rig.record(&job).await?.attempts[0].end.is_none());
    ensure!(heard(&mut answers).now_or_never().is_none());
    ensure!(tried(&mut tries) == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vm_of_a_supervisor_that_hangs_is_killed_when_all_time_limits_of_its_job_are_over()
-> Result<()> {
    let setup = Setup {
        with_worker: false,
        ..Setup::default()
    };
    let Some(rig) = Rig::start_with("outlived", setup).await? else {
        return Ok(());
    };
    rig.bake().await?;
    let (pid, gate) = (rig.directory().join("pid"), Gate::new(&rig, "gate")?);
    let script = format!(
        "echo $$ > {}; echo waits; cat {}",
        pid.display(),
        gate.path()
    );
    let steps = serde_json::json!([{"name": "wait", "sh": script}]).to_string();
    // Less than the 20 s after which the lease would end it, and more than it takes to hang.
    let timeouts = r#"{"run_s": 8, "kill_grace_s": 1}"#;
    let once = ("retry", r#"{"max_attempts": 1}"#);
    let fields = [("steps", &*steps), ("timeouts", timeouts), once];
    let job = rig.submit(&fields).await?;
    let taken = Taken {
        message: rig.delivered().await?,
        cap: None,
    };
    let mut services = rig.idle("a").await?;
    services.life_beyond_limits = Duration::ZERO;
    let supervisor = Supervisor::start(services, taken);
    rig.written(&job, "waits").await?;
    let hanging = supervisor.hang()?;
    ended(std::fs::read_to_string(&pid)?.trim()).await?;
    hanging.go_on().await?;
    let result = rig.result(&job).await?;
    ensure!(
        result.message == "the VM outlived all time limits of its job",
        "{result:?}"
    );
    Ok(())
}

/// Waits until the process is gone: nothing of the worker's runtime could have killed it.
async fn ended(pid: &str) -> Result<()> {
    let process = Path::new("/proc").join(pid);
    let mut look = interval(Duration::from_millis(100));
    let gone = async {
        while process.exists() {
            look.tick().await;
        }
    };
    timeout(PATIENCE, gone).await.context("it lives on")
}

/// Handles a job on a thread of its own, which has nothing else to run it.
struct Supervisor {
    hang: oneshot::Sender<()>,
    hanging: Hanging,
}

/// One that hangs.
struct Hanging {
    go_on: mpsc::Sender<()>,
    thread: JoinHandle<Result<()>>,
}

impl Supervisor {
    fn start(services: Services, taken: Taken) -> Self {
        let (hang, told) = oneshot::channel();
        let (go_on, going_on) = mpsc::channel();
        let thread = std::thread::spawn(move || supervise(services, taken, told, &going_on));
        let hanging = Hanging { go_on, thread };
        Self { hang, hanging }
    }

    fn hang(self) -> Result<Hanging> {
        self.hang.send(()).ok().context("it ended")?;
        Ok(self.hanging)
    }
}

impl Hanging {
    /// Lets it go on, to the end of its job.
    async fn go_on(self) -> Result<()> {
        self.go_on.send(())?;
        let ended = tokio::task::spawn_blocking(|| self.thread.join());
        ended.await?.ok().context("it panicked")?
    }
}

/// Handles a job on this thread alone, which hangs when it is told to, and goes on when it is told to.
fn supervise(
    services: Services,
    taken: Taken,
    hang: oneshot::Receiver<()>,
    go_on: &mpsc::Receiver<()>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let job = tokio::spawn(Box::pin(handled(services, taken)));
        hang.await?;
        go_on.recv()?;
        Ok(job.await?)
    })
}
