//! Hostile clients: connections that say nothing, speak slowly, do not read, or send garbage. Each is replaced when it
//! is cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Open at once.
pub const CONNECTIONS: usize = 5_000;
/// Between two bytes of a slow one.
const DRIP: Duration = Duration::from_secs(2);

/// What a connection says at once, and what it goes on to say.
const KINDS: [(&str, &str); 6] = [
    ("", ""),
    ("GET / HTTP/1.1\r\nhost: a\r\n", "a: b\r\n"),
    ("POST /login HTTP/1.1\r\nhost: a\r\ncontent-length: 10000\r\n\r\n", "x"),
    ("POST /api/v1/app HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
    ("GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n", ""),
    ("\x16\x03\x01\x02\0\x01\0\x01\u{7f}\x03\x03", ""),
];

/// The clients, until [`Clients::stop`].
pub struct Clients {
    running: Arc<AtomicBool>,
    tried: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Clients {
    /// Connects to `address`, from a thread of its own.
    pub fn start(address: String) -> Clients {
        let (running, tried) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (goes_on, count) = (Arc::clone(&running), Arc::clone(&tried));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                for n in 0..CONNECTIONS {
                    let (address, running, tried) = (address.clone(), Arc::clone(&goes_on), Arc::clone(&count));
                    tokio::spawn(async move {
                        while running.load(Ordering::Relaxed) {
                            tried.fetch_add(1, Ordering::Relaxed);
                            let _ = connect(&address, n, &running).await;
                            tokio::time::sleep(Duration::from_millis(500)).await;
                        }
                    });
                    // All within the first seconds, not in one moment.
                    if n % 50 == 0 {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
                while goes_on.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
        });
        Clients { running, tried, thread }
    }

    /// Ends all; gives how many connections were tried.
    pub fn stop(self) -> usize {
        self.running.store(false, Ordering::Relaxed);
        self.thread.join().expect("the clients' thread");
        self.tried.load(Ordering::Relaxed)
    }
}

/// A listener that only accepts and discards: what the clients themselves cost on a machine that they share.
pub struct Sink {
    pub address: String,
}

/// Sendoff cuts connections off, or refuses them, after two seconds on average, with the pause before the next one.
const SINK_KEEPS: Duration = Duration::from_millis(1_500);

impl Sink {
    /// Listens on a thread of its own, until the process ends.
    pub fn start() -> Sink {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        listener.set_nonblocking(true).expect("a nonblocking listener");
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                while let Ok((mut stream, _)) = listener.accept().await {
                    tokio::spawn(async move {
                        let mut bytes = [0; 1_024];
                        let discard = async { while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {} };
                        let _ = tokio::time::timeout(SINK_KEEPS, discard).await;
                    });
                }
            });
        });
        Sink { address }
    }
}

/// One connection, until it is cut off.
async fn connect(address: &str, n: usize, running: &AtomicBool) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    // Every seventh asks for much and reads nothing.
    if n.is_multiple_of(7) {
        stream.write_all("GET /docs HTTP/1.1\r\nhost: a\r\n\r\n".repeat(50).as_bytes()).await?;
        while running.load(Ordering::Relaxed) {
            tokio::time::sleep(DRIP).await;
            stream.write_all(b"\r\n").await?;
        }
        return Ok(());
    }
    let (first, then) = KINDS[n % KINDS.len()];
    stream.write_all(first.as_bytes()).await?;
    let mut answer = [0; 1_024];
    while running.load(Ordering::Relaxed) {
        match tokio::time::timeout(DRIP, stream.read(&mut answer)).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(read) => drop(read?),
            Err(_) => stream.write_all(then.as_bytes()).await?,
        }
    }
    Ok(())
}
