//! An interrupt while the program connects, before it has published anything.

use std::net::TcpListener;
use std::process::{Command, Stdio};

const ID: &str = "0193a6c2-7f52-7c1e-9a51-2f6f0f6d2b11";

#[test]
fn an_interrupt_before_there_is_a_connection_promises_nothing() {
    let sha256 = "ab12cd34".repeat(8);
    let uri = "https://files.example.com/a.tar.zst";
    let source = ["--archive-uri", uri, "--sha256", &sha256];
    let submit = [&["submit", "--environment", "w"][..], &source].concat();
    for command in [&submit[..], &["wait", ID], &["logs", "-f", ID]] {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("nats://{}", server.local_addr().unwrap());
        let mut program = Command::new(env!("CARGO_BIN_EXE_sourdough"));
        program.args(command).args(["--nats", &url]);
        let program = program.stderr(Stdio::piped()).spawn().unwrap();
        // It connects, and is greeted by nobody.
        let connection = server.accept().unwrap();
        let pid = program.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
        assert!(sent.success());
        let output = program.wait_with_output().unwrap();
        drop(connection);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{command:?}: {said}");
        assert!(
            said.ends_with("sourdough: interrupted\n"),
            "{command:?}: {said}"
        );
    }
}
