//! The bounds and counts of the queue, and sinks that block, fail or panic.

use std::sync::mpsc;

use super::*;

const SOON: Duration = Duration::from_secs(20);

/// Handles each line as the test says.
struct Sink<F>(F);

impl<F: FnMut(&[u8]) -> io::Result<usize>> Write for Sink<F> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        (self.0)(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_stay_in_order_with_short_writes() {
    let (sender, written) = mpsc::channel();
    let mut calls = 0;
    let lines = Lines::to(Sink(move |line: &[u8]| {
        calls += 1;
        match calls % 3 {
            0 => Err(ErrorKind::Interrupted.into()),
            1 => Err(ErrorKind::WouldBlock.into()),
            _ => {
                sender.send(line[0]).unwrap();
                Ok(1)
            }
        }
    }));
    (&lines).write_all(b"one\n").unwrap();
    lines.push(b"two\n".to_vec());
    lines.flush(SOON);
    assert_eq!(written.try_iter().collect::<Vec<u8>>(), b"one\ntwo\n");
    assert_eq!(lines.dropped(), Dropped { full: 0, failed: 0 });
}

#[test]
fn a_blocked_sink_blocks_no_caller_and_the_queue_stays_bounded() {
    let (release, held) = mpsc::channel::<()>();
    let (began, begins) = mpsc::channel();
    let lines = Lines::to(Sink(move |line: &[u8]| {
        began.send(()).unwrap();
        let _ = held.recv();
        Ok(line.len())
    }));
    lines.push(b"held\n".to_vec());
    begins.recv_timeout(SOON).expect("the thread writes it");
    for _ in 0..MAX_LINES + 3 {
        lines.push(b"x\n".to_vec());
    }
    assert_eq!(lines.dropped(), Dropped { full: 3, failed: 0 });
    lines.flush(Duration::from_millis(1));
    drop(release);
    lines.flush(SOON);
    lines.push(vec![b'x'; MAX_BYTES + 1]);
    assert_eq!(lines.dropped(), Dropped { full: 4, failed: 0 }, "one line exceeds the byte bound");
    lines.push(vec![b'x'; MAX_BYTES]);
    lines.flush(SOON);
    assert_eq!(lines.dropped(), Dropped { full: 4, failed: 0 });
}

#[test]
fn a_sink_that_fails_or_panics_loses_one_line() {
    let (sender, written) = mpsc::channel();
    let lines = Lines::to(Sink(move |line: &[u8]| match line {
        b"fails\n" => Err(ErrorKind::BrokenPipe.into()),
        b"panics\n" => panic!("a sink that panics"),
        b"nothing\n" => Ok(0),
        line => {
            sender.send(line.to_vec()).unwrap();
            Ok(line.len())
        }
    }));
    for line in ["fails\n", "panics\n", "nothing\n", "good\n"] {
        lines.push(line.into());
    }
    assert_eq!(written.recv_timeout(SOON).expect("the thread goes on"), b"good\n");
    lines.flush(SOON);
    assert_eq!(lines.dropped(), Dropped { full: 0, failed: 3 });
}
