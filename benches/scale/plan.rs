//! The cases and their sizes.

use std::path::PathBuf;
use std::time::Duration;

use super::common::arguments::Arguments;
use super::support::Kind;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    FanOut,
    Pending,
    Idle,
    Payloads,
    History,
    Retention,
    Snapshot,
    Organizations,
    Workers,
    Processes,
    LongPolls,
    ShortPolls,
    Feed,
}

impl Case {
    pub const ALL: [Case; 13] = [
        Case::FanOut,
        Case::Pending,
        Case::Idle,
        Case::Payloads,
        Case::History,
        Case::Retention,
        Case::Snapshot,
        Case::Organizations,
        Case::Workers,
        Case::Processes,
        Case::LongPolls,
        Case::ShortPolls,
        Case::Feed,
    ];

    /// The value of `--case`.
    pub fn name(self) -> &'static str {
        match self {
            Case::FanOut => "fan-out",
            Case::Pending => "pending",
            Case::Idle => "idle",
            Case::Payloads => "payloads",
            Case::History => "history",
            Case::Retention => "retention",
            Case::Snapshot => "snapshot",
            Case::Organizations => "organizations",
            Case::Workers => "workers",
            Case::Processes => "processes",
            Case::LongPolls => "long-polls",
            Case::ShortPolls => "short-polls",
            Case::Feed => "feed",
        }
    }

    /// # Panics
    /// There is no such case.
    pub fn parse(name: &str) -> Case {
        let names = Case::ALL.map(Case::name).join(", ");
        let found = Case::ALL.into_iter().find(|case| case.name() == name);
        found.unwrap_or_else(|| panic!("--case {name}: expected one of {names}"))
    }

    /// Snapshots that block others and shared stores exist on PostgreSQL only.
    pub fn runs_on(self, store: Kind) -> bool {
        store == Kind::Postgres || !matches!(self, Case::Snapshot | Case::Workers | Case::Processes)
    }
}

/// The sizes of a run, each with its flag.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `--binary`: the measured program.
    pub program: PathBuf,
    /// `--seconds`: duration of a load.
    pub seconds: f64,
    /// `--rounds`: how often two compared loads alternate.
    pub rounds: usize,
    /// `--connections`: of closed loads.
    pub connections: usize,
    /// `--payload`: bytes per payload of closed loads.
    pub payload: usize,
    /// `--rate`: events per second of background loads.
    pub rate: f64,
    /// `--endpoints`: for fan-out, pending and idle.
    pub endpoints: usize,
    /// `--messages`: to all endpoints, through the outbox; one more goes over REST.
    pub messages: usize,
    /// `--large`: number of 256 KiB payloads.
    pub large: usize,
    /// `--huge`: number of 16 MiB payloads.
    pub huge: usize,
    /// `--history`: stored messages, each with a delivery and its attempts.
    pub history: usize,
    /// `--requests`: requests per page or list.
    pub requests: usize,
    /// `--expired`: deliveries beyond the retention.
    pub expired: usize,
    /// `--snapshot`: seconds that a transaction stays open.
    pub snapshot: f64,
    /// `--organizations`.
    pub organizations: usize,
    /// `--rows`: messages of all organizations.
    pub rows: usize,
    /// `--processes`: idle processes on one PostgreSQL.
    pub processes: usize,
    /// `--polls`: long polls that wait at the same time.
    pub polls: usize,
    /// `--poll-rate`: polls per second that get a 304.
    pub poll_rate: f64,
}

impl Plan {
    /// The full preset, or the one of `--short`, changed by flags.
    pub fn read(arguments: &Arguments) -> Plan {
        let short = arguments.has("--short");
        let number = |name: &str, full: f64, less: f64| arguments.number(name, if short { less } else { full });
        let count = |name: &str, full: usize, less: usize| arguments.count(name, if short { less } else { full });
        Plan {
            program: arguments.text("--binary").unwrap_or(env!("CARGO_BIN_EXE_sendoff")).into(),
            seconds: number("--seconds", 30.0, 5.0),
            rounds: count("--rounds", 3, 1),
            connections: count("--connections", 256, 64),
            payload: count("--payload", 300, 300),
            rate: number("--rate", 100.0, 100.0),
            endpoints: count("--endpoints", 100_000, 5_000),
            messages: count("--messages", 256, 8),
            large: count("--large", 8_192, 2_048),
            huge: count("--huge", 64, 32),
            history: count("--history", 10_000_000, 100_000),
            requests: count("--requests", 20, 5),
            expired: count("--expired", 2_000_000, 100_000),
            snapshot: number("--snapshot", 600.0, 10.0),
            organizations: count("--organizations", 1_000, 100),
            rows: count("--rows", 1_000_000, 50_000),
            processes: count("--processes", 50, 8),
            polls: count("--polls", 10_000, 1_000),
            poll_rate: number("--poll-rate", 1_000.0, 200.0),
        }
    }

    /// Duration of a load.
    pub fn span(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}
