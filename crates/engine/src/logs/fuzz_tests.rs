//! Logs that were torn, or written by another program.

use bytes::Bytes;
use weft_base::Timestamp;
use weft_testkit::fuzz;

use super::{
    decode::{Decoder, Format},
    lines::Line,
    local,
    time::TimeParser,
    types::{LogEntry, Stream},
};

fn decode(format: Format, input: &[u8]) {
    let mut decoder = Decoder::new(format);
    let (chunk, mut at, mut rounds) = (Bytes::copy_from_slice(input), 0, 0);
    let mut sum = 0;
    loop {
        let used = decoder.decode(&chunk.slice(at..), &mut |entry: LogEntry| sum += entry.line.len());
        at += used;
        rounds += 1;
        assert!(at <= input.len() && rounds <= input.len() + 1, "no end of it");
        if used == 0 {
            break;
        }
    }
    assert!(sum <= input.len() * 3 + 16, "more came out than could be in it: {sum} of {}", input.len());
}

#[test]
fn fuzz_json_log() {
    let seeds = [
        r#"{"log":"a\\n\\u00e9\\\\","stream":"stdout","time":"2026-01-02T03:04:05.678901234Z"}"#.to_owned()
            + "\n",
        r#"{"log":"x","stream":"stderr","attrs":{"a":"b"},"time":"2026-01-02T03:04:05Z"}"#.to_owned() + "\n",
    ];
    let words =
        ["\\u", "\\ud800", "\\n", "\"", "\n", "\",\"stream\":\"stdout\"", ",\"attrs\":{", "{\"log\":\""];
    fuzz::run("log-json", &seeds.map(String::into_bytes), &words, |input| decode(Format::Json, input));
}

#[test]
fn fuzz_local_log() {
    let mut seed = local::header("{\"a\":\"b\"}");
    for text in ["first", "", "third\n"] {
        let at = Timestamp::from_unix(1_700_000_000, 5).unwrap();
        let line = Line { text: text.as_bytes(), stream: Stream::Stderr, part: None, at };
        local::push(&mut seed, &line);
    }
    fuzz::run("log-local", &[seed], &["\0\0\0\0", "\u{7f}\u{7f}"], |input| {
        decode(Format::Local, input);
        let _ = local::size_of_last(input);
        let _ = local::read_header(input);
    });
}

#[test]
fn fuzz_log_times() {
    let seeds = ["2026-01-02T03:04:05.678901234Z", "2026-12-31T23:59:60+14:00", "1970-01-01T00:00:00Z"];
    fuzz::run("log-times", &seeds.map(|s| s.as_bytes().to_vec()), &["-", ":", ".", "Z", "+00:00"], |input| {
        let mut times = TimeParser::default();
        for part in input.split(|b| *b == b' ') {
            let _ = times.parse(part);
        }
    });
}
