//! One application's token that asks for lists with filters that match nothing, many at a time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Requests at a time.
const READS: usize = 16;

/// Filters over all messages of the application.
const FILTERS: [&str; 3] = ["tag=nosuch", "channel=nosuch", "event_types=nosuch"];

/// The reads, until [`Scans::stop`].
pub struct Scans {
    running: Arc<AtomicBool>,
    statuses: Arc<Mutex<BTreeMap<u16, usize>>>,
    thread: JoinHandle<()>,
}

impl Scans {
    /// Reads the messages of `app`, from a thread of its own.
    pub fn start(server: &str, token: &str, app: &str) -> Scans {
        let (running, statuses) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::default()));
        let (goes_on, counts) = (Arc::clone(&running), Arc::clone(&statuses));
        let (list, token) = (format!("{server}/api/v1/app/{app}/msg?limit=250"), token.to_owned());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let client = reqwest::Client::builder().no_proxy().build().expect("a client");
                let mut reads = tokio::task::JoinSet::new();
                for n in 0..READS {
                    let request = client.get(format!("{list}&{}", FILTERS[n % FILTERS.len()])).bearer_auth(&token);
                    let (running, counts) = (Arc::clone(&goes_on), Arc::clone(&counts));
                    reads.spawn(async move { read(request, &running, &counts).await });
                }
                reads.join_all().await;
            });
        });
        Scans { running, statuses, thread }
    }

    /// Ends all; gives how often each status was the answer.
    pub fn stop(self) -> BTreeMap<u16, usize> {
        self.running.store(false, Ordering::Relaxed);
        self.thread.join().expect("the readers' thread");
        self.statuses.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

/// One read after the other. Status 0 is no answer.
async fn read(request: reqwest::RequestBuilder, running: &AtomicBool, counts: &Mutex<BTreeMap<u16, usize>>) {
    while running.load(Ordering::Relaxed) {
        let Some(request) = request.try_clone() else { return };
        let status = match request.timeout(Duration::from_secs(30)).send().await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                let _ = answer.bytes().await;
                status
            }
            Err(_) => 0,
        };
        *counts.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).entry(status).or_default() += 1;
    }
}
