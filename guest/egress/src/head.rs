//! The head of a request: read within bounds, and understood as a `CONNECT` or not at all.
//!
//! ```text
//! CONNECT registry.example:443 HTTP/1.1 CRLF       or HTTP/1.0
//! *( field-name ":" field-value CRLF )
//! CRLF
//! ```
//!
//! Header fields are checked for form and otherwise ignored: nothing in them can change where a tunnel leads.

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

use crate::endpoint::Endpoint;
use crate::limits;
use crate::reason::Reason;

/// Ends the last line of a head and the empty line after it.
const END: &[u8] = b"\r\n\r\n";

/// A request for a tunnel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) endpoint: Endpoint,
    /// What the client sent behind the head without waiting for the answer: the first bytes of the tunnel.
    pub(crate) rest: Vec<u8>,
}

/// Reads one head from `stream`; `None` if the stream ends before it began.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Head>, Reason> {
    let mut bytes = Vec::with_capacity(limits::HEAD_BYTES);
    let end = match timeout(limits::HEAD_DEADLINE, read_to_end(stream, &mut bytes)).await {
        Ok(Ok(end)) => end,
        Ok(Err(_)) if bytes.is_empty() => return Ok(None),
        Ok(Err(reason)) => return Err(reason),
        Err(_elapsed) => return Err(Reason::HeadTimeout),
    };
    let rest = bytes.split_off(end);
    Ok(Some(Head {
        endpoint: parse(&bytes)?,
        rest,
    }))
}

/// Fills `bytes` until a whole head is in it, and tells where it ends.
async fn read_to_end(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
) -> Result<usize, Reason> {
    loop {
        if let Some(start) = bytes.windows(END.len()).position(|window| window == END) {
            return Ok(start + END.len());
        }
        let room = limits::HEAD_BYTES - bytes.len();
        if room == 0 {
            return Err(Reason::HeadTooLong);
        }
        let read = stream.take(room as u64).read_buf(bytes).await;
        if read.map_err(|_| Reason::Malformed)? == 0 {
            return Err(Reason::Malformed);
        }
    }
}

/// Understands a whole head, the empty line included.
fn parse(head: &[u8]) -> Result<Endpoint, Reason> {
    let text = std::str::from_utf8(head).map_err(|_| Reason::Malformed)?;
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let request = lines.next().ok_or(Reason::Malformed)?;
    if !lines.all(is_field) {
        return Err(Reason::Malformed);
    }
    parse_request_line(request)
}

fn parse_request_line(line: &str) -> Result<Endpoint, Reason> {
    let parts: Vec<&str> = line.split(' ').collect();
    match parts[..] {
        // Python's own client says 1.0 before version 3.12, and with it pip. A tunnel is the same in both.
        [method, target, "HTTP/1.1" | "HTTP/1.0"] if is_token(method) => {
            if method != "CONNECT" {
                return Err(Reason::NotConnect);
            }
            target.parse().map_err(Reason::BadTarget)
        }
        _ => Err(Reason::Malformed),
    }
}

/// A header field in one line, without control characters (RFC 9112, section 5; obsolete line folding is refused there).
fn is_field(line: &str) -> bool {
    line.split_once(':').is_some_and(|(name, value)| {
        is_token(name) && value.chars().all(|char| char == '\t' || !char.is_control())
    })
}

/// RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::EndpointError;

    async fn read_all(mut bytes: &[u8]) -> Result<Option<Head>, Reason> {
        read(&mut bytes).await
    }

    #[tokio::test]
    async fn a_connect_gives_its_endpoint_and_what_followed() {
        let request =
            b"CONNECT Registry.example:443 HTTP/1.1\r\nHost: registry.example\r\n\r\nhello";
        let head = read_all(request).await.unwrap().unwrap();
        assert_eq!(head.endpoint.to_string(), "registry.example:443");
        assert_eq!(head.rest, b"hello");
    }

    #[tokio::test]
    async fn a_client_of_http_1_0_gets_its_tunnel_too() {
        let request = b"CONNECT registry.example:443 HTTP/1.0\r\n\r\n";
        let head = read_all(request).await.unwrap().unwrap();
        assert_eq!(head.endpoint.to_string(), "registry.example:443");
    }

    #[tokio::test]
    async fn a_head_may_arrive_byte_by_byte() {
        let (mut client, mut server) = tokio::io::duplex(1);
        let request = b"CONNECT registry.example:443 HTTP/1.1\r\n\r\n";
        let (head, written) = tokio::join!(read(&mut server), async {
            tokio::io::AsyncWriteExt::write_all(&mut client, request).await
        });
        written.unwrap();
        assert_eq!(head.unwrap().unwrap().rest, b"");
    }

    #[tokio::test]
    async fn a_stream_that_ends_before_it_began_asked_for_nothing() {
        assert_eq!(read_all(b"").await, Ok(None));
    }

    #[tokio::test]
    async fn any_other_method_is_not_connect() {
        for request in [
            "GET http://registry.example/ HTTP/1.1\r\n\r\n",
            "connect a.example:443 HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(
                read_all(request.as_bytes()).await,
                Err(Reason::NotConnect),
                "{request}"
            );
        }
    }

    #[tokio::test]
    async fn a_target_that_is_no_host_and_port_is_named_as_such() {
        let request = b"CONNECT someone@registry.example:443 HTTP/1.1\r\n\r\n";
        assert_eq!(
            read_all(request).await,
            Err(Reason::BadTarget(EndpointError::UserInfo))
        );
    }

    #[tokio::test]
    async fn what_is_not_http_is_malformed() {
        let cases: [&[u8]; 9] = [
            b"\r\n\r\n",
            b"CONNECT a.example:443\r\n\r\n",
            b"CONNECT a.example:443 HTTP/2.0\r\n\r\n",
            b"CONNECT  a.example:443 HTTP/1.1\r\n\r\n",
            b"CONNECT a.example:443 HTTP/1.1\r\nno colon\r\n\r\n",
            b"CONNECT a.example:443 HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
            b"CONNECT a.example:443 HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
            b"\x16\x03\x01\xff\r\n\r\n",
            b"CONNECT a.example:443 HTTP/1.1\r\n",
        ];
        for request in cases {
            assert_eq!(
                read_all(request).await,
                Err(Reason::Malformed),
                "{}",
                request.escape_ascii()
            );
        }
    }

    #[tokio::test]
    async fn a_head_of_exactly_the_limit_is_read_and_a_longer_one_refused() {
        let start = "CONNECT a.example:443 HTTP/1.1\r\nPadding: ";
        let head = |length: usize| {
            format!(
                "{start}{}\r\n\r\n",
                "x".repeat(length - start.len() - END.len())
            )
        };
        assert!(read_all(head(limits::HEAD_BYTES).as_bytes()).await.is_ok());
        assert_eq!(
            read_all(head(limits::HEAD_BYTES + 1).as_bytes()).await,
            Err(Reason::HeadTooLong)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_come_is_given_up() {
        let (_client, mut server) = tokio::io::duplex(64);
        assert_eq!(read(&mut server).await, Err(Reason::HeadTimeout));
    }
}
