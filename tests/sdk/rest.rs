//! Calls of a server's REST API, without a client library.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::Server;

/// A call with a token: its status, and the whole response.
pub fn call((server, token): (&Server, &str), method: &str, path: &str, body: &str) -> (u16, String) {
    let address = server.url().replace("http://", "");
    let mut stream = TcpStream::connect(&address).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} /api/v1{path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

/// The id of what a POST has made.
pub fn made(by: (&Server, &str), path: &str, body: &str) -> String {
    let (status, answer) = call(by, "POST", path, body);
    assert!(matches!(status, 201 | 202), "{answer}");
    text_of(&answer, "id")
}

/// A text in a JSON response.
pub fn text_of(answer: &str, name: &str) -> String {
    let rest = answer.split(&format!("\"{name}\":\"")).nth(1);
    rest.and_then(|rest| rest.split('"').next()).unwrap_or_else(|| panic!("no {name}: {answer}")).to_owned()
}
