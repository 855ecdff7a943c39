//! HTTP pipelining: passes one request at a time to the server, and the next one only after the response.
//!
//! actix-http decodes every received request, at about 7 KiB of memory each, before it applies its own limit. A peer
//! that sends requests and reads no responses would cost megabytes. A connection therefore buffers up to [`READ_AHEAD`]
//! bytes and leaves the rest to the kernel, which slows the peer down.
//!
//! * [`RequestFlow`] is the state of a connection's requests. The app [begins](RequestFlow::begin) one, which lasts
//!   until its [`ActiveRequest`] is dropped, after the end of the response.
//! * [`RequestBuffer`] holds bytes that were read but not passed on. [`RequestFraming`](super::request_framing) finds
//!   the ends of heads and bodies in them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

use super::request_framing::{ChunkScan, HeadScan};

/// Maximum buffered bytes.
pub(super) const READ_AHEAD: usize = 8 * 1024;

/// The length of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLength {
    /// From `Content-Length`, or 0.
    Bytes(u64),
    /// Unknown until the body ends.
    Chunked,
}

/// The next bytes to pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadPhase {
    /// A request head.
    Head,
    /// The remaining bytes of a body. At 0, nothing until the response ends.
    Body(u64),
    /// The rest of a chunked body.
    Chunked(ChunkScan),
}

/// The state of a connection's requests, shared by its reader and its handler on one thread.
#[derive(Clone, Debug)]
pub(super) struct RequestFlow(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    phase: Cell<ReadPhase>,
    busy: Cell<bool>,
    /// Bytes of the body that were passed on with its head.
    behind_head: Cell<u64>,
    reader: RefCell<Option<Waker>>,
}

/// A request without a complete response.
#[derive(Debug)]
pub(super) struct ActiveRequest(RequestFlow);

impl Default for RequestFlow {
    fn default() -> RequestFlow {
        let (phase, busy, behind_head) = (Cell::new(ReadPhase::Head), Cell::new(false), Cell::new(0));
        RequestFlow(Rc::new(Inner { phase, busy, behind_head, reader: RefCell::default() }))
    }
}

impl RequestFlow {
    /// Starts a request; later bytes wait until its [`ActiveRequest`] is dropped.
    pub fn begin(&self, body: BodyLength) -> ActiveRequest {
        self.0.busy.set(true);
        self.0.phase.set(match body {
            // Part of the body was passed on with the head.
            BodyLength::Bytes(bytes) => ReadPhase::Body(bytes.saturating_sub(self.0.behind_head.take())),
            BodyLength::Chunked => ReadPhase::Chunked(ChunkScan::default()),
        });
        ActiveRequest(self.clone())
    }

    /// Wakes the reader when it may be able to continue.
    pub fn wait(&self, cx: &Context<'_>) {
        let mut reader = self.0.reader.borrow_mut();
        if reader.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
            *reader = Some(cx.waker().clone());
        }
    }

    /// Whether the last request is answered, and the end of its body has not been passed on.
    pub fn is_draining(&self) -> bool {
        !self.0.busy.get() && matches!(self.0.phase.get(), ReadPhase::Body(1..) | ReadPhase::Chunked(_))
    }

    /// Whether a chunked body has more framing than any client needs: the connection must be closed.
    pub fn is_excessive(&self) -> bool {
        matches!(self.0.phase.get(), ReadPhase::Chunked(scan) if scan.is_excessive())
    }

    fn phase(&self) -> ReadPhase {
        match self.0.phase.get() {
            ReadPhase::Body(0) if !self.0.busy.get() => ReadPhase::Head,
            phase => phase,
        }
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let state = &self.0.0;
        state.busy.set(false);
        if let Some(reader) = state.reader.borrow_mut().take() {
            reader.wake();
        }
    }
}

/// Bytes that were read but not passed on.
#[derive(Debug, Default)]
pub(super) struct RequestBuffer {
    bytes: Vec<u8>,
    head: HeadScan,
    /// A head was passed on, and the server must process it before more bytes follow.
    pause: bool,
}

impl RequestBuffer {
    /// Bytes that may be read.
    pub fn room(&self) -> usize {
        READ_AHEAD.saturating_sub(self.bytes.len())
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether the server must run before more bytes follow. Clears the flag.
    pub fn take_pause(&mut self) -> bool {
        std::mem::take(&mut self.pause)
    }

    /// Removes up to `most` bytes to pass on. Empty: the current response must end first.
    pub fn take(&mut self, flow: &RequestFlow, most: usize) -> Vec<u8> {
        let most = self.bytes.len().min(most);
        let offered = &mut self.bytes[..most];
        let count = match flow.phase() {
            ReadPhase::Body(left) => {
                let count = offered.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                flow.0.phase.set(ReadPhase::Body(left - count as u64));
                count
            }
            ReadPhase::Head => {
                flow.0.phase.set(ReadPhase::Head);
                match self.head.end(offered) {
                    Some(end) => {
                        // The usual request takes one turn with its body.
                        let behind = end.body.min((most - end.at) as u64);
                        flow.0.behind_head.set(behind);
                        self.pause = true;
                        end.at + usize::try_from(behind).unwrap_or(0)
                    }
                    None => most,
                }
            }
            ReadPhase::Chunked(mut scan) => {
                let end = scan.end(offered);
                flow.0.phase.set(match end {
                    Some(_) => ReadPhase::Body(0),
                    None => ReadPhase::Chunked(scan),
                });
                end.unwrap_or(most)
            }
        };
        if count == 0 {
            return Vec::new();
        }
        let rest = self.bytes.split_off(count);
        std::mem::replace(&mut self.bytes, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(buffer: &mut RequestBuffer, flow: &RequestFlow) -> String {
        String::from_utf8(buffer.take(flow, usize::MAX)).unwrap()
    }

    #[test]
    fn requests_are_passed_on_one_at_a_time() {
        let (mut buffer, flow) = (RequestBuffer::default(), RequestFlow::default());
        buffer.push(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\n\r\nGET /c");
        assert_eq!(taken(&mut buffer, &flow), "GET /a HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(buffer.take_pause() && !buffer.take_pause());
        let busy = flow.begin(BodyLength::Bytes(0));
        assert_eq!(taken(&mut buffer, &flow), "");
        drop(busy);
        assert_eq!(taken(&mut buffer, &flow), "GET /b HTTP/1.1\r\n\r\n");
        let busy = flow.begin(BodyLength::Bytes(0));
        buffer.push(b" HTTP/1.1\r\n\r\n");
        assert_eq!(taken(&mut buffer, &flow), "");
        drop(busy);
        assert_eq!(taken(&mut buffer, &flow), "GET /c HTTP/1.1\r\n\r\n");
    }

    #[test]
    fn a_body_is_passed_on_to_its_end_and_no_further() {
        let (mut buffer, flow) = (RequestBuffer::default(), RequestFlow::default());
        buffer.push(b"POST /a HTTP/1.1\r\nContent-Length: 9\r\n\r\n{1}");
        assert!(taken(&mut buffer, &flow).ends_with("{1}"), "the common case takes one turn");
        let busy = flow.begin(BodyLength::Bytes(9));
        buffer.push(b"\n\n\n\n{2GET /b HTTP/1.1\r\n\r\n");
        assert_eq!(taken(&mut buffer, &flow), "\n\n\n\n{2");
        assert_eq!(taken(&mut buffer, &flow), "");
        drop(busy);
        assert_eq!(taken(&mut buffer, &flow), "GET /b HTTP/1.1\r\n\r\n");

        // A body with empty lines is not mistaken for a request, and a body that is answered early is still passed on
        // to its end.
        let busy = flow.begin(BodyLength::Bytes(0));
        buffer.push(b"POST /c HTTP/1.1\r\n\r\n\n\nGET / HTTP/1.1\n\n.");
        drop(busy);
        assert_eq!(taken(&mut buffer, &flow), "POST /c HTTP/1.1\r\n\r\n");
        drop(flow.begin(BodyLength::Bytes(19)));
        assert_eq!(taken(&mut buffer, &flow), "\n\nGET / HTTP/1.1\n\n.");
    }

    #[test]
    fn a_chunked_body_ends_before_the_next_request() {
        let (mut buffer, flow) = (RequestBuffer::default(), RequestFlow::default());
        let body = "3\r\na\n\n\r\n1;x=y\r\n\r\r\n0\r\n\r\n";
        for piece in [1, 3, 1_000] {
            let text = format!("POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{body}GET /b HTTP/1.1\r\n\r\n");
            let (mut passed, mut busy) = (String::new(), None);
            for some in text.as_bytes().chunks(piece) {
                buffer.push(some);
                passed.push_str(&taken(&mut buffer, &flow));
                if buffer.take_pause() && busy.is_none() {
                    busy = Some(flow.begin(BodyLength::Chunked));
                    passed.push_str(&taken(&mut buffer, &flow));
                }
            }
            assert!(passed.ends_with("0\r\n\r\n"), "{passed:?}");
            drop(busy);
            assert_eq!(taken(&mut buffer, &flow), "GET /b HTTP/1.1\r\n\r\n");
            assert!(buffer.take_pause());
            drop(flow.begin(BodyLength::Bytes(0)));
        }
    }

    #[test]
    fn the_end_of_a_head_is_found_across_reads() {
        let (mut buffer, flow) = (RequestBuffer::default(), RequestFlow::default());
        let text = b"GET /a HTTP/1.1\r\n\r\n\r\nGET /b HTTP/1.1\r\n\r\n";
        let mut heads = String::new();
        for byte in text {
            buffer.push(&[*byte]);
            heads.push_str(&taken(&mut buffer, &flow));
            if buffer.take_pause() {
                drop(flow.begin(BodyLength::Bytes(0)));
                heads.push('|');
            }
        }
        assert_eq!(heads, "GET /a HTTP/1.1\r\n\r\n|\r\nGET /b HTTP/1.1\r\n\r\n|");
    }
}
