//! Events on disk: two files of JSON lines, so that a replay reaches back over a restart of the daemon.
//!
//! ```text
//!   emit ──(queue, never waits)──▶ one thread ──append──▶ events.log ──full──▶ events.log.1 (the one before goes)
//!   replay ──────(same queue)────▶            ──reads both
//! ```
//!
//! Nothing is synced: an event is a hint for watchers, no promise, and what a power failure takes is lost. A line that a
//! crash cut short is skipped, and the next one begins on a line of its own.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use weft_model::Event;

/// Bytes of a file before it is put aside; about ten thousand events.
const FULL: u64 = 4 << 20;
/// The last line is looked for in so many bytes at the end.
const TAIL: u64 = 64 << 10;

/// One line.
#[derive(Serialize, Deserialize)]
pub(crate) struct Line<E> {
    /// Counts all events of this host; says where memory and disk meet.
    pub seq: u64,
    pub event: E,
}

enum Job {
    Append(u64, Arc<Event>),
    Read { below: u64, wanted: Box<dyn Fn(&Event) -> bool + Send>, answer: oneshot::Sender<Vec<Arc<Event>>> },
}

/// The journal of one host. Dropped, it writes what is queued.
pub(crate) struct Journal {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Journal {
    /// Opens or makes it; answers the number of its next event.
    pub fn open(path: &Path) -> io::Result<(Self, u64)> {
        let mut files = Files::open(path, FULL)?;
        let next = files.last_seq().map_or(0, |seq| seq + 1);
        let (jobs, queue) = mpsc::channel();
        let writer =
            std::thread::Builder::new().name("weft-events".into()).spawn(move || files.serve(&queue))?;
        Ok((Self { jobs: Mutex::new(Some(jobs)), writer: Mutex::new(Some(writer)) }, next))
    }

    pub fn append(&self, seq: u64, event: Arc<Event>) {
        self.send(Job::Append(seq, event));
    }

    /// Events with numbers below `below` that are `wanted`, oldest first; whatever was appended before is among them.
    pub async fn read(
        &self,
        below: u64,
        wanted: impl Fn(&Event) -> bool + Send + 'static,
    ) -> Vec<Arc<Event>> {
        let (answer, coming) = oneshot::channel();
        self.send(Job::Read { below, wanted: Box::new(wanted), answer });
        coming.await.unwrap_or_default()
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &*self.jobs.lock() {
            // The thread ends only with the sender.
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.jobs.lock().take();
        if let Some(writer) = self.writer.lock().take() {
            let _ = writer.join();
        }
    }
}

struct Files {
    path: PathBuf,
    file: File,
    len: u64,
    full: u64,
    failing: bool,
}

impl Files {
    fn open(path: &Path, full: u64) -> io::Result<Self> {
        let mut file = File::options().create(true).append(true).read(true).mode(0o600).open(path)?;
        let mut len = file.metadata()?.len();
        if len > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                len += 1;
            }
        }
        Ok(Self { path: path.to_owned(), file, len, full, failing: false })
    }

    fn aside(&self) -> PathBuf {
        self.path.with_extension("log.1")
    }

    fn last_seq(&self) -> Option<u64> {
        let last = |path: &Path| -> Option<u64> {
            let mut file = File::open(path).ok()?;
            let len = file.metadata().ok()?.len();
            file.seek(SeekFrom::Start(len.saturating_sub(TAIL))).ok()?;
            let mut text = Vec::new();
            file.read_to_end(&mut text).ok()?;
            let seq = |line: &[u8]| {
                serde_json::from_slice::<Line<serde::de::IgnoredAny>>(line).ok().map(|line| line.seq)
            };
            text.rsplit(|b| *b == b'\n').find_map(seq)
        };
        last(&self.path).or_else(|| last(&self.aside()))
    }

    fn serve(&mut self, queue: &mpsc::Receiver<Job>) {
        while let Ok(job) = queue.recv() {
            match job {
                Job::Append(seq, event) => {
                    let done = self.append(seq, &event);
                    // Said once, not for each event of a full disk.
                    if let (Err(error), false) = (&done, self.failing) {
                        tracing::warn!(%error, path = %self.path.display(), "events cannot be kept on disk");
                    }
                    self.failing = done.is_err();
                }
                Job::Read { below, wanted, answer } => {
                    let _ = answer.send(self.read(below, &*wanted));
                }
            }
        }
    }

    fn append(&mut self, seq: u64, event: &Event) -> io::Result<()> {
        if self.len >= self.full {
            fs::rename(&self.path, self.aside())?;
            *self = Self::open(&self.path, self.full)?;
        }
        let mut line = serde_json::to_vec(&Line { seq, event })?;
        line.push(b'\n');
        self.len += line.len() as u64;
        self.file.write_all(&line)
    }

    fn read(&self, below: u64, wanted: &dyn Fn(&Event) -> bool) -> Vec<Arc<Event>> {
        let mut found = Vec::new();
        for path in [self.aside(), self.path.clone()] {
            let Ok(file) = File::open(path) else { continue };
            for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
                let Ok(line) = serde_json::from_slice::<Line<Event>>(&line) else { continue };
                if line.seq < below && wanted(&line.event) {
                    found.push(Arc::new(line.event));
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use weft_base::Timestamp;
    use weft_model::{EventKind, default_project};

    use super::*;

    fn event(n: u64) -> Event {
        Event {
            at: Timestamp::from_unix(1000 + i64::try_from(n).unwrap(), 5).unwrap(),
            kind: EventKind::Container,
            action: format!("e{n}"),
            id: "x".into(),
            attributes: [("name".to_owned(), "line\nbreak".to_owned())].into(),
            project: default_project(),
        }
    }

    fn actions(events: &[Arc<Event>]) -> Vec<&str> {
        events.iter().map(|e| e.action.as_str()).collect()
    }

    #[tokio::test]
    async fn what_was_written_is_there_after_a_restart_even_behind_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.log");
        let (journal, next) = Journal::open(&path).unwrap();
        assert_eq!(next, 0);
        (0..3).for_each(|n| journal.append(n, Arc::new(event(n))));
        let all = journal.read(u64::MAX, |_| true).await;
        assert_eq!(*all[1], event(1));
        drop(journal);
        // A crash in the middle of a line.
        File::options().append(true).open(&path).unwrap().write_all(br#"{"seq":3,"ev"#).unwrap();
        let (journal, next) = Journal::open(&path).unwrap();
        assert_eq!(next, 3);
        journal.append(3, Arc::new(event(7)));
        assert_eq!(actions(&journal.read(4, |_| true).await), ["e0", "e1", "e2", "e7"]);
        assert_eq!(actions(&journal.read(2, |e| e.action != "e0").await), ["e1"]);
    }

    #[test]
    fn files_are_put_aside_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.log");
        let mut files = Files::open(&path, 1000).unwrap();
        for n in 0..100 {
            files.append(n, &event(n)).unwrap();
        }
        let kept = files.read(u64::MAX, &|_| true);
        assert_eq!(kept.last().unwrap().action, "e99");
        assert!(kept.len() > 3 && kept.len() < 20, "{}", kept.len());
        assert_eq!(Files::open(&path, 1000).unwrap().last_seq(), Some(99));
        let sizes = [path.clone(), path.with_extension("log.1")].map(|p| p.metadata().unwrap().len());
        assert!(sizes.iter().all(|s| *s < 1400), "{sizes:?}");
    }
}
