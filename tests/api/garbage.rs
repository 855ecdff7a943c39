//! Garbage of every kind to every operation of the document: never a failure of ours, always JSON of one of the two shapes (`said` checks
//! that, and that the status is a described one).

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::conformance::{BASE, operations, resolved};
use crate::support::on_both;
use crate::world::{MAX_PAYLOAD, Said, World, said};

on_both! {
    in_the_path
    in_the_query
    in_the_body
    in_the_headers
    beside_the_routes
}

/// What a name in a path may be instead of one, and whether it can be read at all.
const NAMES: [(&str, bool); 14] = [
    ("%", false),
    ("%f", false),
    ("%zz", false),
    ("%ff", false),
    ("%c3%28", false),
    ("%ed%a0%80", false),
    ("%00", false),
    ("a%00b", false),
    ("a%20b", true),
    ("..%2f..%2fetc", true),
    ("%F0%9F%92%A9", true),
    ("'%22;--", true),
    ("app_zzzzzzzzzzzzzzzzzzzzzzzzzz", true),
    ("-", true),
];

/// What ends a path whose answer, where nothing is wrong, does not end.
const STREAM: &str = "/stream";
/// Ends the token that the others need.
const LOGOUT: &str = "/auth/logout";

/// A path with `name` in place of its names.
fn filled(path: &str, name: &str) -> String {
    path.split('/').map(|part| if part.starts_with('{') { name } else { part }).collect::<Vec<_>>().join("/")
}

/// What has no name but its id: the part of a path, and the id.
type Ids = [(&'static str, String); 2];

/// A path whose names are `x`, or one of these ids.
fn furnished_path(path: &str, ids: &Ids) -> String {
    filled(&ids.iter().fold(path.to_owned(), |path, (part, id)| path.replace(part, id)), "x")
}

/// A world in which everything that a path can name is called `x`, but for what has no name.
async fn furnished(world: &World) -> Ids {
    let app = world.app("x").await;
    let made = world.call("PUT", "/app/x/endpoint/x", json!({"url": "http://127.0.0.1:9/"})).await.expect(201);
    world.call("PUT", "/event-type/x", json!({"description": ""})).await.expect(201);
    let operational = "/operational-webhook/endpoint/x";
    world.call("PUT", operational, json!({"url": "http://127.0.0.1:9/"})).await.expect(201);
    world.call("PUT", "/app/x/destination/x", json!({"type": "pollingEndpoint"})).await.expect(201);
    let message =
        world.call("POST", "/app/x/msg", json!({"eventType": "x", "eventId": "x", "payload": {}})).await.expect(202);
    let text = |value: &Value| value.as_str().expect("an id").to_owned();
    let attempt = world.attempt(&app, &text(&message["id"]), &text(&made["id"]), 1, Some(500)).await.to_string();
    let auto = world.call("POST", "/app/x/autoconfig", json!({})).await.expect(200);
    [("{attempt_id}", attempt), ("{autoconfig_id}", text(&auto["id"]))]
}

/// Asserts that the value at `loc`, among others, was refused.
fn refuses(answer: Said, loc: &str, what: &str) {
    assert_eq!(answer.status, 422, "{what}: {}", answer.text);
    let refused = answer.refused();
    assert!(refused.contains(&loc.to_owned()), "{what}: {refused:?}");
}

/// No failure of ours; what is not answered yet may say so.
fn fits(answer: &Said, what: &str) {
    assert!(answer.status < 500 || answer.status == 501, "{what}: {} {}", answer.status, answer.text);
}

async fn in_the_path(world: World) {
    let long = "x".repeat(3_000);
    for (method, path, _) in operations().into_iter().filter(|(_, path, _)| path.contains('{')) {
        for (name, legible) in NAMES.into_iter().chain([(&*long, true)]) {
            let url = format!("{BASE}{}", filled(&path, name));
            let answer = world.call_as(&world.token, &method, &url[BASE.len()..], Some("{}")).await;
            fits(&answer, &format!("{method} {url}"));
            assert!(answer.status >= 400, "{method} {url}: {}", answer.status);
            assert_eq!(answer.status == 400, !legible, "{method} {url}: {} {}", answer.status, answer.text);
        }
    }
}

/// What is none of a parameter's values; empty for a text, where everything is one.
fn wrong_values(schema: &'static Value) -> &'static [&'static str] {
    let schema = match schema["oneOf"].as_array() {
        Some(choices) => resolved(choices.iter().find(|choice| choice["type"] != "null").expect("a choice")),
        None => resolved(schema),
    };
    let kind = schema["type"].as_str().or(schema["type"][0].as_str()).unwrap_or_default();
    match kind {
        "integer" => &["", "-1", "x", "1.5", "99999999999999999999999", "0x10", "٣"],
        "boolean" => &["", "maybe", "TRUE!", "2"],
        "string" if schema.get("enum").is_some() => &["", "sideways", "1"],
        "string" if schema["format"] == "date-time" => {
            &["", "yesterday", "2026-13-01T00:00:00Z", "0", "99999-01-01T00:00:00Z"]
        }
        _ => &[],
    }
}

async fn in_the_query(world: World) {
    let ids = furnished(&world).await;
    let mut tried = 0;
    for (method, path, described) in operations() {
        let path = furnished_path(&path, &ids);
        let body = described["requestBody"]["content"]["application/json"]["schema"].is_object().then_some("{}");
        let ask = async |query: &str| {
            let answer = world.call_as(&world.token, &method, &format!("{path}?{query}"), body).await;
            fits(&answer, &format!("{method} {path}?{query}"));
            answer
        };
        for query in ["%", "a=%f", "%zz=1", "channel=%00", "a%00", "limit=%ff", "x=%c3%28&limit=1"] {
            assert_eq!(ask(query).await.status, 400, "{method} {path}?{query}");
        }
        let ends = !path.ends_with(STREAM);
        if method == "GET" && ends {
            // What no operation knows is no concern of anybody's.
            ask("&&&===&;&no-such=1&no-such=2").await;
        }
        // A good call, but for what is in its query, would delete what the others need.
        if method == "DELETE" {
            continue;
        }
        let parameters = described["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        for parameter in parameters.iter().filter(|parameter| parameter["in"] == "query") {
            let (name, schema) = (parameter["name"].as_str().expect("a name"), &parameter["schema"]);
            for wrong in wrong_values(schema) {
                // Beside what finds nothing, too.
                let beside = parameters.iter().any(|one| one["name"] == "status") && name != "status";
                if beside && path.starts_with("/app/") {
                    let query = format!("status=3&{name}={wrong}");
                    refuses(ask(&query).await, &format!("query.{name}"), &format!("{method} {path}?{query}"));
                }
                refuses(
                    ask(&format!("{name}={wrong}")).await,
                    &format!("query.{name}"),
                    &format!("{method} {path}?{name}={wrong}"),
                );
                tried += 1;
            }
            for text in ["%F0%9F%92%A9", ",,,", "'", "a,b%2Cc", "-1"].into_iter().filter(|_| ends) {
                ask(&format!("{name}={text}")).await;
            }
            let kind = &resolved(schema)["type"];
            if kind != "array" && kind[0] != "array" {
                refuses(
                    ask(&format!("{name}=1&{name}=2")).await,
                    &format!("query.{name}"),
                    &format!("{method} {path}, {name} twice"),
                );
            }
            if name == "iterator" {
                for wrong in ["nonsense!", "-", "msg_x y", "~~"] {
                    refuses(
                        ask(&format!("iterator={wrong}")).await,
                        "query.iterator",
                        &format!("{method} {path}?iterator={wrong}"),
                    );
                }
            }
        }
    }
    assert!(tried > 100, "{tried}");
}

async fn in_the_body(world: World) {
    let ids = furnished(&world).await;
    let nested = |open: &str, close: &str, depth: usize| [&open.repeat(depth), "1", &close.repeat(depth)].concat();
    let broken: [Vec<u8>; 12] = [
        b"".into(),
        b"\0".into(),
        b"{".into(),
        b"{]".into(),
        b"{\"name\"}".into(),
        b"{\"name\":\"x\",}".into(),
        b"{\"name\":\"\xff\"}".into(),
        b"{\"name\":\"\\x\"}".into(),
        b"{} {}".into(),
        b"{\"a\":01}".into(),
        b"{\"a\":".repeat(13_000),
        b"{\"a\":[".iter().copied().chain(b"[".repeat(60_000)).collect(),
    ];
    for (method, path, described) in operations() {
        let path = furnished_path(&path, &ids);
        let read = described["requestBody"].is_object();
        let send = async |kind: &str, body: &[u8]| {
            let request = world.request(&method, &format!("{BASE}{path}")).bearer_auth(&world.token);
            let answer = said(request.header("content-type", kind).body(body.to_vec())).await;
            fits(&answer, &format!("{method} {path} {:?}", String::from_utf8_lossy(&body[..body.len().min(40)])));
            answer
        };
        if method != "DELETE" && path != LOGOUT && !path.ends_with(STREAM) {
            for body in &broken {
                let status = send("application/json", body).await.status;
                assert!(!read || status == 400, "{method} {path}: {status} {:.60}", String::from_utf8_lossy(body));
            }
        }
        if !read {
            continue;
        }
        for body in ["[]", "[[[]]]", "7", "\"x\"", "null"] {
            assert_eq!(send("application/json", body.as_bytes()).await.refused(), ["body"], "{method} {path} {body}");
        }
        for (name, value) in [
            ("surplus", nested("[", "]", 129)),
            ("metadata", nested("{\"a\":", "}", 5_000)),
            ("", nested("[", "]", 9_000)),
        ] {
            let refused = send("application/json", format!("{{\"{name}\":{value}}}").as_bytes()).await.refused();
            let told = refused.iter().filter(|one| **one == format!("body.{name}")).count();
            assert_eq!(told, 1, "{method} {path}, {name} too deep: {refused:?}");
        }
        for kind in
            ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "", "\u{7}", "json"]
        {
            let request = world.request(&method, &format!("{BASE}{path}")).bearer_auth(&world.token).body("{}");
            if let Ok(kind) = reqwest::header::HeaderValue::from_str(kind) {
                said(request.header("content-type", kind)).await.expect(415);
            }
        }
        let request = world.request(&method, &format!("{BASE}{path}")).bearer_auth(&world.token).body("{}");
        said(request.header("content-encoding", "gzip").header("content-type", "application/json")).await.expect(415);
        send("application/json", &vec![b' '; 2 * MAX_PAYLOAD + 64 * 1024 + 1]).await.expect(413);
    }
}

async fn in_the_headers(world: World) {
    let ids = furnished(&world).await;
    for (method, path, described) in operations() {
        let url = format!("{BASE}{}", furnished_path(&path, &ids));
        let request = || world.request(&method, &url).header("content-type", "application/json").body("{}");
        let shown: [&[u8]; 8] = [
            b"Bearer \xff\xfe",
            b"Bearer",
            b"",
            b"Bearer  ",
            b"Digest x",
            b"Bearer a.b.c",
            b"Bearer sk_x",
            b"Bearer \t\"'",
        ];
        for shown in shown {
            let value = reqwest::header::HeaderValue::from_bytes(shown).expect("a value");
            let answer = said(request().header("authorization", value)).await;
            fits(&answer, &format!("{method} {url}"));
            let open = described["security"].as_array().is_some_and(Vec::is_empty);
            assert_eq!(answer.status == 401, !open, "{method} {url} {shown:?}: {}", answer.status);
        }
        let known = || request().bearer_auth(&world.token);
        if method == "DELETE" || path == LOGOUT || path.ends_with(STREAM) {
            // The others need what it would delete.
            continue;
        }
        let answer = said(known().header("x-huge", "x".repeat(60_000)).header("accept", "nonsense")).await;
        fits(&answer, &format!("{method} {url}"));
        let keyed = |one: &Value| one["$ref"] == "#/components/parameters/IdempotencyKey";
        if described["parameters"].as_array().is_some_and(|all| all.iter().any(keyed)) {
            let long = said(known().header("idempotency-key", "x".repeat(257))).await;
            refuses(long, "header.idempotency-key", &format!("{method} {url}"));
        }
    }
}

async fn beside_the_routes(world: World) {
    for path in ["", "/", "//", "/nothing", "/app//endpoint", "/app/x/y/z", "/%ff", "/%zz", "/APP", "/app.json"] {
        for method in ["GET", "POST", "DELETE", "OPTIONS", "BREW"] {
            let url = format!("{BASE}{path}");
            let answer = said(world.request(method, &url).bearer_auth(&world.token)).await;
            assert_eq!(answer.expect(404)["code"], "not_found", "{method} {url}");
        }
    }
    let long = said(world.request("GET", &format!("{BASE}/{}", "x".repeat(30_000)))).await;
    assert!(long.text.len() < 1_000, "not all of it is said again");
    long.expect(404);
    // What no client would send. Below our routes, it is the HTTP server that answers or hangs up.
    let address = world.url.strip_prefix("http://").expect("an address");
    for request in [
        b"GET /api/v1/app/\xff\xfe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
        b"GET /api/v1/app/\xc3\xa9?\xc3\xa9=\xff HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
        b"GET http://[::1/api HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
        b"GET /api/v1/app HTTP/9.9\r\nhost: x\r\n\r\n".to_vec(),
        b"nonsense\r\n\r\n".to_vec(),
        [b"GET /api/v1/app HTTP/1.1\r\nx: ".to_vec(), vec![b'x'; 300_000], b"\r\n\r\n".to_vec()].concat(),
        b"POST /api/v1/app HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n".to_vec(),
        b"POST /api/v1/app HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_vec(),
    ] {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(crate::support::SOON)).expect("a timeout");
        let _ = stream.write_all(&request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let first = answer.lines().next().unwrap_or_default();
        assert!(
            first.is_empty() || first.starts_with("HTTP/1.1 4"),
            "{:?}: {answer}",
            String::from_utf8_lossy(&request[..40])
        );
    }
    assert_eq!(world.get("/app").await.status, 200, "and it goes on");
}
