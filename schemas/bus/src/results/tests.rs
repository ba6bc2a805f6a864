//! Against a server of a few lines, since a real one's disk does not fail on request.

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const GOLDEN: &[u8] = include_bytes!("../../../examples/result.json");

/// What a server says that could not store a message, for whatever reason.
const NOT_STORED: &str = r#"{"error":{"code":503,"err_code":10077,"description":"no space left"}}"#;

/// What it says of a subject that has a message.
const WRONG_SEQUENCE: &str =
    r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 1"}}"#;

/// A connection to a server that refuses whatever is published with `refusal`, and has `stored`.
async fn refusing(refusal: &'static str, stored: Option<&'static [u8]>) -> Context {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        // It ends with the client's connection.
        let _ = serve(socket, refusal, stored).await;
    });
    let client = async_nats::connect(address.to_string()).await.unwrap();
    jetstream::new(client)
}

async fn serve(socket: TcpStream, refusal: &str, stored: Option<&[u8]>) -> std::io::Result<()> {
    let mut socket = BufReader::new(socket);
    let info = r#"INFO {"server_id":"s","version":"2.12.0","headers":true,"max_payload":1048576}"#;
    socket.write_all(format!("{info}\r\n").as_bytes()).await?;
    let mut subscription = String::new();
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["PING"] => socket.write_all(b"PONG\r\n").await?,
            ["SUB", .., id] => subscription = (*id).to_owned(),
            ["PUB" | "HPUB", subject, reply, .., length] => {
                let mut body = vec![0; length.parse::<usize>().unwrap() + 2];
                socket.read_exact(&mut body).await?;
                let answer = if subject.starts_with("$JS.API.DIRECT.GET.") {
                    direct(reply, &subscription, stored)
                } else {
                    format!(
                        "MSG {reply} {subscription} {}\r\n{refusal}\r\n",
                        refusal.len()
                    )
                    .into_bytes()
                };
                socket.write_all(&answer).await?;
            }
            _ => {}
        }
    }
}

/// The answer to a look at a message that is stored, or is not. It comes to the one subscription, that for answers.
fn direct(reply: &str, subscription: &str, stored: Option<&[u8]>) -> Vec<u8> {
    let headers = match stored {
        Some(_) => {
            "NATS/1.0\r\nNats-Stream: S\r\nNats-Subject: s\r\nNats-Sequence: 1\r\n\
             Nats-Time-Stamp: 2026-01-01T00:00:00Z\r\n\r\n"
        }
        None => "NATS/1.0 404 Message Not Found\r\n\r\n",
    };
    let body = stored.unwrap_or_default();
    let (start, length) = (headers.len(), headers.len() + body.len());
    let head = format!("HMSG {reply} {subscription} {start} {length}\r\n{headers}");
    [head.as_bytes(), body, b"\r\n"].concat()
}

fn result() -> JobResult {
    JobResult::parse(GOLDEN).unwrap()
}

#[tokio::test]
async fn a_result_that_the_server_could_not_store_is_not_taken_for_one_that_is_there() {
    for refusal in [NOT_STORED, WRONG_SEQUENCE] {
        let jetstream = refusing(refusal, None).await;
        let error = publish_once(&jetstream, &result()).await.unwrap_err();
        let ResultsError::Publish { source, .. } = error else {
            panic!("{error:?}");
        };
        assert!(may_be_there(&source), "{source:?}");
    }
}

#[tokio::test]
async fn a_result_that_is_there_is_told_whether_it_can_be_read_or_not() {
    for refusal in [NOT_STORED, WRONG_SEQUENCE] {
        for stored in [GOLDEN, b"{}"] {
            let jetstream = refusing(refusal, Some(stored)).await;
            let became = publish_once(&jetstream, &result()).await.unwrap();
            assert_eq!(became, Stored::AlreadyThere);
        }
    }
}
