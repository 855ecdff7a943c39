//! A world under load: the processes on one store, one receiver, one application with endpoints of every temper.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::books::Books;
use crate::ledger::{Ledger, Pair, SECRET, TYPES, Toll};
use crate::load::{Load, Sender};
pub use crate::support::Kind;
use crate::support::{Binary, Postgres, Prints, Receiver, SOON, Server, eventually, sqlite_file};

/// How long nothing may go on in a world that comes to rest after the last fault: leases run out within it.
pub const REST: Duration = Duration::from_secs(60);

/// Room for a world. Faults are measured in time, so that only a few stand at once: most of theirs is waiting.
struct Plot;

static TAKEN: Mutex<usize> = Mutex::new(0);
static SLOTS_RELEASED: Condvar = Condvar::new();
const PLOTS: usize = 2;

impl Plot {
    fn take() -> Plot {
        let taken = TAKEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let taken = SLOTS_RELEASED.wait_while(taken, |taken| *taken >= PLOTS);
        *taken.unwrap_or_else(|poisoned| poisoned.into_inner()) += 1;
        Plot
    }
}

impl Drop for Plot {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) -= 1;
        SLOTS_RELEASED.notify_one();
    }
}

pub struct World {
    pub kind: Kind,
    pub books: Books,
    pub ledger: Arc<Ledger>,
    pub sender: Sender,
    pub receiver: Receiver,
    /// By the number that [`World::start`] gave; `None`: it has ended.
    processes: Vec<Option<(Server, &'static str)>>,
    url: String,
    /// In place of what all worlds have.
    settings: Vec<(&'static str, String)>,
    prints: Prints,
    _plot: Plot,
    _kept: Option<Box<dyn Any + Send>>,
}

impl World {
    /// On a fresh store, without a process.
    pub fn on(kind: Kind) -> World {
        match kind {
            Kind::Sqlite => {
                let file = sqlite_file();
                World::at(kind, &file.url(), Some(Box::new(file)))
            }
            Kind::Postgres => World::at(kind, &Postgres::shared().fresh_database(), None),
        }
    }

    /// On the store at `url`.
    pub fn at(kind: Kind, url: &str, kept: Option<Box<dyn Any + Send>>) -> World {
        let plot = Plot::take();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ledger = Arc::new(Ledger::default());
        let theirs = Arc::clone(&ledger);
        let receiver = Receiver::start(move |request| theirs.receive(request));
        let books = Books::at(url);
        let sender = Sender {
            ledger: Arc::clone(&ledger),
            targets: Arc::default(),
            token: Binary::on(url).token(),
            client: reqwest::Client::builder().timeout(Duration::from_secs(20)).build().expect("a client"),
            numbers: Arc::new(AtomicUsize::new(0)),
            books: books.clone(),
        };
        let processes = Vec::new();
        let url = url.to_owned();
        let (settings, prints) = (Vec::new(), Prints::default());
        World { kind, books, ledger, sender, receiver, processes, url, settings, prints, _plot: plot, _kept: kept }
    }

    /// What is started from now on has this setting.
    pub fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.settings.push((name, value.into()));
    }

    /// What is started from now on prints there.
    pub fn prints(&mut self, prints: Prints) {
        self.prints = prints;
    }

    /// A key of the API, for when tokens are of no use: their times are the wall clock's.
    pub fn use_key(&mut self) {
        let made = Binary::on(&self.url).run(&["key", "create", "chaos"]);
        assert!(made.status.success(), "{made:?}");
        self.sender.token = made.stdout.trim().to_owned();
    }

    /// Starts a process; gives back its number.
    pub fn start(&mut self, role: &'static str) -> usize {
        let server = self.binary(role).serve();
        self.moved_in(server, role)
    }

    /// Starts a process that kills (or stops) itself at a crash point, which may be before it answers anybody.
    pub fn start_armed(&mut self, role: &'static str, point: &str) -> usize {
        let server = self.binary(role).set("SENDOFF_TEST_CRASH", point).launch();
        self.moved_in(server, role)
    }

    /// Starts a process in which a task panics once, at its nth step (`event_loop:20`), which may be before it answers anybody.
    pub fn start_panicking(&mut self, role: &'static str, place: &str) -> usize {
        let server = self.binary(role).set("SENDOFF_TEST_PANIC", place).launch();
        self.moved_in(server, role)
    }

    fn binary(&self, role: &str) -> Binary {
        let binary = Binary::on(&self.url)
            .set("SENDOFF_ROLE", role)
            .set("SENDOFF_RETRY_SCHEDULE", "100ms,100ms")
            .prints(self.prints)
            .set("SENDOFF_LOG", "warn")
            .set("SENDOFF_MAX_IN_FLIGHT", "256");
        self.settings.iter().fold(binary, |binary, (name, value)| binary.set(name, value))
    }

    fn moved_in(&mut self, server: Server, role: &'static str) -> usize {
        self.processes.push(Some((server, role)));
        self.aim();
        self.processes.len() - 1
    }

    /// Points the senders at those that are up.
    fn aim(&self) {
        let up = self.processes.iter().flatten().filter(|(_, role)| *role != "worker");
        let urls = up.map(|(server, _)| server.url()).collect();
        *self.sender.targets.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = urls;
    }

    pub fn server(&mut self, process: usize) -> &mut Server {
        &mut self.processes[process].as_mut().expect("it is up").0
    }

    /// The numbers of those that are up.
    pub fn up(&self) -> Vec<usize> {
        (0..self.processes.len()).filter(|number| self.processes[*number].is_some()).collect()
    }

    pub fn role(&self, process: usize) -> &'static str {
        self.processes[process].as_ref().expect("it is up").1
    }

    /// That nobody has ended by itself.
    pub fn all_up(&mut self) {
        for (server, role) in self.processes.iter_mut().flatten() {
            let ended = server.exited();
            assert!(ended.is_none(), "a process ({role}) has ended by itself: {ended:?}\n{}", server.output());
        }
    }

    /// The application, and the endpoints that the load sends to.
    pub async fn furnish(&self) {
        self.call("/app/", json!({"name": "Chaos", "uid": "chaos"})).await;
        for event_type in ["t", "flaky", "dying"] {
            self.furnish_for("chaos", event_type, None).await;
        }
        if self.kind == Kind::Postgres {
            self.spread().await;
        }
    }

    /// Moves the endpoints into slots far apart, so that every process of a fleet has some: the endpoints of one small application share
    /// a slot, and thus a process. Call it before the first event.
    pub async fn spread(&self) {
        const SQL: &str = "UPDATE endpoint SET slot = apart.slot FROM
             (SELECT id, CAST(row_number() OVER (ORDER BY id) * 101 % 256 AS SMALLINT) AS slot FROM endpoint) AS apart
             WHERE endpoint.id = apart.id";
        self.books.execute(SQL).await.expect("the slots are written");
    }

    /// Endpoints for one type of event, each with this rate.
    pub async fn furnish_for(&self, app: &str, event_type: &str, rate: Option<u16>) {
        self.call("/event-type/", json!({"name": event_type, "description": ""})).await;
        for path in TYPES.iter().filter(|(name, _)| *name == event_type).flat_map(|(_, paths)| *paths) {
            let uid = path[1..].replace('/', "-");
            let body = json!({"url": self.receiver.url(path), "filterTypes": [event_type], "secret": SECRET,
                "uid": uid, "throttleRate": rate, "ordered": event_type == "ordered"});
            self.call(&format!("/app/{app}/endpoint/"), body).await;
        }
    }

    /// Asks the first of those that are up, until it is done.
    pub async fn call(&self, path: &str, body: Value) -> Value {
        let target = self.sender.targets.lock().unwrap_or_else(|poisoned| poisoned.into_inner())[0].clone();
        let request = self.sender.client.post(format!("{target}/api/v1{path}")).bearer_auth(&self.sender.token);
        let answer =
            request.header("content-type", "application/json").body(body.to_string()).send().await.expect("an answer");
        let status = answer.status();
        let text = answer.text().await.expect("a text");
        assert!(status.is_success(), "POST {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    pub fn load(&self) -> Load {
        Load::start(&self.sender)
    }

    /// Waits until so many more events were acknowledged, and as many requests arrived.
    pub async fn progress(&self, events: usize) {
        let (acknowledged, arrived) = (self.ledger.acknowledged() + events, self.ledger.arrived() + events);
        eventually(&format!("{events} more events are acknowledged and arrive"), REST, async || {
            (self.ledger.acknowledged() >= acknowledged && self.ledger.arrived() >= arrived).then_some(())
        })
        .await;
    }

    /// Kills a process without a word, and enters what was in flight.
    pub async fn kill(&mut self, process: usize) {
        let (server, _) = self.processes[process].take().expect("it is up");
        let pid = server.pid();
        server.kill();
        self.struck(pid).await;
    }

    /// The same, and its leases run out by themselves.
    pub async fn kill_and_wait(&mut self, process: usize) {
        let (server, _) = self.processes[process].take().expect("it is up");
        server.kill();
        self.aim();
        self.strike_the_silenced().await;
    }

    /// A process has ended by its own hand.
    pub async fn gone(&mut self, process: usize) -> std::process::ExitStatus {
        let status = {
            let server = self.server(process);
            eventually("the process has ended", SOON, async || server.exited()).await
        };
        let (server, _) = self.processes[process].take().expect("it was up");
        let pid = server.pid();
        drop(server);
        self.struck(pid).await;
        status
    }

    async fn struck(&mut self, pid: u32) {
        self.aim();
        self.strike_the_silenced().await;
        self.end_leases(pid).await;
    }

    /// Enters what is in flight now.
    pub async fn strike(&self) {
        self.ledger.strike(self.books.pending().await);
    }

    /// The same when a process has died. What it had written last may lie at the receiver unread: when it has been read, and
    /// is still pending, it was in flight as well.
    async fn strike_the_silenced(&self) {
        let unread: BTreeSet<Pair> = self.ledger.strike(self.books.pending().await).into_iter().collect();
        let port = self.receiver.address().port();
        for _ in 0..2 {
            eventually("nothing lies unread at the receiver", REST, async || (!lies_unread(port)).then_some(())).await;
            // Between the reading of a request and its entry.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let still = self.books.pending().await;
        self.ledger.strike(still.into_iter().filter(|pair| unread.contains(pair)).collect());
    }

    /// A dead process comes back no more: what others would do when its leases have run out they may do now, and the run is shorter by
    /// ten seconds for each fault. (How long that takes when it is waited for is measured in [`crate::fleet`].)
    async fn end_leases(&self, pid: u32) {
        let sql = format!(
            "UPDATE slot SET expires_at = 0 WHERE owner IN (SELECT id FROM process WHERE name LIKE '%:{pid}');
             UPDATE process SET expires_at = 0 WHERE name LIKE '%:{pid}';
             UPDATE background SET leased_until = 0"
        );
        self.books.execute(&sql).await.expect("the store answers");
    }

    /// Tells a process to end, and waits until it has.
    pub async fn terminate(&mut self, process: usize) {
        let (server, role) = self.processes[process].take().expect("it is up");
        self.aim();
        server.terminate();
        let (status, output) = server.wait(Duration::from_secs(40));
        assert!(status.success(), "SIGTERM to {role}: {status}\n{output}");
    }

    /// Waits until nothing waits any more, and judges.
    pub async fn rest(&mut self) -> Toll {
        let mut waiting = i64::MAX;
        // However much it is (an ordered endpoint takes one at a time), it becomes less.
        while waiting > 0 {
            waiting = eventually(&format!("less than {waiting} wait"), REST, async || {
                self.books.waiting().await.filter(|now| *now < waiting)
            })
            .await;
        }
        self.all_up();
        let mut toll = self.ledger.judge(&self.books.entries().await);
        toll.wrong.extend(self.books.orphans().await);
        toll
    }

    /// The same, and prints the row.
    pub async fn judge(&mut self, fault: &str, runs: usize) -> Toll {
        let toll = self.rest().await;
        toll.enter(fault, self.kind.name(), runs);
        toll
    }
}

/// Whether bytes lie unread at a connection to this port, by the system's own account.
fn lies_unread(port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let here = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let unread = columns.get(4).and_then(|queues| queues.split(':').nth(1));
        columns.get(1).is_some_and(|local| local.ends_with(&here)) && unread.is_some_and(|unread| unread != "00000000")
    })
}
