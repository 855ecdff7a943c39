//! A customer's receiver, in the test: it records every request and answers as it is told. One thread per connection, so it
//! needs no runtime and outlives none.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use super::eventually;

/// A request, as it came.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    pub path: String,
    /// In the order of arrival; names as they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// When its last byte was read.
    pub at: SystemTime,
    /// The same, for differences.
    pub instant: Instant,
    /// Which connection brought it, counted from 0.
    pub connection: usize,
}

impl Received {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What the receiver does with a request.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    delay: Duration,
    manner: Manner,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Whole,
    /// Close the connection and answer nothing.
    HangUp,
    /// Keep the connection and answer nothing until the sender closes it.
    Never,
    /// Send the head, then a byte of the body after each such span.
    Drip(Duration),
}

impl Answer {
    pub fn status(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), body: Vec::new(), delay: Duration::ZERO, manner: Manner::Whole }
    }

    pub fn ok() -> Answer {
        Answer::status(200)
    }

    pub fn hang_up() -> Answer {
        Answer { manner: Manner::HangUp, ..Answer::ok() }
    }

    pub fn never() -> Answer {
        Answer { manner: Manner::Never, ..Answer::ok() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Answer {
        self.body = body.into();
        self
    }

    /// Wait so long before the first byte.
    pub fn after(mut self, delay: Duration) -> Answer {
        self.delay = delay;
        self
    }

    /// Send the body byte by byte, one in each `span`.
    pub fn drip(mut self, span: Duration) -> Answer {
        self.manner = Manner::Drip(span);
        self
    }
}

type Rule = dyn Fn(&Received) -> Answer + Send + Sync;

struct Shared {
    rule: Mutex<Arc<Rule>>,
    received: Mutex<Vec<Received>>,
    /// The connections that are open, by their number.
    streams: Mutex<HashMap<usize, TcpStream>>,
    connections: AtomicUsize,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    closed: AtomicBool,
}

fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// An HTTP server on a free loopback port. Dropped, it closes its port and all its connections.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Receiver {
    /// Answers each request with what `rule` says.
    pub fn start(rule: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Receiver {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            rule: Mutex::new(Arc::new(rule)),
            received: Mutex::default(),
            streams: Mutex::default(),
            connections: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || accept_all(&listener, &theirs));
        Receiver { address, shared }
    }

    /// Answers 200 to everything.
    pub fn ok() -> Receiver {
        Receiver::start(|_| Answer::ok())
    }

    /// Answers in this order; the last answer goes on for ever.
    pub fn script(answers: impl IntoIterator<Item = Answer>) -> Receiver {
        let answers = Mutex::new(answers.into_iter().collect::<VecDeque<_>>());
        Receiver::start(move |_| {
            let mut answers = locked(&answers);
            let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
            next.unwrap_or_else(Answer::ok)
        })
    }

    /// From the next request on, answers with what `rule` says.
    pub fn answer_with(&self, rule: impl Fn(&Received) -> Answer + Send + Sync + 'static) {
        *locked(&self.shared.rule) = Arc::new(rule);
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A URL that leads here; `path` begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All requests so far, in the order in which they were read.
    pub fn received(&self) -> Vec<Received> {
        locked(&self.shared.received).clone()
    }

    pub fn count(&self) -> usize {
        locked(&self.shared.received).len()
    }

    /// How many connections were opened so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// The most requests that ever waited for their answers together.
    pub fn most_in_flight(&self) -> usize {
        self.shared.most_in_flight.load(Ordering::Relaxed)
    }

    /// Waits until `count` requests have come, and gives all that have.
    pub async fn wait_for(&self, count: usize, within: Duration) -> Vec<Received> {
        let what = format!("{count} requests at {}", self.address);
        eventually(&what, within, async || (self.count() >= count).then(|| self.received())).await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        // The listener's thread sits in `accept`: a connection wakes it, and it goes.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        for (_, stream) in locked(&self.shared.streams).drain() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept_all(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming().flatten() {
        if shared.closed.load(Ordering::SeqCst) {
            return;
        }
        let number = shared.connections.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            if let Ok(copy) = stream.try_clone() {
                locked(&shared.streams).insert(number, copy);
            }
            // An error is the sender's hanging up: its own affair.
            let _ = serve(&stream, number, &shared);
            let _ = stream.shutdown(Shutdown::Both);
            locked(&shared.streams).remove(&number);
        });
    }
}

fn serve(stream: &TcpStream, connection: usize, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader, connection)? {
        let in_flight = shared.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        shared.most_in_flight.fetch_max(in_flight, Ordering::Relaxed);
        locked(&shared.received).push(request.clone());
        let rule = Arc::clone(&locked(&shared.rule));
        let goes_on = write_answer(stream, &rule(&request));
        shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !goes_on? {
            break;
        }
    }
    Ok(())
}

/// `None` when the sender closed the connection between requests.
fn read_request(reader: &mut impl BufRead, connection: usize) -> io::Result<Option<Received>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut words = first.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers: Vec<(String, String)> = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
            None => break,
        }
    }
    let find =
        |name: &str| headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
    let mut body = Vec::new();
    if find("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = u64::from_str_radix(size.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
            reader.take(size).read_to_end(&mut body)?;
            reader.read_line(&mut String::new())?;
            if size == 0 {
                break;
            }
        }
    } else {
        let length = find("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        reader.take(length).read_to_end(&mut body)?;
        if body.len() as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some(Received { method, path, headers, body, at: SystemTime::now(), instant: Instant::now(), connection }))
}

/// Whether the connection goes on.
fn write_answer(mut stream: &TcpStream, answer: &Answer) -> io::Result<bool> {
    std::thread::sleep(answer.delay);
    match answer.manner {
        Manner::HangUp => return Ok(false),
        Manner::Never => {
            // Ends when the sender closes, or when the receiver is dropped.
            stream.read_to_end(&mut Vec::new())?;
            return Ok(false);
        }
        Manner::Whole | Manner::Drip(_) => {}
    }
    let mut head = format!("HTTP/1.1 {} Answer\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let may_have_body = answer.status != 204 && answer.status != 304;
    if may_have_body {
        head.push_str(&format!("content-length: {}\r\n", answer.body.len()));
    }
    head.push_str("\r\n");
    let body = if may_have_body { &answer.body[..] } else { &[] };
    match answer.manner {
        Manner::Drip(span) => {
            stream.write_all(head.as_bytes())?;
            for byte in body {
                std::thread::sleep(span);
                stream.write_all(&[*byte])?;
            }
        }
        _ => stream.write_all(&[head.as_bytes(), body].concat())?,
    }
    Ok(true)
}
