//! A receiver that does with a connection what its script says.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A receiver on a port of its own.
pub struct Receiver {
    pub port: u16,
    connections: Arc<AtomicUsize>,
    /// Every request that was read whole, head and body.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    /// Runs `script` with each connection, on a thread of its own.
    pub fn new(script: impl Fn(&mut TcpStream, &Receiver) + Send + Sync + 'static) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = Receiver {
            port: listener.local_addr().unwrap().port(),
            connections: Arc::default(),
            requests: Arc::default(),
        };
        let (ours, script) = (Arc::new(receiver.share()), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming() {
                ours.connections.fetch_add(1, Ordering::SeqCst);
                let (ours, script) = (ours.clone(), script.clone());
                thread::spawn(move || script(&mut stream.unwrap(), &ours));
            }
        });
        receiver
    }

    /// Answers every request with `answer`, as long as the connection lasts.
    pub fn answering(answer: impl AsRef<[u8]>) -> Receiver {
        let answer = answer.as_ref().to_owned();
        Receiver::new(
            move |stream, receiver| {
                while receiver.read_request(stream) && stream.write_all(&answer).is_ok() {}
            },
        )
    }

    fn share(&self) -> Receiver {
        Receiver { port: self.port, connections: self.connections.clone(), requests: self.requests.clone() }
    }

    /// Reads one request by its content-length and keeps it; `false` at the connection's end.
    pub fn read_request(&self, stream: &mut impl Read) -> bool {
        let mut request = Vec::new();
        loop {
            let mut bytes = [0; 4_096];
            match stream.read(&mut bytes) {
                Ok(0) | Err(_) => return false,
                Ok(count) => request.extend_from_slice(&bytes[..count]),
            }
            let text = String::from_utf8_lossy(&request).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
            if body.len() >= length.parse::<usize>().unwrap() {
                self.requests.lock().unwrap().push(text);
                return true;
            }
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook?a=1", self.port)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}
