//! Output of a process put into frames, or taken out of them: what a client wants need not be what the process has.
//!
//! A frame is eight bytes (stream, three zeros, length as big endian) and the data (Docker Engine API, "Stream format").

use crate::shim::wire::stdcopy_header;

/// Standard output's number in a frame.
const STDOUT: u8 = 1;

/// How bytes change on their way.
pub(crate) enum Dress {
    /// They are as they are wanted.
    AsIs,
    /// Each piece becomes a frame of standard output.
    Frame(Vec<u8>),
    /// Frames lose their heads.
    Strip {
        /// Bytes of the next head so far.
        head: Vec<u8>,
        /// Bytes of the present frame that are still to come.
        left: usize,
        /// What came out.
        out: Vec<u8>,
    },
}

impl Dress {
    /// From frames or not to frames or not.
    pub(crate) fn new(from_frames: bool, to_frames: bool) -> Self {
        match (from_frames, to_frames) {
            (false, true) => Self::Frame(Vec::new()),
            (true, false) => Self::Strip { head: Vec::new(), left: 0, out: Vec::new() },
            _ => Self::AsIs,
        }
    }

    /// Passes a piece on.
    pub(crate) fn pass<'a>(&'a mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        match self {
            Self::AsIs => bytes,
            Self::Frame(out) => {
                out.clear();
                out.extend(stdcopy_header(STDOUT, bytes.len()));
                out.extend_from_slice(bytes);
                out
            }
            Self::Strip { head, left, out } => {
                out.clear();
                while !bytes.is_empty() {
                    if *left == 0 {
                        let (part, rest) = bytes.split_at(bytes.len().min(8 - head.len()));
                        head.extend_from_slice(part);
                        bytes = rest;
                        if let Some(length) = head.get(4..8).and_then(|l| l.try_into().ok()) {
                            *left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                            head.clear();
                        }
                    } else {
                        let (part, rest) = bytes.split_at(bytes.len().min(*left));
                        out.extend_from_slice(part);
                        *left -= part.len();
                        bytes = rest;
                    }
                }
                out
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_and_go_at_any_cut() {
        let mut put = Dress::new(false, true);
        let framed = [put.pass(b"one").to_vec(), put.pass(b"two two").to_vec()].concat();
        assert_eq!(&framed[..11], b"\x01\0\0\0\0\0\0\x03one");
        for cut in 1..framed.len() {
            let mut take = Dress::new(true, false);
            let plain: Vec<u8> = framed.chunks(cut).flat_map(|piece| take.pass(piece).to_vec()).collect();
            assert_eq!(plain, b"onetwo two", "{cut}");
        }
        assert_eq!(Dress::new(true, true).pass(b"x"), b"x");
    }
}
