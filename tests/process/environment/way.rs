//! A way to a server that can be closed: a port on loopback that leads to another one.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

#[derive(Default)]
struct Shared {
    closed: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

/// Open until it is dropped.
pub struct Way {
    port: u16,
    shared: Arc<Shared>,
}

impl Way {
    /// From `port` to `to`.
    pub fn open(port: u16, to: SocketAddr) -> Way {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if theirs.closed.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(other) = TcpStream::connect(to) else { continue };
                let copies = [stream.try_clone(), other.try_clone()].map(|copy| copy.expect("a copy"));
                theirs.streams.lock().expect("nobody panics").extend(copies);
                pass(&stream, &other);
                pass(&other, &stream);
            }
        });
        Way { port, shared }
    }
}

/// Passes on what comes, until either end is closed.
fn pass(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().expect("a copy"), to.try_clone().expect("a copy"));
    thread::spawn(move || {
        let mut block = [0; 16 * 1024];
        while let Ok(read @ 1..) = from.read(&mut block) {
            if to.write_all(&block[..read]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}

impl Drop for Way {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        // It sits in `accept`.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        for stream in self.shared.streams.lock().expect("nobody panics").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
