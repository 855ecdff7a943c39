//! What lies in `examples/` works as it is: a shop's transaction through the outbox arrives at the plain Python receiver, which finds
//! the signature right.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use support::{Binary, SOON, Server, eventually_blocking, free_port, sqlite_file};

/// 32 bytes in base64.
const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

struct Python(Child);

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The status of a POST to the API.
fn post(server: &Server, path: &str, body: &str) -> u16 {
    let address = server.url().replace("http://", "");
    let mut stream = TcpStream::connect(&address).unwrap();
    let (token, length) = (server.token(), body.len());
    write!(
        stream,
        "POST /api/v1{path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut first = String::new();
    BufReader::new(stream).read_line(&mut first).unwrap();
    first.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn the_outbox_example_reaches_the_receiver_example() {
    let port = free_port();
    let mut receiver = Command::new("python3");
    receiver.arg("-u").arg(example("receiver.py")).arg(port.to_string()).env("SECRET", SECRET).stdout(Stdio::piped());
    let mut receiver = Python(receiver.spawn().expect("python3"));
    let mut lines = BufReader::new(receiver.0.stdout.take().unwrap());
    eventually_blocking("the receiver's port", SOON, || TcpStream::connect(("127.0.0.1", port)).ok());

    let file = sqlite_file();
    let server = Binary::on(&file.url()).serve();
    assert_eq!(post(&server, "/app/", "{\"name\": \"Acme\", \"uid\": \"acme\"}"), 201);
    let endpoint = format!("{{\"url\": \"http://127.0.0.1:{port}/\", \"secret\": \"{SECRET}\"}}");
    assert_eq!(post(&server, "/app/acme/endpoint/", &endpoint), 201);

    let shop = Command::new("python3").arg(example("outbox.py")).arg(file.path()).arg("acme").output().unwrap();
    assert!(shop.status.success(), "{shop:?}");
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert!(line.starts_with("msg_") && line.contains("{\"orderId\": 1, \"total\": 48.5}"), "{line}");
}
