//! A receiver as a customer would run it, which also remembers what arrived.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver as Queue, Sender, channel};
use std::thread;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Long, since only a failing walk waits it out.
const SOON: Duration = Duration::from_secs(20);

pub struct Delivery {
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// Answers the first request with 500, all others with 200.
pub struct Receiver {
    port: u16,
    came: Queue<Delivery>,
}

impl Receiver {
    pub fn start() -> Receiver {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let (queue, came) = channel();
        thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                let queue = queue.clone();
                thread::spawn(move || serve(&stream, &queue, number == 0));
            }
        });
        Receiver { port, came }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    pub fn next(&self) -> Delivery {
        self.came.recv_timeout(SOON).expect("a delivery")
    }
}

fn serve(stream: &TcpStream, queue: &Sender<Delivery>, mut fails: bool) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut headers, mut line) = (HeaderMap::new(), String::new());
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?);
        }
        let length: usize = headers.get("content-length")?.to_str().ok()?.parse().ok()?;
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        queue.send(Delivery { headers, body }).ok()?;
        let status = if std::mem::take(&mut fails) { "500 No" } else { "200 OK" };
        let mut stream = stream;
        stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nok").as_bytes()).ok()?;
    }
}
