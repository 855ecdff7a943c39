//! A receiver that follows a script. A [`Door`] is how it can be reached, its [`Step`]s are what it does with each connection; after the
//! last step it begins anew, with the next request on the same connection.
//!
//! Plain sockets and a thread for each connection, so that what is on the wire is exactly what a behaviour says.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpSocket;

/// A deaf receiver keeps its end of a connection open for so long, and neither reads nor writes.
const DEAF: Duration = Duration::from_secs(60);

/// How a receiver can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// HTTP.
    Plain,
    /// HTTP, and takes in no more than a few KiB that nobody has read.
    Narrow,
    /// HTTPS, with this certificate of `tests/certificates`.
    Tls(&'static str),
    /// Sendoff is told HTTPS, and the script speaks to the socket as it is.
    NotTls,
    /// Nothing listens there.
    Refusing,
    /// Listens, accepts nobody, and its queue is full.
    Full,
}

/// What is done with a connection.
#[derive(Clone, Debug)]
pub enum Step {
    /// Read a whole request.
    Read,
    /// Read so many bytes. Whatever is closed with bytes unread is reset.
    ReadSome(usize),
    /// Read what is there.
    Gulp,
    Say(Vec<u8>),
    /// Say it after each such span, without end.
    Drip(Vec<u8>, Duration),
    /// Read a byte after each such span, without end.
    Sip(Duration),
    /// Say it again and again.
    Endless(Vec<u8>),
    /// Say nothing more, and listen until the sender closes.
    Hush,
    /// Neither say nor listen.
    Deaf,
    Pause(Duration),
    Close,
}

/// A receiver on a port of its own.
pub struct Receiver {
    pub port: u16,
    door: Door,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    /// What keeps the port: a socket that does not listen, or a queue that is full.
    _kept: Option<Kept>,
}

/// Sockets that are there and do nothing.
enum Kept {
    Unheard { _socket: TcpSocket },
    Queue { _listener: TcpListener, _waiting: Vec<TcpStream> },
}

impl Receiver {
    /// Needs a runtime around it.
    pub fn start(door: Door, steps: Vec<Step>) -> Receiver {
        let socket = TcpSocket::new_v4().expect("a socket");
        if door == Door::Narrow {
            socket.set_recv_buffer_size(4_096).expect("a small buffer");
        }
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let port = socket.local_addr().expect("its address").port();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        if door == Door::Refusing {
            return Receiver { port, door, connections, requests, _kept: Some(Kept::Unheard { _socket: socket }) };
        }
        let backlog = if door == Door::Full { 0 } else { 1_024 };
        let listener = socket.listen(backlog).expect("it listens").into_std().expect("a listener");
        listener.set_nonblocking(false).expect("a listener that waits");
        if door == Door::Full {
            let address = listener.local_addr().expect("its address");
            let wait = Duration::from_millis(200);
            let waiting = std::iter::from_fn(|| TcpStream::connect_timeout(&address, wait).ok()).take(8).collect();
            let kept = Some(Kept::Queue { _listener: listener, _waiting: waiting });
            return Receiver { port, door, connections, requests, _kept: kept };
        }
        let session = match door {
            Door::Tls(certificate) => Some(Arc::new(tls(certificate))),
            _ => None,
        };
        let script = Arc::new(Script { steps, session, requests: Arc::clone(&requests) });
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                let script = Arc::clone(&script);
                // An error is the sender's hanging up: its own affair.
                thread::spawn(move || script.serve(stream));
            }
        });
        Receiver { port, door, connections, requests, _kept: None }
    }

    /// A URL that leads here; `path` begins with a slash.
    pub fn url(&self, path: &str) -> String {
        match self.door {
            // The certificates are for `localhost`.
            Door::Tls(_) | Door::NotTls => format!("https://localhost:{}{path}", self.port),
            _ => format!("http://127.0.0.1:{}{path}", self.port),
        }
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many requests were read whole so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn tls(certificate: &str) -> rustls::ServerConfig {
    let file = |name: &str| format!("{}/tests/certificates/{name}.pem", env!("CARGO_MANIFEST_DIR"));
    let certificate = CertificateDer::from_pem_file(file(certificate)).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(file("key")).expect("its key");
    rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a certificate with its key")
}

struct Script {
    steps: Vec<Step>,
    session: Option<Arc<rustls::ServerConfig>>,
    requests: Arc<AtomicUsize>,
}

impl Script {
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        // Whoever leaves a connection open for ever keeps no thread for ever.
        stream.set_read_timeout(Some(DEAF))?;
        stream.set_write_timeout(Some(DEAF))?;
        match &self.session {
            None => self.follow(&mut stream),
            Some(config) => {
                let session = rustls::ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                self.follow(&mut rustls::StreamOwned::new(session, stream))
            }
        }
    }

    fn follow(&self, stream: &mut (impl Read + Write)) -> io::Result<()> {
        loop {
            for step in &self.steps {
                match step {
                    Step::Read => {
                        read_request(stream)?;
                        self.requests.fetch_add(1, Ordering::SeqCst);
                    }
                    Step::ReadSome(count) => stream.read_exact(&mut vec![0; *count])?,
                    Step::Gulp => _ = stream.read(&mut [0; 65_536])?,
                    Step::Say(bytes) => stream.write_all(bytes)?,
                    Step::Drip(bytes, pace) => loop {
                        stream.write_all(bytes)?;
                        thread::sleep(*pace);
                    },
                    Step::Sip(pace) => loop {
                        stream.read_exact(&mut [0])?;
                        thread::sleep(*pace);
                    },
                    Step::Endless(block) => loop {
                        stream.write_all(block)?;
                    },
                    Step::Hush => {
                        while stream.read(&mut [0; 4_096])? > 0 {}
                        return Ok(());
                    }
                    Step::Deaf => thread::sleep(DEAF),
                    Step::Pause(span) => thread::sleep(*span),
                    Step::Close => return Ok(()),
                }
            }
        }
    }
}

/// Reads one request by its content-length.
fn read_request(stream: &mut impl Read) -> io::Result<()> {
    let mut request = Vec::new();
    let mut block = vec![0; 65_536];
    let mut wanted = None;
    while wanted.is_none_or(|wanted| request.len() < wanted) {
        let count = stream.read(&mut block)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(&block[..count]);
        if wanted.is_none() {
            wanted = whole(&request);
        }
    }
    Ok(())
}

/// How long the request will be, once its head is there.
fn whole(request: &[u8]) -> Option<usize> {
    let head = request.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&request[..head]);
    let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
    Some(head + length.unwrap_or(0))
}
