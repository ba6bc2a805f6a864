//! A server that does not answer what it is asked, as NATS does towards a user who may not ask: it is silent where the user's permissions do
//! not cover the question, and says that nobody is there where the user's account does not reach what is asked.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

const ID: &str = "0193a6c2-7f52-7c1e-9a51-2f6f0f6d2b11";

const INFO: &str = r#"INFO {"server_id":"a","server_name":"a","version":"2.12.0","go":"go1","host":"127.0.0.1","port":4222,"headers":true,"max_payload":1048576,"proto":1}"#;

/// 30 s: several questions of 4 s, on a busy machine, and less than the minute for which a server that is away is waited for.
const SOON: Duration = Duration::from_secs(30);

/// What becomes of a question.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// Nothing.
    Silence,
    /// That nobody is there.
    NoResponders,
}

/// Where it listens.
fn start(answer: Answer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
    let address = listener.local_addr().expect("a listener has an address");
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            std::thread::spawn(move || socket.and_then(|socket| serve(socket, answer)));
        }
    });
    format!("nats://{address}")
}

/// Keeps the connection alive, and answers so.
fn serve(mut socket: TcpStream, answer: Answer) -> io::Result<()> {
    let lines = BufReader::new(socket.try_clone()?).lines();
    write!(socket, "{INFO}\r\n")?;
    let mut inbox = String::new();
    for line in lines {
        let line = line?;
        let words: Vec<_> = line.split_whitespace().collect();
        match (words.as_slice(), answer) {
            (["PING"], _) => write!(socket, "PONG\r\n")?,
            (["SUB", subject, id], _) if subject.starts_with("_INBOX.") => {
                (*id).clone_into(&mut inbox);
            }
            (["PUB" | "HPUB", _, reply, ..], Answer::NoResponders)
                if reply.starts_with("_INBOX.") =>
            {
                let headers = "NATS/1.0 503\r\n\r\n";
                write!(socket, "HMSG {reply} {inbox} 16 16\r\n{headers}\r\n")?;
            }
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn silence_is_told_within_seconds_as_what_it_may_be() {
    told(
        Answer::Silence,
        "NATS is silent towards a user whose permissions",
    );
}

#[test]
fn an_account_that_does_not_reach_what_is_asked_is_told_as_what_it_may_be() {
    told(
        Answer::NoResponders,
        "this user: its account does not reach it, or `bakery init` was not run",
    );
}

/// Every command says so.
fn told(answer: Answer, words: &str) {
    let server = start(answer);
    let sha256 = "ab12cd34".repeat(8);
    let uri = "https://files.example.com/a.tar.zst";
    let submit = [
        "submit",
        "--environment",
        "w",
        "--archive-uri",
        uri,
        "--sha256",
        &sha256,
    ];
    let commands = [
        &["result", ID][..],
        &["wait", ID],
        &["logs", ID],
        &["why", ID],
        &["cancel", ID],
        &["cancel", ID, "--even-if-unknown"],
        &["dead", "list"],
        &["dead", "replay", ID],
        &submit,
    ];
    let started = Instant::now();
    let children = commands.map(|command| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_sourdough"));
        program.args(command).args(["--nats", &server]);
        std::thread::spawn(move || {
            program
                .output()
                .expect("the program was built with this test")
        })
    });
    for (child, command) in children.into_iter().zip(commands) {
        let output = child
            .join()
            .expect("it panics only where the program is missing");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(70), "{command:?}: {said}");
        assert!(said.contains(words), "{command:?}: {said}");
    }
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}
