//! What a program says to the NATS server, line by line, on its way there.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// 30 s: what a program is about to say, it says in milliseconds.
const LIMIT: Duration = Duration::from_secs(30);

/// A way to the server that writes down what passes.
pub(crate) struct Wire {
    /// Where the program connects.
    pub(crate) url: String,
    said: Arc<Said>,
}

#[derive(Default)]
struct Said {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Wire {
    /// To the server at `url`.
    pub(crate) fn start(url: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let server = url.strip_prefix("nats://").context("a plain address")?;
        let (server, said) = (server.to_owned(), Arc::new(Said::default()));
        let url = format!("nats://{}", listener.local_addr()?);
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            for program in listener.incoming() {
                let (server, said) = (server.clone(), Arc::clone(&heard));
                std::thread::spawn(move || pass(program?, &server, &said));
            }
        });
        Ok(Self { url, said })
    }

    /// The number that the program gave its subscription of `subject`, if it has made one.
    pub(crate) fn subscription(&self, subject: &str) -> Option<String> {
        let lines = self.said.lines.lock().expect("nobody panics with it");
        let words = lines.iter().map(|line| line.split_whitespace());
        let mut made = words.filter_map(|mut words| match (words.next(), words.next()) {
            (Some("SUB"), Some(of)) if of == subject => words.last().map(str::to_owned),
            _ => None,
        });
        made.next_back()
    }

    /// Returns once the program has said so; fails where it does not.
    pub(crate) fn said(&self, line: &str) -> Result<()> {
        let lines = self.said.lines.lock().expect("nobody panics with it");
        let missing = |lines: &mut Vec<String>| !lines.iter().any(|said| said == line);
        let waited = self.said.more.wait_timeout_while(lines, LIMIT, missing);
        let (lines, waited) = waited.expect("nobody panics with it");
        ensure!(!waited.timed_out(), "no {line} in {lines:?}");
        Ok(())
    }
}

fn pass(program: TcpStream, server: &str, said: &Said) -> io::Result<()> {
    let mut to_server = TcpStream::connect(server)?;
    let (mut answers, mut to_program) = (to_server.try_clone()?, program.try_clone()?);
    std::thread::spawn(move || io::copy(&mut answers, &mut to_program));
    let mut from_program = BufReader::new(program);
    let mut line = Vec::new();
    while from_program.read_until(b'\n', &mut line)? > 0 {
        to_server.write_all(&line)?;
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        said.lines.lock().expect("nobody panics with it").push(text);
        said.more.notify_all();
        line.clear();
    }
    Ok(())
}
