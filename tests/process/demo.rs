//! The README's first command, end to end: it delivers within five seconds of its start, through both ways in, with good
//! signatures, and leaves nothing behind.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Binary, SOON, Server, eventually_blocking, sqlite_file};
use tempfile::TempDir;

/// The sum of a metric's lines that contain `with`.
fn metric(server: &Server, name: &str, with: &str) -> f64 {
    let address = server.url().replace("http://", "");
    let mut text = String::new();
    let asked = TcpStream::connect(&address).and_then(|mut stream| {
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
        stream.read_to_string(&mut text)
    });
    assert!(asked.is_ok(), "{asked:?}");
    let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(with));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn folders(within: &Path) -> usize {
    fs::read_dir(within).unwrap().count()
}

/// A demo whose temporary folder is in one of ours. What the binary inherits of the environment is its own affair, so the
/// folder is named as a setting would be.
fn demo(temporary: &TempDir) -> Server {
    let unused = sqlite_file();
    let binary = Binary::on(&unused.url()).set("TMPDIR", temporary.path().to_str().unwrap());
    binary.unset("SENDOFF_JWT_SECRET").unset("SENDOFF_MASTER_KEY").start(&["demo"])
}

#[test]
fn it_delivers_within_five_seconds_and_leaves_nothing_behind() {
    let temporary = TempDir::new().unwrap();
    let start = Instant::now();
    let server = demo(&temporary);
    let output = eventually_blocking("the first delivery", SOON, || {
        Some(server.output()).filter(|output| output.contains("First delivery"))
    });
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "the first delivery came after {took:?}:\n{output}");
    for word in ["Harbor Coffee", "Pine & Paper", "Orbit Cycles", "/login", "127.0.0.1/32"] {
        assert!(output.contains(word), "{word} is missing:\n{output}");
    }
    assert_eq!(folders(temporary.path()), 1);

    // Every behaviour shows: what arrived, what failed and how; and nothing is wrong with a signature.
    eventually_blocking("deliveries, failures, hang-ups and both ways in", Duration::from_secs(60), || {
        let output = server.output();
        let seen = |outcome: &str| metric(&server, "sendoff_attempts_total", outcome) > 0.0;
        let both = output.lines().any(|line| {
            let count = |before: &str, after: &str| {
                line.split(before).nth(1)?.split(after).next()?.trim().parse::<u32>().ok().filter(|count| *count > 0)
            };
            count("in:", "over REST").is_some() && count("over REST,", "through").is_some()
        });
        (seen("delivered") && seen("status") && seen("closed") && both).then_some(())
    });
    let output = server.output();
    assert!(output.contains("signatures: 0 bad"), "{output}");
    assert!(!output.contains("could not be sent"), "{output}");

    server.signal("INT");
    let (status, output) = server.wait(Duration::from_secs(20));
    assert!(status.success(), "{output}");
    assert!(output.contains("database is deleted"), "{output}");
    assert_eq!(folders(temporary.path()), 0, "{output}");
}

#[test]
fn a_second_signal_does_not_wait_and_cleans_up_too() {
    let temporary = TempDir::new().unwrap();
    let mut server = demo(&temporary);
    server.signal("INT");
    eventually_blocking("the word that it stops, or its end", SOON, || {
        (server.output().contains("Stopping") || server.exited().is_some()).then_some(())
    });
    if server.exited().is_none() {
        server.signal("TERM");
    }
    let (_, output) = server.wait(Duration::from_secs(5));
    assert_eq!(folders(temporary.path()), 0, "{output}");
}
