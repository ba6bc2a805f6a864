//! Frames: the unit of the byte stream.
//!
//! ```text
//! ┌────────────┬─────────┬─────────────┬──────────────────┐
//! │ length u32 │ kind u8 │ channel u32 │ payload (length) │   integers little-endian
//! └────────────┴─────────┴─────────────┴──────────────────┘
//! ```
//!
//! What always holds: a length above [`MAX_PAYLOAD`] or an unknown kind is an error of the whole stream, found before
//! anything is allocated for it.

use serde::{Serialize, de::DeserializeOwned};

/// Version of everything in this crate. Host and agent refuse each other where it differs: a snapshot holds its agent, and
/// the agent's digest is part of the snapshot's key, so a difference means a mistake and not an upgrade.
pub const VERSION: u16 = 2;

/// Bytes before the payload.
pub const HEADER: usize = 9;

/// Longest payload: a command with its whole environment. Job and environment definitions are at most 256 KiB each, as
/// JSON, which is longer than this encoding of the same strings.
pub const MAX_PAYLOAD: usize = 1024 * 1024;

/// Most bytes of raw data in one frame. It holds the stream for about 4 ms at the 18 MB/s that a virtio-serial port takes
/// under software emulation, so no channel waits long for another.
pub const MAX_DATA: usize = 64 * 1024;

/// Bytes of messages and data, headers included, that may be on the way in one direction of a channel before the receiver
/// has to grant more: four frames, so that a sender does not stop between a frame and its credit.
pub const WINDOW: u32 = 4 * CREDIT_STEP;

/// Consumed bytes that are worth a credit frame: one frame of data with its lane and header, a quarter of the window, so the
/// sender always has room for one.
pub const CREDIT_STEP: u32 = 64 * 1024 + 1 + 9;

/// First id of the channels that the guest opens; the host's lie below.
pub const FIRST_GUEST_CHANNEL: u32 = 1 << 31;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Opens a session; on channel 0. Payload: [`crate::Hello`].
    Hello,
    /// Opens a channel. Payload: [`crate::Open`].
    Open,
    /// A message of the channel. Payload: [`crate::ToGuest`] or [`crate::ToHost`].
    Message,
    /// Raw bytes of the channel. Payload: one byte of [`Lane`], then the bytes.
    Data,
    /// Opens the sender's window again. Payload: `u32`, bytes consumed.
    Credit,
    /// The sender says nothing more on this channel.
    Close,
    /// The channel is given up at once, both ways; what it was doing is stopped. Payload: the reason, UTF-8.
    Reset,
}

impl Kind {
    const ALL: [Kind; 7] = [
        Kind::Hello,
        Kind::Open,
        Kind::Message,
        Kind::Data,
        Kind::Credit,
        Kind::Close,
        Kind::Reset,
    ];

    fn code(self) -> u8 {
        self as u8
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Whether the payload counts against the receiver's window.
    pub fn uses_window(self) -> bool {
        match self {
            Kind::Message | Kind::Data => true,
            Kind::Hello | Kind::Open | Kind::Credit | Kind::Close | Kind::Reset => false,
        }
    }
}

/// Which of a channel's byte streams a [`Kind::Data`] frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Standard output, or the only stream there is.
    Out,
    /// Standard error.
    Err,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is for.
    pub kind: Kind,
    /// The channel it belongs to.
    pub channel: u32,
    /// Its bytes, at most [`MAX_PAYLOAD`].
    pub payload: Vec<u8>,
}

/// A stream that is not one of ours, or not one of this version.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The announced length is above [`MAX_PAYLOAD`].
    #[error("frame of {0} bytes, the limit is {MAX_PAYLOAD}")]
    TooLong(usize),
    /// No such [`Kind`].
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    /// The payload is not what the kind promises.
    #[error("malformed {0} payload")]
    Malformed(&'static str),
}

impl Frame {
    /// A frame without payload.
    pub fn empty(kind: Kind, channel: u32) -> Self {
        Self {
            kind,
            channel,
            payload: Vec::new(),
        }
    }

    /// A frame that carries a value.
    ///
    /// # Panics
    /// If the encoded value is longer than [`MAX_PAYLOAD`]: the senders bound what they put in.
    pub fn value<T: Serialize>(kind: Kind, channel: u32, value: &T) -> Self {
        let payload = postcard::to_stdvec(value).expect("our own types encode into memory");
        assert!(
            payload.len() <= MAX_PAYLOAD,
            "a {kind:?} value of {} bytes",
            payload.len()
        );
        Self {
            kind,
            channel,
            payload,
        }
    }

    /// Raw bytes; at most [`MAX_DATA`] of them.
    pub fn data(channel: u32, lane: Lane, bytes: &[u8]) -> Self {
        debug_assert!(bytes.len() <= MAX_DATA);
        let mut payload = Vec::with_capacity(bytes.len() + 1);
        payload.push(lane as u8);
        payload.extend_from_slice(bytes);
        Self {
            kind: Kind::Data,
            channel,
            payload,
        }
    }

    /// `bytes` of window given back.
    pub fn credit(channel: u32, bytes: u32) -> Self {
        Self {
            kind: Kind::Credit,
            channel,
            payload: bytes.to_le_bytes().to_vec(),
        }
    }

    /// The channel is given up.
    pub fn reset(channel: u32, reason: &str) -> Self {
        let mut end = reason.len().min(1024);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        Self {
            kind: Kind::Reset,
            channel,
            payload: reason.as_bytes()[..end].to_vec(),
        }
    }

    /// The value that [`Frame::value`] put in; bytes left over are an error.
    pub fn decode<T: DeserializeOwned>(&self, what: &'static str) -> Result<T, FrameError> {
        match postcard::take_from_bytes(&self.payload) {
            Ok((value, [])) => Ok(value),
            Ok((_, _)) | Err(_) => Err(FrameError::Malformed(what)),
        }
    }

    /// Lane and bytes of a [`Kind::Data`] frame.
    pub fn as_data(&self) -> Result<(Lane, &[u8]), FrameError> {
        match self.payload.split_first() {
            Some((0, bytes)) => Ok((Lane::Out, bytes)),
            Some((1, bytes)) => Ok((Lane::Err, bytes)),
            Some(_) | None => Err(FrameError::Malformed("data")),
        }
    }

    /// Bytes that a [`Kind::Credit`] frame gives back.
    pub fn as_credit(&self) -> Result<u32, FrameError> {
        let bytes = self.payload.as_slice().try_into();
        bytes
            .map(u32::from_le_bytes)
            .map_err(|_| FrameError::Malformed("credit"))
    }

    /// What the frame takes of the receiver's window: also its header, or a flood of tiny frames would cost next to nothing.
    pub fn window_cost(&self) -> u32 {
        if self.kind.uses_window() {
            cost_of(self.payload.len())
        } else {
            0
        }
    }

    /// Appends the frame's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let length =
            u32::try_from(self.payload.len()).expect("a payload is bounded by MAX_PAYLOAD");
        out.reserve(HEADER + self.payload.len());
        out.extend_from_slice(&length.to_le_bytes());
        out.push(self.kind.code());
        out.extend_from_slice(&self.channel.to_le_bytes());
        out.extend_from_slice(&self.payload);
    }
}

/// What a frame with a payload of `length` bytes takes of a window.
pub fn cost_of(length: usize) -> u32 {
    u32::try_from(HEADER + length).expect("a payload is bounded by MAX_PAYLOAD")
}

/// Turns bytes, in whatever pieces they come, into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; `None` until more bytes have come. After an error the stream is of no more use.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let pending = &self.buffer[self.start..];
        let Some((header, rest)) = pending.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [l0, l1, l2, l3, code, c0, c1, c2, c3] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > MAX_PAYLOAD {
            return Err(FrameError::TooLong(length));
        }
        let kind = Kind::from_code(code).ok_or(FrameError::UnknownKind(code))?;
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let channel = u32::from_le_bytes([c0, c1, c2, c3]);
        let frame = Frame {
            kind,
            channel,
            payload: payload.to_vec(),
        };
        self.start += HEADER + length;
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hello, ToHost};

    fn decode_all(decoder: &mut Decoder) -> Vec<Frame> {
        std::iter::from_fn(|| decoder.next_frame().expect("valid")).collect()
    }

    #[test]
    fn frames_come_out_whole_whatever_the_pieces() {
        let frames = vec![
            Frame::value(
                Kind::Hello,
                0,
                &Hello {
                    version: VERSION,
                    nonce: 7,
                },
            ),
            Frame::data(3, Lane::Err, b"hello"),
            Frame::credit(3, 6),
            Frame::empty(Kind::Close, 3),
            Frame::reset(4, "gone"),
        ];
        let mut bytes = Vec::new();
        for frame in &frames {
            frame.encode(&mut bytes);
        }
        for piece in [1, 2, 7, bytes.len()] {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for chunk in bytes.chunks(piece) {
                decoder.push(chunk);
                seen.extend(decode_all(&mut decoder));
            }
            assert_eq!(seen, frames, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_length_above_the_limit_is_refused_from_the_header_alone() {
        let mut decoder = Decoder::default();
        let mut header = u32::MAX.to_le_bytes().to_vec();
        header.extend([0, 0, 0, 0, 0]);
        decoder.push(&header);
        assert!(matches!(decoder.next_frame(), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn an_unknown_kind_is_refused() {
        let mut decoder = Decoder::default();
        decoder.push(&[0, 0, 0, 0, 99, 0, 0, 0, 0]);
        assert!(matches!(
            decoder.next_frame(),
            Err(FrameError::UnknownKind(99))
        ));
    }

    #[test]
    fn bytes_left_over_after_a_value_are_refused() {
        let mut frame = Frame::value(Kind::Message, 1, &ToHost::Done);
        frame.payload.push(0);
        assert!(matches!(
            frame.decode::<ToHost>("message"),
            Err(FrameError::Malformed(_))
        ));
    }

    #[test]
    fn data_needs_a_known_lane() {
        let frame = Frame {
            kind: Kind::Data,
            channel: 1,
            payload: vec![9, 1],
        };
        assert!(frame.as_data().is_err());
        assert!(Frame::empty(Kind::Data, 1).as_data().is_err());
    }

    #[test]
    fn a_reset_reason_is_cut_at_a_character() {
        let reason = "ä".repeat(2000);
        let frame = Frame::reset(1, &reason);
        assert!(frame.payload.len() <= 1024);
        assert!(std::str::from_utf8(&frame.payload).is_ok());
    }
}
