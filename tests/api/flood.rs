//! The labels of the metrics come from closed lists: whatever methods, paths and headers are invented, and whatever is answered to
//! them, there are no more series than before.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::routes::routes;
use crate::support::{Binary, Server, sqlite_file};

/// Begins every word that a test invents.
const INVENTED: &str = "QZX";
/// How often every path is asked for with new words. Each is a connection that nobody waits for long.
const ROUNDS: usize = 3;

/// Writes these bytes, and gives the status of the answer, if there is one.
fn ask(address: &str, request: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.write_all(request.as_bytes()).expect("it is read");
    let mut answer = Vec::new();
    // A server that has heard enough may reset the connection.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).split_whitespace().nth(1)?.parse().ok()
}

/// Every path that something is behind, with odd parts.
fn paths(word: &str) -> BTreeSet<String> {
    let mut paths: BTreeSet<String> = routes().iter().map(|route| format!("/api/v1{}", route.path)).collect();
    for more in [
        "/metrics",
        "/healthz",
        "/readyz",
        "/",
        "/login",
        "/applications/{app}",
        "/portal",
        "/docs",
        "/api/{x}",
        "/{x}",
    ] {
        paths.insert(more.to_owned());
    }
    let odd = paths.iter().map(|path| {
        let parts = path.split('/').map(|part| if part.starts_with('{') { word } else { part });
        parts.collect::<Vec<_>>().join("/")
    });
    odd.collect()
}

/// Asks for everything in every odd way; gives the statuses that were answered.
fn flood(server: &Server, key: &str, round: usize) -> BTreeSet<u16> {
    let address = server.url().trim_start_matches("http://").to_owned();
    let word = format!("{INVENTED}{round}");
    let mut statuses = BTreeSet::new();
    for path in paths(&word) {
        // A query that is no text is refused before the method is looked at; so is a path.
        for target in [path.clone(), format!("{path}?%ff={word}"), format!("{path}%ff"), format!("{path}?limit={word}")]
        {
            for method in [word.as_str(), "PROPFIND", "GET", "POST"] {
                let head = format!(
                    "{method} {target} HTTP/1.1\r\nhost: {word}.example\r\nconnection: close\r\n{word}: {word}\r\n"
                );
                let authorization = format!("authorization: Bearer {key}\r\ncontent-type: {word}/{word}\r\n");
                for headers in [authorization.as_str(), "authorization: nothing\r\n"] {
                    statuses.extend(ask(&address, &format!("{head}{headers}content-length: 0\r\n\r\n")));
                }
            }
        }
    }
    statuses
}

#[test]
fn unknown_methods_and_paths_create_no_metric_series() {
    let file = sqlite_file();
    let server = Binary::on(&file.url()).set("SENDOFF_LOG", "off").serve();
    let requests = || -> BTreeSet<String> {
        let metrics = server.get("/metrics");
        assert!(!metrics.contains(INVENTED) && !metrics.contains("PROPFIND"), "{metrics}");
        let series = metrics.lines().filter(|line| line.starts_with("sendoff_http_requests_total{"));
        series.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
    };
    // A token would be logged out on the way.
    let made = server.binary().run(&["key", "create", "flood"]);
    let key = made.stdout.trim();
    let statuses = flood(&server, key, 0);
    assert!([200, 400, 401, 404, 405].iter().all(|status| statuses.contains(status)), "{statuses:?}");
    let first = requests();
    assert!(first.len() > 60, "all routes were asked: {first:?}");
    for round in 1..ROUNDS {
        flood(&server, key, round);
        let now = requests();
        assert!(now == first, "new series: {:?}", now.difference(&first));
    }
}
