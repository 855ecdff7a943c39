//! How much of what a peer sends is handed to the server: one request at a time, and no further one before its answer is over.
//!
//! actix-http decodes all requests that it has received, at some 7 KiB of memory each, before it looks at its limit for them: a peer that sends
//! requests and reads no answers would cost megabytes. So a connection keeps what is too early, up to [`AHEAD`] bytes, and leaves the
//! rest to the system, which then holds up the peer.
//!
//! * [`Flow`] – what is known of a connection's requests: the app [begins](Flow::begin) one, and it lasts until its [`Busy`] is dropped,
//!   which a long answer keeps with it.
//! * [`Intake`] – the bytes that have been read and are not handed over yet.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

/// How many bytes are kept.
pub(super) const AHEAD: usize = 8 * 1024;
/// How many heads of requests are handed over at once behind a body of unknown length, where they cannot be told from the body's own bytes.
const HEADS: usize = 4;

/// The body that a request announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes; often none.
    Bytes(u64),
    /// It ends where it says so.
    Chunked,
}

/// Which bytes may be handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The head of a request.
    Head,
    /// So many bytes of a body. Once there are none, nothing until the answer is over.
    Body(u64),
    /// A body of unknown length, and what is behind it.
    Chunked,
}

/// The requests of a connection, for both sides: who reads it and who answers. Everything of a connection is on one thread.
#[derive(Clone, Debug)]
pub(super) struct Flow(Rc<State>);

#[derive(Debug)]
struct State {
    mode: Cell<Mode>,
    busy: Cell<bool>,
    /// Bytes handed over since the end of the last head.
    behind_head: Cell<u64>,
    reader: RefCell<Option<Waker>>,
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Busy(Flow);

impl Default for Flow {
    fn default() -> Flow {
        let (mode, busy, behind_head) = (Cell::new(Mode::Head), Cell::new(false), Cell::new(0));
        Flow(Rc::new(State { mode, busy, behind_head, reader: RefCell::default() }))
    }
}

impl Flow {
    /// A request is about to be answered: what is behind it has time until that is over.
    pub fn begin(&self, body: Body) -> Busy {
        self.0.busy.set(true);
        self.0.mode.set(match body {
            // Some of it was behind the head.
            Body::Bytes(bytes) => Mode::Body(bytes.saturating_sub(self.0.behind_head.take())),
            Body::Chunked => Mode::Chunked,
        });
        Busy(self.clone())
    }

    /// Wakes the reader once there may be something to hand over.
    pub fn wait(&self, cx: &Context<'_>) {
        let mut reader = self.0.reader.borrow_mut();
        if reader.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
            *reader = Some(cx.waker().clone());
        }
    }

    fn mode(&self) -> Mode {
        match self.0.mode.get() {
            Mode::Body(0) if !self.0.busy.get() => Mode::Head,
            mode => mode,
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let state = &self.0.0;
        state.busy.set(false);
        if let Some(reader) = state.reader.borrow_mut().take() {
            reader.wake();
        }
    }
}

/// Bytes that were read and not handed over.
#[derive(Debug, Default)]
pub(super) struct Intake {
    bytes: Vec<u8>,
    /// The last byte but carriage returns ended a line.
    line_ended: bool,
    /// A head was handed over: the server has to look at it before there is more.
    pause: bool,
}

impl Intake {
    /// How many bytes may be read.
    pub fn room(&self) -> usize {
        AHEAD.saturating_sub(self.bytes.len())
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether the server has to be let go on before anything else. Says so once.
    pub fn pauses(&mut self) -> bool {
        std::mem::take(&mut self.pause)
    }

    /// The bytes that may be handed over now, up to `most` of them; none: the request before has to be answered first.
    pub fn take(&mut self, flow: &Flow, most: usize) -> Vec<u8> {
        let offered = &self.bytes[..self.bytes.len().min(most)];
        let count = match flow.mode() {
            Mode::Body(left) => {
                let count = offered.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                flow.0.mode.set(Mode::Body(left - count as u64));
                count
            }
            Mode::Head => {
                flow.0.mode.set(Mode::Head);
                self.heads(flow, offered.len(), 1)
            }
            Mode::Chunked => self.heads(flow, offered.len(), HEADS),
        };
        if count == 0 {
            return Vec::new();
        }
        let rest = self.bytes.split_off(count);
        std::mem::replace(&mut self.bytes, rest)
    }

    /// How many of the first bytes hold no more than so many heads of requests, as far as can be seen: an empty line may be part of a body.
    /// What is behind the last head goes along if it holds none.
    fn heads(&mut self, flow: &Flow, offered: usize, most: usize) -> usize {
        let (mut line_ended, mut found, mut end) = (self.line_ended, 0, 0);
        for (at, byte) in self.bytes[..offered].iter().enumerate() {
            match byte {
                b'\n' if line_ended => {
                    if found == most {
                        // Up to the end of the last head that is allowed.
                        self.line_ended = false;
                        self.pause = true;
                        flow.0.behind_head.set(0);
                        return end;
                    }
                    (found, end, line_ended) = (found + 1, at + 1, false);
                }
                b'\n' => line_ended = true,
                b'\r' => {}
                _ => line_ended = false,
            }
        }
        self.line_ended = line_ended;
        self.pause = found > 0;
        let behind = (offered - end) as u64;
        flow.0.behind_head.set(if found > 0 { behind } else { flow.0.behind_head.get() + behind });
        offered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(intake: &mut Intake, flow: &Flow) -> String {
        String::from_utf8(intake.take(flow, usize::MAX)).unwrap()
    }

    #[test]
    fn requests_are_handed_over_one_at_a_time() {
        let (mut intake, flow) = (Intake::default(), Flow::default());
        intake.push(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\n\nGET /c");
        assert_eq!(taken(&mut intake, &flow), "GET /a HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(intake.pauses() && !intake.pauses());
        let busy = flow.begin(Body::Bytes(0));
        assert_eq!(taken(&mut intake, &flow), "");
        drop(busy);
        assert_eq!(taken(&mut intake, &flow), "GET /b HTTP/1.1\n\nGET /c", "what is behind is no whole request");
        let busy = flow.begin(Body::Bytes(0));
        intake.push(b" HTTP/1.1\r\n\r\n");
        assert_eq!(taken(&mut intake, &flow), "");
        drop(busy);
        assert_eq!(taken(&mut intake, &flow), " HTTP/1.1\r\n\r\n");
    }

    #[test]
    fn a_body_is_handed_over_to_its_end_and_no_further() {
        let (mut intake, flow) = (Intake::default(), Flow::default());
        intake.push(b"POST /a HTTP/1.1\r\ncontent-length: 9\r\n\r\n{1}");
        assert!(taken(&mut intake, &flow).ends_with("{1}"), "the common case takes one turn");
        let busy = flow.begin(Body::Bytes(9));
        intake.push(b"\n\n\n\n{2GET /b HTTP/1.1\r\n\r\n");
        assert_eq!(taken(&mut intake, &flow), "\n\n\n\n{2");
        assert_eq!(taken(&mut intake, &flow), "");
        drop(busy);
        assert_eq!(taken(&mut intake, &flow), "GET /b HTTP/1.1\r\n\r\n");

        // A body that holds empty lines is told from a request, and one that is answered early goes on to its end.
        let busy = flow.begin(Body::Bytes(0));
        intake.push(b"POST /c HTTP/1.1\r\n\r\n\n\nGET / HTTP/1.1\n\n.");
        drop(busy);
        assert_eq!(taken(&mut intake, &flow), "POST /c HTTP/1.1\r\n\r\n");
        drop(flow.begin(Body::Bytes(19)));
        assert_eq!(taken(&mut intake, &flow), "\n\nGET / HTTP/1.1\n\n.");
    }

    #[test]
    fn a_chunked_body_and_what_is_behind_it_go_a_few_heads_at_a_time() {
        let (mut intake, flow) = (Intake::default(), Flow::default());
        intake.push(b"POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        let first = taken(&mut intake, &flow);
        assert!(first.ends_with("chunked\r\n\r\n"), "{first}");
        let _busy = flow.begin(Body::Chunked);
        assert_eq!(taken(&mut intake, &flow), "3\r\nabc\r\n0\r\n\r\n");
        intake.push("GET / HTTP/1.1\n\n".repeat(100).as_bytes());
        assert_eq!(taken(&mut intake, &flow), "GET / HTTP/1.1\n\n".repeat(HEADS));
    }

    #[test]
    fn the_end_of_a_head_is_found_across_pieces() {
        let (mut intake, flow) = (Intake::default(), Flow::default());
        let text = b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n";
        let mut heads = String::new();
        for byte in text {
            intake.push(&[*byte]);
            heads.push_str(&taken(&mut intake, &flow));
            if intake.pauses() {
                drop(flow.begin(Body::Bytes(0)));
                heads.push('|');
            }
        }
        assert_eq!(heads, "GET /a HTTP/1.1\r\n\r\n|GET /b HTTP/1.1\r\n\r\n|");
    }
}
