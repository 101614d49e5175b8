//! Lines to systemd's journal, by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram for
//! each entry, fields as `NAME=value`, or with a length where the value may hold a line feed.

use std::{collections::BTreeMap, io, os::unix::net::UnixDatagram, path::Path};

use super::{
    attrs,
    lines::Line,
    types::{LogFacts, Stream},
    writer::{Driver, invalid},
};

const SOCKET: &str = "/run/systemd/journal/socket";
const DEFAULT_TAG: &str = "{{.ID}}";

/// A connection to the journal.
#[derive(Debug)]
pub(super) struct Journald {
    socket: UnixDatagram,
    /// Fields common to all entries.
    common: Vec<u8>,
    epoch: String,
    ordinal: u64,
}

impl Journald {
    pub fn open(options: &BTreeMap<String, String>, facts: &LogFacts) -> io::Result<Self> {
        Self::open_at(Path::new(SOCKET), options, facts)
    }

    fn open_at(path: &Path, options: &BTreeMap<String, String>, facts: &LogFacts) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path).map_err(|e| io::Error::new(e.kind(), "journald is not enabled on this host"))?;
        let tag = attrs::tag(options, facts, DEFAULT_TAG).map_err(invalid)?;
        let epoch = weft_base::Id::<Epoch>::new().to_string();
        let mut common = Vec::new();
        for (name, value) in [
            ("CONTAINER_ID", facts.id.get(..12).unwrap_or(&facts.id)),
            ("CONTAINER_ID_FULL", &facts.id),
            ("CONTAINER_NAME", &facts.name),
            ("CONTAINER_TAG", &tag),
            ("IMAGE_NAME", &facts.image),
            ("SYSLOG_IDENTIFIER", &tag),
            ("CONTAINER_LOG_EPOCH", &epoch),
        ] {
            field(&mut common, name, value.as_bytes());
        }
        for (name, value) in attrs::collect(options, facts).map_err(invalid)? {
            field(&mut common, &field_name(&name), value.as_bytes());
        }
        Ok(Self { socket, common, epoch, ordinal: 0 })
    }
}

#[derive(Debug)]
enum Epoch {}
impl weft_base::IdKind for Epoch {
    const NOUN: &'static str = "log epoch";
}

/// The journal allows upper-case letters, digits and underscores, not at the start.
fn field_name(name: &str) -> String {
    let upper = name.chars().map(|c| c.to_ascii_uppercase());
    let clean: String = upper.map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    clean.trim_start_matches('_').to_owned()
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    if name.is_empty() {
        return;
    }
    out.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

impl Driver for Journald {
    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        self.ordinal += 1;
        let mut entry = self.common.clone();
        field(&mut entry, "MESSAGE", line.text);
        field(&mut entry, "PRIORITY", if line.stream == Stream::Stderr { b"3" } else { b"6" });
        field(&mut entry, "SYSLOG_TIMESTAMP", line.at.rfc3339_nano().as_bytes());
        field(&mut entry, "CONTAINER_LOG_ORDINAL", self.ordinal.to_string().as_bytes());
        if let Some(part) = line.part {
            let id = format!("{}{:016x}", &self.epoch[..48], part.started.unix_nanos());
            field(&mut entry, "CONTAINER_PARTIAL_ID", id.as_bytes());
            field(&mut entry, "CONTAINER_PARTIAL_ORDINAL", part.ordinal.to_string().as_bytes());
            field(&mut entry, "CONTAINER_PARTIAL_LAST", part.last.to_string().as_bytes());
            if !part.last {
                field(&mut entry, "CONTAINER_PARTIAL_MESSAGE", b"true");
            }
        }
        self.socket.send(&entry).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_base::Timestamp;

    #[test]
    fn an_entry_reaches_the_journals_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let facts = LogFacts {
            id: "ab".repeat(32),
            name: "web".into(),
            labels: [("_my.label".to_owned(), "two\nlines".to_owned())].into(),
            ..LogFacts::default()
        };
        let options = [("labels".to_owned(), "_my.label".to_owned())].into();
        let mut sink = Journald::open_at(&path, &options, &facts).unwrap();
        let at = Timestamp::from_unix(1, 0).unwrap();
        sink.line(&Line { stream: Stream::Stderr, at, text: b"hello", part: None }).unwrap();
        let mut buffer = [0; 4096];
        let n = journal.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..n]);
        for expected in [
            "CONTAINER_NAME=web\n",
            "CONTAINER_TAG=abababababab\n",
            "MESSAGE=hello\n",
            "PRIORITY=3\n",
            "MY_LABEL\n\u{9}\0\0\0\0\0\0\0two\nlines\n",
            "CONTAINER_LOG_ORDINAL=1\n",
        ] {
            assert!(text.contains(expected), "{expected:?} in {text:?}");
        }
    }

    #[test]
    fn a_host_without_a_journal_says_so() {
        let gone = Path::new("/nonexistent/socket");
        let error = Journald::open_at(gone, &BTreeMap::new(), &LogFacts::default()).unwrap_err();
        assert_eq!(error.to_string(), "journald is not enabled on this host");
    }
}
