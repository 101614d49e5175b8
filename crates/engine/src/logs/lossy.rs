//! `mode=non-blocking`: lines wait in a bounded queue for a thread that hands them to the driver, so that a slow driver
//! never holds the container up. A line that finds the queue full is dropped, as by Docker's `ringLogger`; the queue always
//! takes one line, however long.
//!
//! The thread is started with the first line. A shim clones its container's process while it has one thread only, and by
//! the first line that has happened.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
};

use weft_base::Timestamp;

use super::{
    lines::{Line, Part},
    types::Stream,
    writer::Driver,
};

/// The thread's stack: a driver needs little.
const STACK: usize = 128 << 10;

struct Owned {
    stream: Stream,
    at: Timestamp,
    text: Vec<u8>,
    part: Option<Part>,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Owned>,
    bytes: u64,
    over: bool,
    /// The driver is to be flushed though no line came.
    flush: bool,
    failure: Option<io::Error>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    news: Condvar,
}

enum Writer<D> {
    /// Nothing was logged yet.
    Idle(Option<D>),
    Running(JoinHandle<()>),
}

pub(super) struct Lossy<D> {
    max: u64,
    shared: Arc<Shared>,
    writer: Writer<D>,
}

impl<D: Driver + 'static> Lossy<D> {
    /// At most `max` bytes wait for `driver`.
    pub fn new(driver: D, max: u64) -> Self {
        Self { max, shared: Arc::default(), writer: Writer::Idle(Some(driver)) }
    }

    fn begin(&mut self) -> io::Result<()> {
        let Writer::Idle(idle) = &mut self.writer else { return Ok(()) };
        let Some(driver) = idle.take() else {
            return Err(io::Error::other("the log's writer did not start"));
        };
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("log".into()).stack_size(STACK);
        self.writer = Writer::Running(thread.spawn(move || shared.serve(driver))?);
        Ok(())
    }
}

impl Shared {
    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve<D: Driver>(&self, mut driver: D) {
        loop {
            let mut queue = self.queue();
            let Some(line) = queue.lines.pop_front() else {
                if queue.over {
                    break;
                }
                queue.flush = false;
                drop(queue);
                let flushed = driver.flush();
                let mut queue = self.queue();
                queue.failure = flushed.err().or(queue.failure.take());
                let empty = |q: &mut Queue| q.lines.is_empty() && !q.over && !q.flush;
                drop(self.news.wait_while(queue, empty).unwrap_or_else(PoisonError::into_inner));
                continue;
            };
            queue.bytes -= line.text.len() as u64;
            drop(queue);
            let Owned { stream, at, text, part } = line;
            if let Err(error) = driver.line(&Line { stream, at, text: &text, part }) {
                self.queue().failure = Some(error);
            }
        }
        if let Err(error) = driver.close() {
            self.queue().failure = Some(error);
        }
    }
}

impl<D: Driver + 'static> Driver for Lossy<D> {
    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        self.begin()?;
        let mut queue = self.shared.queue();
        let size = line.text.len() as u64;
        if queue.lines.is_empty() || queue.bytes + size <= self.max {
            let Line { stream, at, text, part } = *line;
            queue.lines.push_back(Owned { stream, at, text: text.to_vec(), part });
            queue.bytes += size;
            self.shared.news.notify_one();
        }
        // What failed since the last line is told with this one.
        queue.failure.take().map_or(Ok(()), Err)
    }

    /// The thread flushes by itself when the lines are out; but it does not hear of a compression that is done.
    fn flush(&mut self) -> io::Result<()> {
        if matches!(self.writer, Writer::Running(_)) {
            self.shared.queue().flush = true;
            self.shared.news.notify_one();
        }
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.writer, Writer::Idle(None)) {
            Writer::Idle(Some(mut driver)) => driver.close(),
            Writer::Idle(None) => Ok(()),
            Writer::Running(thread) => {
                self.shared.queue().over = true;
                self.shared.news.notify_one();
                let _ = thread.join();
                self.shared.queue().failure.take().map_or(Ok(()), Err)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes a line only when it is let.
    struct Slow {
        turns: mpsc::Receiver<()>,
        seen: Arc<Mutex<Vec<String>>>,
    }

    impl Driver for Slow {
        fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
            // The sender gone means: as fast as you can.
            let _ = self.turns.recv();
            self.seen.lock().unwrap().push(String::from_utf8_lossy(line.text).into_owned());
            Ok(())
        }
    }

    fn log(sink: &mut Lossy<Slow>, text: &str) {
        let at = Timestamp::EPOCH;
        sink.line(&Line { stream: Stream::Stdout, at, text: text.as_bytes(), part: None }).unwrap();
    }

    #[test]
    fn a_stuck_driver_costs_lines_and_no_time() {
        let (turn, turns) = mpsc::channel();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut sink = Lossy::new(Slow { turns, seen: Arc::clone(&seen) }, 10);
        log(&mut sink, "first");
        // The driver holds the first one; then there is room for ten bytes.
        while !sink.shared.queue().lines.is_empty() {
            std::thread::yield_now();
        }
        for text in ["aaaa", "bbbb", "cccc", "dd"] {
            log(&mut sink, text);
        }
        drop(turn);
        sink.close().unwrap();
        assert_eq!(*seen.lock().unwrap(), ["first", "aaaa", "bbbb", "dd"]);
    }

    #[test]
    fn one_line_is_always_taken() {
        let (turn, turns) = mpsc::channel();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut sink = Lossy::new(Slow { turns, seen: Arc::clone(&seen) }, 0);
        drop(turn);
        log(&mut sink, "longer than nothing");
        sink.close().unwrap();
        assert_eq!(seen.lock().unwrap().len(), 1);
    }
}
