//! Names whose addresses change between saving and sending, or that have allowed and refused addresses at once. A canary
//! listens at the refused address on the same port; no connection ever reaches it.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sendoff::domain::address::AddressPolicy;
use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::deliveries::attempt::Failure;
use sendoff::domain::deliveries::backoff::RetrySchedule;
use sendoff::egress::{Egress, EgressOptions};

use crate::support::name_server::name_server;
use crate::support::{SOON, eventually, on_both};
use crate::world::Kind;
use crate::world::{World, options};

on_both! {
    names_that_change_and_mixed_answers_never_lead_to_the_canary
}

const OPENED: Ipv4Addr = Ipv4Addr::new(127, 0, 31, 1);
const CANARY: Ipv4Addr = Ipv4Addr::new(127, 0, 31, 66);

/// Answers 200 on `ip`; gives the port and the number of connections.
fn listen(ip: Ipv4Addr, port: u16) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((ip, port)).unwrap();
    let (port, count) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 8_192]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        }
    });
    (port, count)
}

async fn names_that_change_and_mixed_answers_never_lead_to_the_canary(kind: Kind) {
    // The two kinds of store run at once, and each has its own port.
    let (port, canary) = listen(CANARY, 0);
    let (_, opened) = listen(OPENED, port);
    let asked = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
    let counted = Arc::clone(&asked);
    let name_server = name_server(move |name| {
        let mut asked = counted.lock().unwrap();
        let times = asked.entry(name.to_owned()).or_default();
        *times += 1;
        match name {
            // Public when it is saved, and the canary from the first attempt on.
            "rebinds.example" if *times > 1 => vec![CANARY],
            "rebinds.example" => vec![Ipv4Addr::new(198, 41, 0, 4)],
            "flips.example" if times.is_multiple_of(2) => vec![CANARY],
            "flips.example" => vec![OPENED],
            "first.example" => vec![CANARY, OPENED],
            "last.example" => vec![OPENED, CANARY],
            _ => Vec::new(),
        }
    });
    let policy = AddressPolicy { allow: vec!["127.0.31.1/32".parse().unwrap()], https_only: false };
    let egress = Egress::with(EgressOptions { policy, name_servers: vec![name_server], ..EgressOptions::default() });
    let egress = egress.unwrap();
    let url = |name: &str| format!("http://{name}.example:{port}/");
    egress.vet_text(&url("rebinds")).await.unwrap();
    // The cached answer has expired when the name server is asked again.
    eventually("the name leads to the canary", SOON, async || egress.vet_text(&url("rebinds")).await.err()).await;

    let mut world = World::quiet(kind).await;
    let mut endpoints = HashMap::new();
    for name in ["rebinds", "flips", "first", "last"] {
        let spec = EndpointSpec { url: url(name), channels: Some(vec![name.to_owned()]), ..EndpointSpec::default() };
        endpoints.insert(name, world.endpoint_with(spec).await.0.id);
    }
    let mut options = options();
    options.delivery.schedule = RetrySchedule::new("schedule", vec![Duration::from_millis(400); 6]).unwrap();
    world.start_with(egress, options);
    let mut sent = Vec::new();
    let times = |name: &str| asked.lock().unwrap().get(&format!("{name}.example")).copied().unwrap_or(0);
    // Until the name has changed twice.
    eventually("a name has changed", SOON * 3, async || {
        for name in ["rebinds", "flips", "first", "last"] {
            sent.push((name, world.send_as("t", &[name], "{}").await.id));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        (times("flips") > 3).then_some(())
    })
    .await;
    let mut delivered = 0;
    for (name, message) in sent {
        let wanted: &[Option<Failure>] = match name {
            "rebinds" => &[Some(Failure::Blocked)],
            "flips" => &[Some(Failure::Blocked), None],
            _ => &[None],
        };
        let attempts = eventually("an attempt", SOON, async || {
            Some(world.attempts(message).await).filter(|attempts| !attempts.is_empty())
        });
        for attempt in attempts.await {
            let outcome = attempt.outcome;
            assert!(wanted.contains(&outcome.failure), "{name}: {outcome:?}");
            assert!(!outcome.detail.contains("127."), "{name}: {outcome:?}");
            delivered += usize::from(outcome.delivered());
        }
    }
    world.stop().await;
    assert!(delivered > 0 && opened.load(Ordering::SeqCst) >= delivered);
    assert_eq!(canary.load(Ordering::SeqCst), 0, "the canary was reached");
}
