//! The conversation on a shim's socket: frames of a big-endian `u32` length and JSON.
//!
//! ```text
//! client → shim   Request, Request, …            answered in order, one Reply each
//! shim → client   Reply | Event, …               events go to every control connection
//! after a Reply to Attach the connection is no longer framed:
//!     shim → client   output (Docker's stdcopy frames without a terminal, raw with one)
//!     client → shim   input, raw; closing that direction ends the input
//! ```
//!
//! No I/O here: bytes in, messages out.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use weft_sys::process::ProcessId;

use super::types::{ConsoleSize, Exit, Fault};

/// Longest frame either side takes.
pub const MAX_FRAME: usize = 1 << 20;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Run the created process.
    Start,
    /// Send a signal to the first process, or to every process of the container.
    Kill {
        /// Signal number, 1 to 64.
        signal: i32,
        /// Every process in the container's cgroup.
        #[serde(default)]
        all: bool,
    },
    /// Stop all processes of the container where they are.
    Pause,
    /// Let them go on.
    Resume,
    /// Set the terminal's size.
    Resize(ConsoleSize),
    /// Make this connection a stream of the process's input and output.
    Attach(Attach),
    /// Close the process's standard input once all given input is written.
    CloseStdin,
    /// Tell what is known.
    State,
    /// Change resource limits: an OCI `LinuxResources` object.
    Update(serde_json::Value),
}

/// Which streams an attached client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attach {
    /// Give input.
    #[serde(default)]
    pub stdin: bool,
    /// Take standard output (with a terminal: all output).
    #[serde(default)]
    pub stdout: bool,
    /// Take standard error.
    #[serde(default)]
    pub stderr: bool,
}

/// Where a process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The runtime is at work.
    Creating,
    /// Ready to start.
    Created,
    /// Started.
    Running,
    /// Ended.
    Stopped,
}

/// Answer to [`Request::State`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Where it is in its life.
    pub phase: Phase,
    /// The first process, once there is one.
    #[serde(default)]
    pub init: Option<ProcessId>,
    /// Whether it is paused.
    #[serde(default)]
    pub paused: bool,
    /// Whether the kernel has killed one of its processes for lack of memory.
    #[serde(default)]
    pub oom_killed: bool,
}

/// What a request is answered with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done.
    Done,
    /// Done, and this is the process.
    Started(Option<ProcessId>),
    /// The state.
    State(State),
    /// Refused or failed.
    Fault(Fault),
}

/// What a client is told unasked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The process is there and waits for `Start` (an exec has none before that).
    Created(Option<ProcessId>),
    /// It could not be made; the shim ends.
    Failed(Fault),
    /// The kernel killed a process of the container for lack of memory.
    Oom,
    /// It ended, its output is written, its runtime state and cgroup are gone; the shim ends.
    Exited(Exit),
}

/// One message from the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The answer to the oldest unanswered request of this connection.
    Reply(Reply),
    /// News.
    Event(Event),
}

/// Appends one frame to `out`.
pub fn encode<T: Serialize>(message: &T, out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    // Our messages are plain structs with string keys: JSON cannot refuse them, and a Vec takes all writes.
    if serde_json::to_writer(&mut *out, message).is_err() {
        out.truncate(at);
        return;
    }
    let len = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&len.to_be_bytes());
}

/// Why a frame was refused; the connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length field is larger than [`MAX_FRAME`].
    #[error("a frame of {0} bytes is longer than allowed")]
    TooLong(usize),
    /// The content is not a known message.
    #[error("unreadable frame")]
    Json(#[from] serde_json::Error),
}

/// Takes the first whole frame off the front of `buffer`; `None` when more bytes are needed. What follows the
/// frame stays in the buffer.
///
/// # Errors
/// [`FrameError`].
pub fn decode<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> Result<Option<T>, FrameError> {
    let Some((head, rest)) = buffer.split_first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_be_bytes(*head) as usize;
    if len > MAX_FRAME {
        return Err(FrameError::TooLong(len));
    }
    let Some(body) = rest.get(..len) else { return Ok(None) };
    let message = serde_json::from_slice(body)?;
    buffer.drain(..4 + len);
    Ok(Some(message))
}

/// Docker's multiplexed stream header: stream number, three zeros, big-endian length (Engine API, "Stream
/// format" of `ContainerAttach`).
#[must_use]
pub fn stdcopy_header(stream: u8, len: usize) -> [u8; 8] {
    let [a, b, c, d] = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    [stream, 0, 0, 0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let messages = vec![
            Request::Start,
            Request::Kill { signal: 9, all: true },
            Request::Attach(Attach { stdin: true, stdout: true, stderr: false }),
            Request::Update(serde_json::json!({"memory": {"limit": 1}})),
        ];
        let mut bytes = Vec::new();
        for message in &messages {
            encode(message, &mut bytes);
        }
        for step in [1, 3, 7, bytes.len()] {
            let (mut buffer, mut seen) = (Vec::new(), Vec::new());
            for piece in bytes.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(message) = decode::<Request>(&mut buffer).expect("frame") {
                    seen.push(message);
                }
            }
            assert_eq!(seen, messages, "cut every {step} bytes");
        }
    }

    #[test]
    fn bad_frames_are_refused() {
        let mut long = vec![0xff; 8];
        assert!(matches!(decode::<Request>(&mut long), Err(FrameError::TooLong(_))));
        let mut garbage = vec![0, 0, 0, 2, b'{', b'x'];
        assert!(matches!(decode::<Request>(&mut garbage), Err(FrameError::Json(_))));
    }

    #[test]
    fn header_is_dockers() {
        assert_eq!(stdcopy_header(2, 0x0102), [2, 0, 0, 0, 0, 0, 1, 2]);
    }
}

#[cfg(test)]
mod fuzz_tests {
    use super::*;

    #[test]
    fn fuzz_shim_frames() {
        let mut seeds = Vec::new();
        for request in
            [Request::Start, Request::Kill { signal: 9, all: true }, Request::Attach(Attach::default())]
        {
            let mut frame = Vec::new();
            encode(&request, &mut frame);
            encode(&request, &mut frame);
            seeds.push(frame);
        }
        weft_testkit::fuzz::run(
            "shim-frames",
            &seeds,
            &["\"start\"", "{\"kill\":", "\0\0\0\u{4}", "null"],
            |input| {
                let mut buffer = input.to_vec();
                let mut left = buffer.len();
                while let Ok(Some(_)) = decode::<Request>(&mut buffer) {
                    assert!(buffer.len() < left, "a frame that uses nothing");
                    left = buffer.len();
                }
            },
        );
    }
}
