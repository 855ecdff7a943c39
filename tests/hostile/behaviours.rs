//! The table: what hostile, broken and odd receivers do, and what has to be recorded of it.

use std::time::Duration;

use crate::receiver::Door::{self, Full, Narrow, NotTls, Plain, Refusing, Tls};
use crate::receiver::Step::{self, Close, Deaf, Drip, Endless, Gulp, Hush, Pause, Read, ReadSome, Say, Sip};

use Wanted::{Crossed, Fails, Says, Took};

/// The most that is kept of a body.
pub const KEPT: usize = 16 * 1024;

/// What has to be recorded of each attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Delivered, with this status.
    Took(u16),
    /// A failure of the kind `status`, with this one.
    Says(u16),
    /// A failure of this kind without an answer; its sentence has this word in it.
    Fails(&'static str, &'static str),
    /// Said before it was asked: nobody can tell whether that crossed the request on its way. Delivered, or such a failure.
    Crossed(u16, &'static str, &'static str),
}

/// When an attempt has to be over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// By itself, before the deadline.
    Itself,
    Deadline,
}

/// How long the next attempt has to be put off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// As the schedule says, ±20 %.
    Schedule,
    /// So long at least, and not noticeably longer.
    Asked(Duration),
}

/// A row of the table.
pub struct Behaviour {
    pub name: &'static str,
    pub door: Door,
    pub steps: Vec<Step>,
    /// It gets large payloads.
    pub large: bool,
    pub wanted: Wanted,
    pub until: Until,
    pub wait: Wait,
}

impl Behaviour {
    fn of(name: &'static str, door: Door, steps: Vec<Step>, wanted: Wanted) -> Behaviour {
        Behaviour { name, door, steps, large: false, wanted, until: Until::Itself, wait: Wait::Schedule }
    }

    /// Lasts until the deadline.
    fn late(self) -> Behaviour {
        Behaviour { until: Until::Deadline, ..self }
    }

    fn large(self) -> Behaviour {
        Behaviour { large: true, ..self }
    }

    fn asking(self, seconds: u64) -> Behaviour {
        Behaviour { wait: Wait::Asked(Duration::from_secs(seconds)), ..self }
    }
}

fn say(text: &str) -> Step {
    Say(text.as_bytes().to_vec())
}

fn raw(bytes: &[u8]) -> Step {
    Say(bytes.to_vec())
}

/// Says it again and again, with time between.
fn drip(text: &str) -> Step {
    Drip(text.as_bytes().to_vec(), SECOND / 5)
}

/// Reads the request, says `text`, and goes on with the connection if the client does.
fn answer(text: &str) -> Vec<Step> {
    vec![Read, say(text)]
}

fn answer_and(text: &str, then: Step) -> Vec<Step> {
    vec![Read, say(text), then]
}

/// An answer of 500 with this `Retry-After`.
fn retry_after(text: &str) -> Vec<Step> {
    answer(&format!("HTTP/1.1 500 Oh\r\nretry-after: {text}\r\ncontent-length: 0\r\n\r\n"))
}

/// Zeros, so compressed that a byte becomes some 160: deflate's fixed codes for "258 times what was one byte before".
fn gzip_bomb() -> Vec<u8> {
    let mut bomb =
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n100000\r\n".to_vec();
    let start = bomb.len();
    bomb.extend([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
    let literal = [1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0];
    let repeat = [1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0];
    let mut bits = literal.into_iter().chain(repeat.into_iter().cycle());
    while bomb.len() - start < 0x10_0000 {
        bomb.push((0..8).map(|place| bits.next().unwrap_or(0) << place).sum());
    }
    bomb.extend(b"\r\n0\r\n\r\n");
    bomb
}

const SECOND: Duration = Duration::from_secs(1);
/// Long enough for what was said to be read.
const MOMENT: Duration = Duration::from_millis(200);
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const WEEK: u64 = 7 * 86_400;

/// All of it. `trap` is where redirects lead: nobody may come there.
pub fn table(trap: &str) -> Vec<Behaviour> {
    [connections(), heads(), bodies(), requests(), redirects(trap), patience(), handshakes()]
        .into_iter()
        .flatten()
        .collect()
}

const TIMEOUT: Wanted = Fails("timeout", "no answer within 2 s");
const NOT_HTTP: Wanted = Fails("protocol", "not HTTP/1.1, or its head is too large");
const CLOSED: Wanted = Fails("closed", "before an answer");

#[rustfmt::skip]
fn connections() -> Vec<Behaviour> {
    let row = Behaviour::of;
    let half = "HTTP/1.1 200 OK\r\ncontent-le";
    let begun = |status: u16| say(&format!("HTTP/1.1 {status} X\r\ncontent-length: 100\r\n\r\nbegin"));
    vec![
        row("refuses the connection", Refusing, vec![], Fails("refused", "nothing listens there")),
        row("never accepts, its queue is full", Full, vec![], TIMEOUT).late(),
        row("accepts and never reads", Plain, vec![Deaf], TIMEOUT).late(),
        row("reads and never answers", Plain, vec![Read, Hush], TIMEOUT).late(),
        row("closes right after it has accepted", Plain, vec![Close], CLOSED),
        row("closes after the request", Plain, vec![Read, Close], CLOSED),
        row("resets instead of an answer", Plain, vec![ReadSome(5), Pause(MOMENT), Close], CLOSED),
        row("closes within the head", Plain, answer_and(half, Close), CLOSED),
        row("resets within the head", Plain, vec![ReadSome(5), say(half), Pause(MOMENT), Close], CLOSED),
        row("closes within the body of a 200", Plain, vec![Read, begun(200), Close], Took(200)),
        row("resets within the body of a 200", Plain, vec![ReadSome(5), begun(200), Pause(MOMENT), Close], Took(200)),
        row("resets within the body of a 500", Plain, vec![ReadSome(5), begun(500), Pause(MOMENT), Close], Says(500)),
    ]
}

#[rustfmt::skip]
fn heads() -> Vec<Behaviour> {
    let row = Behaviour::of;
    let line = |text: &str| answer(&format!("HTTP/1.1 200 OK\r\n{text}\r\ncontent-length: 0\r\n\r\n"));
    let status = |text: &str| answer(&format!("{text}\r\ncontent-length: 0\r\n\r\n"));
    let wait = "HTTP/1.1 100 Continue\r\n\r\n";
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let switching = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
    vec![
        row("half a status line, then silence", Plain, answer_and("HTTP/1.1 20", Hush), TIMEOUT).late(),
        row("half a head, then silence", Plain, answer_and("HTTP/1.1 200 OK\r\nx: ", Hush), TIMEOUT).late(),
        row("a byte of the head at a time", Plain, answer_and("HTTP/1.1 200 OK\r\nx: ", drip("x")), TIMEOUT).late(),
        row("headers without end", Plain, answer_and("HTTP/1.1 200 OK\r\n", Endless(b"a: b\r\n".repeat(1_000))), NOT_HTTP),
        row("a header line without end", Plain, answer_and("HTTP/1.1 200 OK\r\na: ", Endless(vec![b'x'; 65_536])), NOT_HTTP),
        row("a status line without end", Plain, answer_and("HTTP/1.1 200 ", Endless(vec![b'x'; 65_536])), NOT_HTTP),
        row("a header of 1 MB", Plain, line(&format!("a: {}", "x".repeat(1_000_000))), NOT_HTTP),
        row("10,000 headers", Plain, line(&["a: b"; 10_000].join("\r\n")), NOT_HTTP),
        row("100 Continue without end", Plain, vec![Read, Endless(wait.repeat(1_000).into())], NOT_HTTP),
        row("103 Early Hints without end", Plain, vec![Read, Endless(early.repeat(1_000).into())], NOT_HTTP),
        row("100 Continue again and again", Plain, vec![Read, drip(wait)], TIMEOUT).late(),
        row("102, 103, then 200", Plain, answer(&format!("HTTP/1.1 102 P\r\n\r\n{early}{OK}")), Took(200)),
        row("101 Switching Protocols", Plain, answer_and(switching, Hush), Says(101)),
        row("garbage", Plain, vec![Read, raw(b"\x9c\x00\xff\xfe\r\n\r\n\x01\x02\x03"), Hush], NOT_HTTP),
        row("HTTP/0.9", Plain, answer_and("<html>hello</html>\n", Close), NOT_HTTP),
        row("frames of HTTP/2", Plain, vec![Read, raw(b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64"), Hush], NOT_HTTP),
        row("HTTP/2 in words", Plain, status("HTTP/2 200 OK"), NOT_HTTP),
        row("HTTP/1.0", Plain, answer_and("HTTP/1.0 200 OK\r\n\r\nhello", Close), Took(200)),
        row("a TLS alert on a plain port", Plain, vec![Read, raw(&[0x15, 3, 3, 0, 2, 2, 40]), Close], NOT_HTTP),
        row("an SSH banner", Plain, answer_and("SSH-2.0-OpenSSH_9.2\r\n", Hush), NOT_HTTP),
        row("an SSH banner before the request", Plain, vec![say("SSH-2.0-OpenSSH_9.2\r\n"), Hush], Fails("protocol", "HTTP")),
        row("a status of 999", Plain, status("HTTP/1.1 999 What"), Says(999)),
        row("a status of 000", Plain, status("HTTP/1.1 000 What"), NOT_HTTP),
        row("a status of two digits", Plain, status("HTTP/1.1 20 OK"), NOT_HTTP),
        row("a status without a reason", Plain, status("HTTP/1.1 200"), Took(200)),
        row("lines that end with LF alone", Plain, answer("HTTP/1.1 200 OK\ncontent-length: 2\n\nok"), Took(200)),
        row("a NUL in a header", Plain, line("server: a\0b"), NOT_HTTP),
        row("no UTF-8 in a header", Plain, vec![Read, raw(b"HTTP/1.1 200 OK\r\nserver: \xff\xfe\r\ncontent-length: 0\r\n\r\n")], Took(200)),
        row("a space in a header's name", Plain, line("a b: c"), NOT_HTTP),
        row("a header folded over two lines", Plain, line("server: a\r\n b"), NOT_HTTP),
    ]
}

#[rustfmt::skip]
fn bodies() -> Vec<Behaviour> {
    let row = Behaviour::of;
    let with = |header: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{header}\r\n\r\n{body}");
    let chunked = |body: &str| with("transfer-encoding: chunked", body);
    let long = |status: u16| format!("HTTP/1.1 {status} X\r\ncontent-length: 104857600\r\n\r\n");
    let open = |status: u16| format!("HTTP/1.1 {status} X\r\n\r\n");
    let block = Endless(vec![b'x'; 65_536]);
    vec![
        row("a byte of a 200's body at a time", Plain, answer_and(&open(200), drip("x")), Took(200)).late(),
        row("a byte of a 500's body at a time", Plain, answer_and(&open(500), drip("x")), Says(500)).late(),
        row("a body without end, 200", Plain, answer_and(&open(200), block.clone()), Took(200)),
        row("a body without end, 500", Plain, answer_and(&open(500), block.clone()), Says(500)),
        row("a body of 100 MB, 200", Plain, answer_and(&long(200), block.clone()), Took(200)),
        row("a body of 100 MB, 500", Plain, answer_and(&long(500), block), Says(500)),
        row("a gzip bomb", Plain, vec![Read, Say(gzip_bomb())], Took(200)),
        row("NUL and no UTF-8, 200", Plain, vec![Read, raw(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\0\xff\xc3\0")], Took(200)),
        row("NUL and no UTF-8, 500", Plain, vec![Read, raw(b"HTTP/1.1 500 Oh\r\ncontent-length: 4\r\n\r\n\0\xff\xc3\0")], Says(500)),
        row("content-length too large, then closes", Plain, answer_and(&with("content-length: 9", "ok"), Close), Took(200)),
        row("content-length too large, then silence", Plain, answer_and(&with("content-length: 9", "ok"), Hush), Took(200)).late(),
        row("content-length too small", Plain, answer(&with("content-length: 1", "ok and more")), Took(200)),
        row("two content-lengths that differ", Plain, answer(&with("content-length: 2\r\ncontent-length: 3", "ok!")), NOT_HTTP),
        row("a negative content-length", Plain, answer(&with("content-length: -1", "ok")), NOT_HTTP),
        row("a content-length in words", Plain, answer(&with("content-length: two", "ok")), NOT_HTTP),
        row("a content-length of 10^30", Plain, answer(&with(&format!("content-length: 1{}", "0".repeat(30)), "ok")), NOT_HTTP),
        row("content-length and chunks", Plain, answer(&with("content-length: 5\r\ntransfer-encoding: chunked", "2\r\nok\r\n0\r\n\r\n")), Took(200)),
        row("a chunk whose size is no number", Plain, answer(&chunked("2\r\nok\r\nzz\r\n")), Took(200)),
        row("a chunk of 2^70 bytes", Plain, answer(&chunked("400000000000000000\r\nok")), Took(200)),
        row("chunks that stop", Plain, answer_and(&chunked("2\r\nok\r\n"), Hush), Took(200)).late(),
        row("a chunk extension of 1 MB", Plain, answer(&chunked(&format!("2;{}\r\nok\r\n0\r\n\r\n", "x".repeat(1_000_000)))), Took(200)),
        row("trailers without end", Plain, answer_and(&chunked("2\r\nok\r\n0\r\n"), Endless(b"a: b\r\n".repeat(1_000))), Took(200)),
        row("204 with a body", Plain, answer("HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\nok"), Took(204)),
        row("205", Plain, answer("HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n"), Took(205)),
    ]
}

#[rustfmt::skip]
fn requests() -> Vec<Behaviour> {
    let row = Behaviour::of;
    let status = |status: u16| answer(&format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"));
    let twice = format!("{OK}HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n");
    vec![
        row("answers 200 before it has read", Plain, vec![say(OK), Read, Hush], Crossed(200, "protocol", "HTTP")),
        row("answers 200 to half of the request", Narrow, vec![ReadSome(100_000), say(OK), Deaf], Took(200)).large().late(),
        row("answers 500 to half of the request", Narrow, vec![ReadSome(100_000), say("HTTP/1.1 500 X\r\n\r\n"), Deaf], Says(500)).large().late(),
        row("answers garbage to half of the request", Narrow, vec![ReadSome(100_000), raw(b"\x9c\x00\r\n\r\n"), Deaf], NOT_HTTP).large(),
        row("reads a byte at a time", Narrow, vec![Sip(SECOND / 5)], TIMEOUT).large().late(),
        row("reads a byte at a time, TLS", Tls("good"), vec![ReadSome(1_000), Sip(SECOND / 5)], TIMEOUT).large().late(),
        row("stops to read, TLS", Tls("good"), vec![ReadSome(1_000), Deaf], TIMEOUT).large().late(),
        row("answers 200 to half of the request, TLS", Tls("good"), vec![ReadSome(1_000), say(OK), Deaf], Took(200)).large().late(),
        row("answers twice", Plain, answer(&twice), Took(200)),
        row("404", Plain, status(404), Says(404)),
        row("410, for good", Plain, status(410), Says(410)),
        row("429, always", Plain, status(429), Says(429)),
        row("503, always", Plain, status(503), Says(503)),
    ]
}

#[rustfmt::skip]
fn redirects(trap: &str) -> Vec<Behaviour> {
    let row = Behaviour::of;
    let to = |status: u16, place: &str| answer(&format!("HTTP/1.1 {status} X\r\nlocation: {place}\r\ncontent-length: 0\r\n\r\n"));
    vec![
        row("redirects to itself, 302", Plain, to(302, "/"), Says(302)),
        row("redirects to itself, 308", Plain, to(308, ""), Says(308)),
        row("redirects elsewhere, 307", Plain, to(307, trap), Says(307)),
        row("redirects to the metadata service", Plain, to(301, "http://169.254.169.254/latest/meta-data/"), Says(301)),
        row("redirects to a private address", Plain, to(303, "http://10.0.0.1/"), Says(303)),
        row("redirects to a file", Plain, to(302, "file:///etc/passwd"), Says(302)),
        row("redirects to nowhere", Plain, answer("HTTP/1.1 302 X\r\ncontent-length: 0\r\n\r\n"), Says(302)),
        row("300", Plain, to(300, trap), Says(300)),
        row("304", Plain, answer("HTTP/1.1 304 Not Modified\r\n\r\n"), Says(304)),
    ]
}

#[rustfmt::skip]
fn patience() -> Vec<Behaviour> {
    let row = |name, text: &str| Behaviour::of(name, Plain, retry_after(text), Says(500));
    let busy = answer("HTTP/1.1 503 X\r\nretry-after: 3600\r\ncontent-length: 0\r\n\r\n");
    vec![
        row("Retry-After: 3600", "3600").asking(3_600),
        Behaviour::of("Retry-After: 3600, 503", Plain, busy, Says(503)).asking(3_600),
        row("Retry-After: 0", "0"),
        row("Retry-After: -1", "-1"),
        row("Retry-After: 1.5", "1.5"),
        row("Retry-After: inf", "inf"),
        row("Retry-After: NaN", "NaN"),
        row("Retry-After: 1e30", "1e30"),
        row("Retry-After: 10^30 in digits", "1000000000000000000000000000000").asking(WEEK),
        row("Retry-After: empty", ""),
        row("Retry-After: words", "in a minute or two"),
        row("Retry-After: a date in the past", "Sun, 06 Nov 1994 08:49:37 GMT"),
        row("Retry-After: a date in year 9999", "Fri, 31 Dec 9999 23:59:59 GMT").asking(WEEK),
        row("Retry-After: a date that is none", "Mon, 31 Feb 2099 25:61:61 GMT"),
        row("Retry-After: two of them", "3600\r\nretry-after: 7200").asking(3_600),
    ]
}

#[rustfmt::skip]
fn handshakes() -> Vec<Behaviour> {
    let row = Behaviour::of;
    let tls = |word| Fails("tls", word);
    let bad = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n";
    vec![
        row("TLS: all is well", Tls("good"), answer(OK), Took(200)),
        row("TLS: expired", Tls("expired"), answer(OK), tls("expired on 2021-01-02")),
        row("TLS: self-signed", Tls("self-signed"), answer(OK), tls("self-signed")),
        row("TLS: another host's", Tls("other"), answer(OK), tls("is for other.example, not for localhost")),
        row("TLS: never says hello", NotTls, vec![Hush], TIMEOUT).late(),
        row("TLS: half a hello", NotTls, vec![ReadSome(5), raw(&[0x16, 3, 3, 0, 0x50, 2, 0, 0]), Hush], TIMEOUT).late(),
        row("TLS: closes within the handshake", NotTls, vec![Gulp, Close], tls("during the TLS handshake")),
        row("TLS: resets within the handshake", NotTls, vec![ReadSome(5), Pause(MOMENT), Close], tls("during the TLS handshake")),
        row("TLS: refuses every version", NotTls, vec![ReadSome(5), raw(&[0x15, 3, 1, 0, 2, 2, 70]), Hush], tls("refuses TLS 1.2 and 1.3")),
        row("TLS: speaks plain HTTP", NotTls, vec![ReadSome(5), say(bad), Hush], tls("does not speak TLS")),
        row("TLS: garbage", NotTls, vec![ReadSome(5), raw(&[0xff; 64]), Hush], tls("does not speak TLS")),
        row("TLS: closes after the handshake", Tls("good"), vec![ReadSome(1), Close], CLOSED),
        row("TLS: breaks off within the body", Tls("good"), answer_and("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", Close), Took(200)),
    ]
}
