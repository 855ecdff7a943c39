//! Two ledgers: what was acknowledged, and what arrived. And the judgement over both and the books.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::books::Entry;
use crate::support::{Answer, Received};

/// Signs all that the receiver gets.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The kinds of events that are sent, and the paths of the endpoints that want them.
pub const TYPES: [(&str, &[&str]); 7] = [
    ("t", &["/a", "/b"]),
    ("flaky", &["/flaky"]),
    ("ordered", &["/ordered/well", "/ordered/flaky"]),
    ("dying", &["/dying"]),
    ("wide", &WIDE),
    ("paced", &["/paced"]),
    ("shared", &["/shared/1", "/shared/2", "/shared/3"]),
];

/// Enough endpoints that every process has some.
pub const WIDE: [&str; 24] = [
    "/w/0", "/w/1", "/w/2", "/w/3", "/w/4", "/w/5", "/w/6", "/w/7", "/w/8", "/w/9", "/w/10", "/w/11", "/w/12", "/w/13",
    "/w/14", "/w/15", "/w/16", "/w/17", "/w/18", "/w/19", "/w/20", "/w/21", "/w/22", "/w/23",
];

/// An endpoint's path, and the sender's own id of an event.
pub type Pair = (String, String);

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub at: Instant,
    /// Answered with 2xx.
    pub taken: bool,
    /// The `webhook-timestamp`, in seconds.
    pub stamp: i64,
    webhook_id: String,
    signed: bool,
}

#[derive(Default)]
struct Pages {
    /// Key → event type, and when it was acknowledged.
    acknowledged: HashMap<String, (String, Instant)>,
    received: HashMap<Pair, Vec<Receipt>>,
    /// What was with the receiver and not in the books at a fault, and at how many.
    in_flight: HashMap<Pair, usize>,
    refused: u64,
    /// How many requests have arrived.
    arrived: usize,
    /// Kinds of events beside [`TYPES`].
    more: HashMap<String, Vec<String>>,
}

/// The two ledgers.
#[derive(Default)]
pub struct Ledger {
    pages: Mutex<Pages>,
}

/// What came of a fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Toll {
    pub accepted: usize,
    pub delivered: usize,
    pub dead: usize,
    pub lost: Vec<Pair>,
    pub duplicates: usize,
    pub in_flight: usize,
    /// Whatever else is not as it should be.
    pub wrong: Vec<String>,
}

impl Ledger {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Events of this type are for these paths.
    pub fn expect(&self, event_type: &str, paths: Vec<String>) {
        self.pages().more.insert(event_type.to_owned(), paths);
    }

    /// The sender was told that this event is safe.
    pub fn acknowledge(&self, key: &str, event_type: &str) {
        self.pages().acknowledged.insert(key.to_owned(), (event_type.to_owned(), Instant::now()));
    }

    /// The sender was told that it is not (503, or nothing at all).
    pub fn refuse(&self) {
        self.pages().refused += 1;
    }

    /// The receiver's rule: enters the request, and says what it is answered.
    pub fn receive(&self, request: &Received) -> Answer {
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let key = body["key"].as_str().unwrap_or_default().to_owned();
        let pair = (request.path.clone(), key.clone());
        let signed = signed(request);
        let mut pages = self.pages();
        pages.arrived += 1;
        let receipts = pages.received.entry(pair).or_default();
        let taken = match request.path.as_str() {
            "/dying" => false,
            "/flaky" => !receipts.is_empty(),
            // Every tenth takes two attempts.
            "/ordered/flaky" => !receipts.is_empty() || !key.ends_with('7'),
            _ => true,
        };
        let webhook_id = request.header("webhook-id").unwrap_or_default().to_owned();
        let stamp = stamp(request).unwrap_or_default();
        receipts.push(Receipt { at: request.instant, taken, stamp, webhook_id, signed });
        if taken { Answer::ok().after(Duration::from_millis(5)) } else { Answer::status(500) }
    }

    pub fn acknowledged(&self) -> usize {
        self.pages().acknowledged.len()
    }

    pub fn refused(&self) -> u64 {
        self.pages().refused
    }

    /// How many requests have arrived.
    pub fn arrived(&self) -> usize {
        self.pages().arrived
    }

    /// When what was acknowledged after `since` arrived first, by path.
    pub fn first_since(&self, since: Instant) -> HashMap<String, Instant> {
        let pages = self.pages();
        let mut first: HashMap<String, Instant> = HashMap::new();
        for ((path, key), receipts) in &pages.received {
            if pages.acknowledged.get(key).is_some_and(|(_, at)| *at > since)
                && let Some(receipt) = receipts.first()
            {
                first.entry(path.clone()).and_modify(|at| *at = (*at).min(receipt.at)).or_insert(receipt.at);
            }
        }
        first
    }

    /// The numbers of the events that the receiver has taken at `path`, in the order of their arrival; repeats that follow directly
    /// count once.
    pub fn order(&self, path: &str) -> Vec<usize> {
        let pages = self.pages();
        let mut taken: Vec<(Instant, usize)> = Vec::new();
        for ((_, key), receipts) in pages.received.iter().filter(|((at, _), _)| at == path) {
            let number = key[1..].parse().expect("a number");
            taken.extend(receipts.iter().filter(|one| one.taken).map(|one| (one.at, number)));
        }
        taken.sort();
        let mut numbers: Vec<usize> = taken.into_iter().map(|(_, number)| number).collect();
        numbers.dedup();
        numbers
    }

    /// What arrived for an event, in order.
    pub fn receipts(&self, path: &str, key: &str) -> Vec<Receipt> {
        self.pages().received.get(&(path.to_owned(), key.to_owned())).cloned().unwrap_or_default()
    }

    /// When requests arrived at paths that begin with `prefix`, in order.
    pub fn arrivals(&self, prefix: &str) -> Vec<Instant> {
        let pages = self.pages();
        let here = pages.received.iter().filter(|((path, _), _)| path.starts_with(prefix));
        let mut times: Vec<Instant> = here.flat_map(|(_, receipts)| receipts.iter().map(|one| one.at)).collect();
        times.sort();
        times
    }

    /// A fault has just struck: of what was `pending` then, what the receiver has taken was in flight. Gives back the rest.
    pub fn strike(&self, pending: Vec<Pair>) -> Vec<Pair> {
        let mut pages = self.pages();
        let taken = |pair: &Pair| pages.received.get(pair).is_some_and(|all| all.iter().any(|one| one.taken));
        let (struck, rest): (Vec<Pair>, Vec<Pair>) = pending.into_iter().partition(taken);
        struck.into_iter().for_each(|pair| *pages.in_flight.entry(pair).or_default() += 1);
        rest
    }

    /// A process was stopped: what is `pending` it may have begun, written or not.
    pub fn suspend(&self, pending: Vec<Pair>) {
        let mut pages = self.pages();
        pending.into_iter().for_each(|pair| *pages.in_flight.entry(pair).or_default() += 1);
    }

    /// Compares everything, once the world has come to rest.
    pub fn judge(&self, books: &[Entry]) -> Toll {
        let pages = self.pages();
        let mut toll =
            Toll { accepted: pages.acknowledged.len(), in_flight: pages.in_flight.values().sum(), ..Toll::default() };
        let entries: HashMap<&Pair, &Entry> = books.iter().map(|entry| (&entry.pair, entry)).collect();
        for (key, (event_type, _)) in &pages.acknowledged {
            for path in pages.paths(event_type) {
                let pair: Pair = (path.to_owned(), key.clone());
                let arrived = pages.received.get(&pair);
                let taken = arrived.is_some_and(|all| all.iter().any(|one| one.taken));
                match entries.get(&pair).map(|entry| entry.state) {
                    Some(2) if taken => toll.delivered += 1,
                    Some(3) if arrived.is_some() => toll.dead += 1,
                    Some(0 | 1) => toll.wrong.push(format!("{pair:?} is still pending")),
                    _ => toll.lost.push(pair),
                }
            }
        }
        let mut unexplained = BTreeSet::new();
        for (pair, receipts) in &pages.received {
            let taken = receipts.iter().filter(|one| one.taken).count();
            toll.duplicates += taken.saturating_sub(1);
            if taken > 1 + pages.in_flight.get(pair).copied().unwrap_or(0) {
                unexplained.insert(pair.clone());
            }
            if receipts.iter().any(|one| one.webhook_id != receipts[0].webhook_id) {
                toll.wrong.push(format!("{pair:?} came under two ids"));
            }
            if !receipts.iter().all(|one| one.signed) {
                toll.wrong.push(format!("{pair:?} was not signed"));
            }
            if !entries.contains_key(pair) {
                toll.wrong.push(format!("{pair:?} was sent and is not in the books"));
            }
        }
        if !unexplained.is_empty() {
            let some: Vec<_> = unexplained.iter().take(5).collect();
            toll.wrong
                .push(format!("{} came more often than they were in flight at a fault: {some:?}", unexplained.len()));
        }
        toll
    }
}

impl Pages {
    fn paths(&self, event_type: &str) -> impl Iterator<Item = &str> {
        let known = TYPES.iter().find(|(name, _)| *name == event_type).map_or(&[][..], |(_, paths)| paths);
        known.iter().copied().chain(self.more.get(event_type).into_iter().flatten().map(String::as_str))
    }
}

fn stamp(request: &Received) -> Option<i64> {
    request.header("webhook-timestamp")?.parse().ok()
}

/// By the library of Standard Webhooks; when it was signed is another question, since clocks are set here too.
fn signed(request: &Received) -> bool {
    let hook = standardwebhooks::Webhook::new(SECRET).expect("a secret");
    let signed = |id: &str| hook.sign(id, stamp(request)?, &request.body).ok();
    let signature = request.header("webhook-id").and_then(signed);
    signature.is_some() && signature.as_deref() == request.header("webhook-signature")
}

impl Toll {
    /// What was added since `before`.
    pub fn since(&self, before: &Toll) -> Toll {
        Toll {
            accepted: self.accepted - before.accepted,
            delivered: self.delivered - before.delivered,
            dead: self.dead - before.dead,
            duplicates: self.duplicates - before.duplicates,
            in_flight: self.in_flight - before.in_flight,
            ..self.clone()
        }
    }

    /// Prints the row of the table, and fails if anything was lost or is wrong.
    pub fn enter(&self, fault: &str, store: &str, runs: usize) {
        let row = format!(
            "| {fault} | {store} | {runs} | {} | {} | {} | {} | {} | {} |",
            self.accepted,
            self.delivered,
            self.lost.len(),
            self.duplicates,
            self.in_flight,
            self.dead
        );
        note(&row);
        assert!(self.lost.is_empty(), "{} are lost: {:?}", self.lost.len(), self.lost.iter().take(5));
        assert!(self.wrong.is_empty(), "{:#?}", self.wrong.iter().take(10).collect::<Vec<_>>());
    }
}

/// Prints a line and keeps it, so that `make chaos` can show the whole table at its end.
pub fn note(line: &str) {
    println!("{line}");
    let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/chaos.md");
    if let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path) {
        let _ = writeln!(file, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, key: &str, state: i64) -> Entry {
        Entry { pair: (path.into(), key.into()), state, attempts: 1 }
    }

    fn taken(webhook_id: &str) -> Receipt {
        Receipt { at: Instant::now(), taken: true, stamp: 0, webhook_id: webhook_id.into(), signed: true }
    }

    /// Acknowledged and arrived at `/flaky`.
    fn ledger(receipts: Vec<Receipt>) -> Ledger {
        let ledger = Ledger::default();
        ledger.acknowledge("k", "flaky");
        ledger.pages().received.insert(("/flaky".into(), "k".into()), receipts);
        ledger
    }

    #[test]
    fn the_oracle_sees_what_is_lost() {
        assert_eq!(ledger(vec![taken("m")]).judge(&[entry("/flaky", "k", 2)]).delivered, 1);
        assert_eq!(ledger(vec![]).judge(&[entry("/flaky", "k", 2)]).lost.len(), 1, "in the books and never arrived");
        assert_eq!(ledger(vec![taken("m")]).judge(&[]).lost.len(), 1, "arrived and not in the books");
        assert_eq!(ledger(vec![taken("m")]).judge(&[entry("/flaky", "k", 3)]).dead, 1);
        assert_eq!(ledger(vec![]).judge(&[entry("/flaky", "k", 1)]).wrong.len(), 1, "still pending");
    }

    #[test]
    fn the_oracle_sees_duplicates_and_asks_for_their_cause() {
        let twice = ledger(vec![taken("m"), taken("m")]);
        let books = [entry("/flaky", "k", 2)];
        assert_eq!((twice.judge(&books).duplicates, twice.judge(&books).wrong.len()), (1, 1));
        let rest = twice.strike(vec![("/flaky".into(), "k".into()), ("/a".into(), "x".into())]);
        assert_eq!(rest, [("/a".into(), "x".into())]);
        assert_eq!((twice.judge(&books).duplicates, twice.judge(&books).wrong.len()), (1, 0));
        let other = ledger(vec![taken("m"), taken("n")]);
        other.strike(vec![("/flaky".into(), "k".into())]);
        assert_eq!(other.judge(&books).wrong.len(), 1, "under another id");
    }
}
