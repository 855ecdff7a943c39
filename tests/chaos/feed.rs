//! The feed while its processes are killed: readers that poll see every message that was acknowledged, once and in order, whichever process
//! they ask and whichever accepted it; and a leased consumer commits each of them once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};

use crate::ledger::note;
use crate::support::{Binary, Postgres, Server, eventually};

const PROCESSES: usize = 4;
const WRITERS: usize = 6;
/// How often a process is killed.
const KILLS: usize = 8;
/// How many messages are acknowledged from one to the next.
const BETWEEN: usize = 60;
const REST: Duration = Duration::from_secs(60);

/// Who asks, and whom.
#[derive(Clone)]
struct Asker {
    client: Client,
    token: String,
    /// Of the processes; one that is being killed refuses.
    urls: Arc<Mutex<Vec<String>>>,
    turn: Arc<AtomicUsize>,
}

impl Asker {
    /// The answer of the next process in turn; `None`: it is away, or died meanwhile.
    async fn ask(&self, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        let url = {
            let urls = self.urls.lock().unwrap();
            urls[self.turn.fetch_add(1, Ordering::Relaxed) % urls.len()].clone()
        };
        let url = format!("{url}/api/v1{path}");
        let request = match body {
            Some(body) => self.client.post(url).json(body),
            None => self.client.get(url),
        };
        let answer = request.bearer_auth(&self.token).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, serde_json::from_slice(&answer.bytes().await.ok()?).unwrap_or_default()))
    }

    /// Sends messages until `stop`; gives back the ids of those that were acknowledged.
    async fn write(self, writer: usize, stop: Arc<AtomicBool>, acknowledged: Arc<AtomicUsize>) -> Vec<String> {
        let mut ids = Vec::new();
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            let body = json!({"eventType": "t", "eventId": format!("{writer}-{number}"), "payload": {"n": number}});
            match self.ask("/app/chaos/msg", Some(&body)).await {
                Some((202, message)) => {
                    ids.push(message["id"].as_str().unwrap().to_owned());
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    number += 1;
                }
                // Accepted before, and nobody heard of it.
                Some((409, _)) => number += 1,
                // The same again, of another process.
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        assert!(ids.is_sorted(), "what a writer sent later comes later");
        ids
    }

    /// Reads until `stop` and the end; gives back the ids of what it saw, in that order. A consumer sees again what it did not confirm.
    async fn read(self, path: String, stop: Arc<AtomicBool>) -> Vec<String> {
        let (mut seen, mut iterator) = (Vec::new(), None::<String>);
        loop {
            let last = stop.load(Ordering::Relaxed);
            let from = iterator.as_ref().map(|iterator| format!("&iterator={iterator}")).unwrap_or_default();
            match self.ask(&format!("{path}{from}"), None).await {
                Some((200, page)) => {
                    seen.extend(
                        page["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()),
                    );
                    iterator = Some(page["iterator"].as_str().unwrap().to_owned());
                    if last && page["done"] == true {
                        return seen;
                    }
                }
                Some((status @ 400..500, told)) => panic!("{path}: {status} {told}"),
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

impl Asker {
    /// Leases and commits until `stop` and the end; gives back the ids of what it committed, in that order. What was leased to an answer
    /// that never came is leased again later; a commit that was not heard of is made again.
    async fn lease(self, consumer: &str, stop: Arc<AtomicBool>) -> Vec<String> {
        let path = format!("/app/chaos/polling-endpoint/p/consumer/{consumer}");
        let mut committed = Vec::new();
        loop {
            let last = stop.load(Ordering::Relaxed);
            let page = match self.ask(&format!("{path}?limit=9&lease_duration_ms=1500"), None).await {
                Some((200, page)) => page,
                // Leased to an answer that died with its process.
                Some((409, _)) | None | Some((500.., _)) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
                Some((status, told)) => panic!("{path}: {status} {told}"),
            };
            let data = page["data"].as_array().unwrap();
            let Some(end) = data.last() else {
                if last && page["done"] == true {
                    return committed;
                }
                continue;
            };
            let offset = json!({"offset": end["offset"]});
            loop {
                match self.ask(&format!("{path}/commit"), Some(&offset)).await {
                    Some((204, _)) => {
                        committed.extend(data.iter().map(|one| one["id"].as_str().unwrap().to_owned()));
                        break;
                    }
                    // The lease ran out: the same messages come again.
                    Some((409, _)) => break,
                    Some((status @ 400..500, told)) => panic!("{path}: {status} {told}"),
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_see_all_that_was_acknowledged_while_processes_are_killed() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = Postgres::shared().fresh_database();
    let start = |binary: Binary| tokio::task::spawn_blocking(move || binary.serve());
    let mut servers: Vec<Option<Server>> = Vec::new();
    for _ in 0..PROCESSES {
        servers.push(Some(start(Binary::on(&url)).await.unwrap()));
    }
    let urls = servers.iter().flatten().map(|server| server.url().to_owned()).collect();
    let asker = Asker {
        client: Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap(),
        token: servers[0].as_ref().unwrap().token(),
        urls: Arc::new(Mutex::new(urls)),
        turn: Arc::default(),
    };
    asker.ask("/app", Some(&json!({"name": "Chaos", "uid": "chaos"}))).await.unwrap();
    asker.ask("/app/chaos/destination", Some(&json!({"type": "pollingEndpoint", "uid": "p"}))).await.unwrap();
    let (stop_writing, stop_reading, acknowledged) =
        (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default(), Arc::default());
    let paths = ["?limit=7", "?limit=50&wait=2", "/consumer/a?limit=7", "/consumer/b?limit=20&wait=1"];
    let readers = paths.map(|path| {
        let reading = asker.clone().read(format!("/app/chaos/poller/p{path}"), stop_reading.clone());
        (path, tokio::spawn(reading))
    });
    let leased = ["l", "m"].map(|consumer| {
        let (asker, stop) = (asker.clone(), stop_reading.clone());
        (consumer, tokio::spawn(async move { asker.lease(consumer, stop).await }))
    });
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(asker.clone().write(writer, stop_writing.clone(), Arc::clone(&acknowledged))))
        .collect();
    for kill in 0..KILLS {
        let before = acknowledged.load(Ordering::Relaxed);
        eventually("messages are acknowledged", REST, async || {
            (acknowledged.load(Ordering::Relaxed) >= before + BETWEEN).then_some(())
        })
        .await;
        let server = servers[kill % PROCESSES].take().unwrap();
        let again = tokio::task::spawn_blocking(move || server.kill().serve()).await.unwrap();
        asker.urls.lock().unwrap()[kill % PROCESSES] = again.url().to_owned();
        servers[kill % PROCESSES] = Some(again);
    }
    stop_writing.store(true, Ordering::Relaxed);
    let mut sent = BTreeSet::new();
    for writer in writers {
        sent.extend(writer.await.unwrap());
    }
    stop_reading.store(true, Ordering::Relaxed);
    let mut all: Option<Vec<String>> = None;
    for (path, reader) in readers {
        let seen = reader.await.unwrap();
        assert!(seen.is_sorted_by(|one, next| one < next), "{path}: each once, in order");
        assert!(sent.iter().all(|id| seen.binary_search(id).is_ok()), "{path}: all that was acknowledged");
        assert_eq!(all.get_or_insert_with(|| seen.clone()), &seen, "{path}: all readers see the same");
    }
    let all = all.unwrap_or_default();
    for (consumer, reader) in leased {
        let committed = reader.await.unwrap();
        assert_eq!(committed, all, "the leased consumer {consumer}: each committed once, in order");
    }
    note(&format!(
        "feed: {KILLS} × kill -9 of {PROCESSES} processes, {WRITERS} writers, 4 readers, 2 leased consumers: {} acknowledged, {} seen by each, once and in order",
        sent.len(),
        all.len()
    ));
}
