//! A queue of lines for standard output or standard error, best effort. Callers only enqueue, and one thread writes. No
//! caller ever blocks, even if nobody reads the pipe or the disk is full.
//!
//! A line that does not fit, or cannot be written, is dropped and counted; the thread continues.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Maximum lines in the queue.
const MAX_LINES: usize = 8_192;
/// Maximum bytes in the queue.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// The wait before a retry if writing would block, as on a non-blocking pipe.
const RETRY_WAIT: Duration = Duration::from_millis(10);

/// The queue. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct Lines {
    shared: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    queue: Mutex<Queue>,
    changed: Condvar,
    full: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The thread is writing a line that is no longer in `lines`.
    writing: bool,
}

/// The number of dropped lines, by reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The queue was full.
    pub full: u64,
    /// Writing failed.
    pub failed: u64,
}

impl Lines {
    /// Starts a thread that writes to `sink`. If the system refuses a thread, the queue fills up and further lines
    /// are dropped.
    pub fn to(sink: impl Write + Send + 'static) -> Lines {
        let shared = Arc::new(Inner::default());
        let theirs = Arc::clone(&shared);
        let _ = thread::Builder::new().name("lines".to_owned()).spawn(move || theirs.write_all_to(sink));
        Lines { shared }
    }

    /// Queues a line, including its newline. Drops and counts it if the queue is full.
    pub fn push(&self, line: Vec<u8>) {
        let mut queue = self.shared.locked();
        if queue.lines.len() == MAX_LINES || queue.bytes + line.len() > MAX_BYTES {
            self.shared.full.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line);
        drop(queue);
        self.shared.changed.notify_all();
    }

    /// Waits until every queued line is written or dropped, at most `within`.
    pub fn flush(&self, within: Duration) {
        let busy = |queue: &mut Queue| queue.writing || !queue.lines.is_empty();
        let _ = self.shared.changed.wait_timeout_while(self.shared.locked(), within, busy);
    }

    /// The number of lines dropped since the start.
    pub fn dropped(&self) -> Dropped {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Dropped { full: read(&self.shared.full), failed: read(&self.shared.failed) }
    }
}

/// For the log formatter, which writes one whole line per call.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Inner {
    fn locked(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of the thread. Never returns.
    fn write_all_to(&self, mut sink: impl Write) {
        loop {
            let line = self.next();
            let written = catch_unwind(AssertUnwindSafe(|| write_line(&mut sink, &line)));
            if !matches!(written, Ok(Ok(()))) {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            self.locked().writing = false;
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut queue = self.locked();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.bytes -= line.len();
                queue.writing = true;
                return line;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn write_line(sink: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match sink.write(line) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY_WAIT),
            Err(error) => return Err(error),
        }
    }
    sink.flush()
}

#[cfg(test)]
mod tests;
