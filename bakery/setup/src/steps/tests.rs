//! Steps in guests that follow a script, over the real protocol.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use wire::{Decoder, Ended, Frame, Kind, Lane, Open, ToHost, Usage};

use super::*;
use crate::news::Silent;

/// What a scripted guest does with a step, after it has said `half`.
#[derive(Clone, Copy)]
enum Then {
    /// It hangs up.
    Dies,
    /// Nothing at all.
    Sticks,
    /// It speaks on and on, and never ends.
    Babbles,
    /// It says that the step succeeded.
    Ends,
}

/// A guest that does with its steps what the script says, and hangs up after the last.
struct Guest {
    stream: DuplexStream,
    decoder: Decoder,
}

impl Guest {
    async fn next(&mut self) -> Option<Frame> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            match self.stream.read(&mut buffer).await.unwrap() {
                0 => return None,
                count => self.decoder.push(&buffer[..count]),
            }
        }
    }

    async fn say(&mut self, frame: Frame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn play(mut self, script: &[Then]) {
        let hello = self.next().await.unwrap();
        self.say(hello).await;
        for then in script {
            let exec = loop {
                let frame = self.next().await.unwrap();
                if frame.kind == Kind::Open {
                    break frame;
                }
            };
            assert!(matches!(exec.decode("open").unwrap(), Open::Exec(_)));
            self.say(Frame::data(exec.channel, Lane::Out, b"half\n"))
                .await;
            match then {
                Then::Dies => return,
                Then::Ends => self.say(ended(exec.channel)).await,
                Then::Sticks => self.until_given_up(exec.channel).await,
                Then::Babbles => self.babble(exec.channel).await,
            }
        }
    }

    /// Says nothing until the host gives the channel up.
    async fn until_given_up(&mut self, channel: u32) {
        while let Some(frame) = self.next().await {
            if (frame.kind, frame.channel) == (Kind::Reset, channel) {
                return;
            }
        }
    }

    /// Says a byte a second until the host gives the channel up.
    async fn babble(&mut self, channel: u32) {
        let second = Duration::from_secs(1);
        while timeout(second, self.until_given_up(channel)).await.is_err() {
            self.say(Frame::data(channel, Lane::Err, b".")).await;
        }
    }
}

fn ended(channel: u32) -> Frame {
    let ended = Ended {
        termination: Termination::Exited { code: 0 },
        usage: Usage::default(),
        disk_free_bytes: 0,
    };
    Frame::value(Kind::Message, channel, &ToHost::Ended(ended))
}

/// Runs as many steps as the script has, in a guest that follows it.
async fn run(script: &[Then]) -> Result<(), SetupError> {
    let (host, stream) = tokio::io::duplex(1 << 20);
    let decoder = Decoder::default();
    let guest = Guest { stream, decoder }.play(script);
    let steps = vec![step(); script.len()];
    let setup = setup(Vec::new());
    let running = async {
        let agent = AgentClient::connect(host).await.unwrap();
        setup.run(&agent, &steps, &Silent).await
    };
    tokio::join!(running, guest).0
}

fn step() -> Step {
    let mut step = Step::new("deps".parse().unwrap(), Command::Sh("true".into()));
    step.env = Env::from([("A".parse().unwrap(), "step".into())]);
    step.cwd = "sub".parse().unwrap();
    step
}

fn setup(layers: Vec<&Env>) -> Setup<'_> {
    Setup {
        what: "environment widget".into(),
        user: User::BUILD,
        source_date_epoch: 7,
        layers,
    }
}

#[test]
fn a_step_sees_the_base_then_each_layer_then_its_own_variables() {
    let lower = Env::from([
        ("A".parse().unwrap(), "lower".to_owned()),
        ("HOME".parse().unwrap(), "/elsewhere".to_owned()),
    ]);
    let spec = setup(vec![&lower]).spec(&step());
    let env: BTreeMap<_, _> = spec.env.into_iter().collect();
    assert_eq!(env["A"], "step");
    assert_eq!(env["HOME"], "/elsewhere");
    assert_eq!(env["SOURCE_DATE_EPOCH"], "7");
    assert_eq!(spec.cwd, "/build/src/sub");
}

#[test]
fn how_a_step_ended_is_said_as_a_predicate() {
    let say = |termination| problem(&termination, &step());
    assert_eq!(say(Termination::Exited { code: 0 }), None);
    assert_eq!(
        say(Termination::Exited { code: 3 }).as_deref(),
        Some("exited with 3")
    );
    assert_eq!(
        say(Termination::TimedOut).as_deref(),
        Some("ran past its 1800 s")
    );
}

#[tokio::test(start_paused = true)]
async fn a_step_that_the_guest_does_not_end_is_given_up_and_has_run_past_its_time() {
    for then in [Then::Sticks, Then::Babbles] {
        let begun = Instant::now();
        let error = run(&[then]).await.unwrap_err();
        let (took, limit) = (
            begun.elapsed(),
            step().timeout() + KILL_GRACE + GUEST_MARGIN,
        );
        assert!(took >= limit, "{took:?}");
        assert!(took < limit + Duration::from_secs(2), "{took:?}");
        let SetupError::Step(failure) = error else {
            panic!("the step failed: {error}");
        };
        assert_eq!(failure.termination, Termination::TimedOut);
        assert_eq!(failure.problem, "ran past its 1800 s");
        assert!(failure.transcript.end().starts_with("half\n"));
    }
}

#[tokio::test]
async fn what_was_written_before_the_guest_died_is_kept() {
    let error = run(&[Then::Ends, Then::Dies]).await.unwrap_err();
    assert_eq!(error.to_string(), "run setup step deps");
    assert!(error.is_session_end());
    assert_eq!(error.step().unwrap().as_str(), "deps");
    let transcript = error.transcript().unwrap().clone();
    assert_eq!(transcript.end(), "half\n");
    assert_eq!(transcript.into_whole().0, b"half\nhalf\n");
}
