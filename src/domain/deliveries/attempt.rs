//! An **attempt** is one HTTP POST of one delivery. What came of it is an [`Outcome`]: data, never an `Err`,
//! because a receiver that fails is nothing unusual. Our own failures are errors elsewhere and never end up here.

use std::time::Duration;

use bytes::Bytes;

use crate::domain::{AppId, AttemptId, EndpointId, MessageId, Time};

/// How much of a response's body is read and kept, in bytes.
pub const RESPONSE_BODY_LIMIT: usize = 16 * 1024;

/// Why an attempt did not deliver, when it did not. The words are stored and shown: they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The receiver answered, but not with 2xx.
    Status,
    /// The whole attempt, from DNS to the last byte, took longer than the endpoint's timeout.
    Timeout,
    /// Nothing listens there: the connection was refused.
    Refused,
    /// The host cannot be reached (no route, network down).
    Unreachable,
    /// The name did not resolve.
    Dns,
    /// The TLS handshake failed: expired, self-signed, wrong host, not TLS at all.
    Tls,
    /// The address that would have been connected to is one that we never connect to.
    Blocked,
    /// The connection was closed or reset before a whole answer head had arrived.
    Closed,
    /// The answer was not HTTP, or its head was beyond all bounds.
    Protocol,
    /// The stored URL or headers cannot be made into a request.
    Request,
}

impl Failure {
    /// Every kind there is.
    pub const ALL: [Failure; 10] = [
        Failure::Status,
        Failure::Timeout,
        Failure::Refused,
        Failure::Unreachable,
        Failure::Dns,
        Failure::Tls,
        Failure::Blocked,
        Failure::Closed,
        Failure::Protocol,
        Failure::Request,
    ];

    /// The word under which it is stored, counted in `/metrics` and given out over REST.
    pub const fn word(self) -> &'static str {
        match self {
            Failure::Status => "status",
            Failure::Timeout => "timeout",
            Failure::Refused => "refused",
            Failure::Unreachable => "unreachable",
            Failure::Dns => "dns",
            Failure::Tls => "tls",
            Failure::Blocked => "blocked",
            Failure::Closed => "closed",
            Failure::Protocol => "protocol",
            Failure::Request => "request",
        }
    }

    /// The kind of a stored word.
    pub fn from_word(word: &str) -> Option<Failure> {
        Failure::ALL.into_iter().find(|failure| failure.word() == word)
    }
}

/// Why an attempt could not be made, where the reason is ours and not the receiver's. Nothing of it is recorded: the
/// delivery stays as it was, and is tried again soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OwnFailure {
    /// No file descriptor was left (EMFILE, ENFILE).
    Descriptors,
    /// No local port was left for a connection to that address (EADDRNOTAVAIL).
    Ports,
    /// The system had no memory or buffers for a connection (ENOMEM, ENOBUFS).
    Memory,
    /// No name server answers: neither for this name nor for any other.
    Resolver,
    /// Our code panicked.
    Panic,
}

impl OwnFailure {
    /// Every reason there is.
    pub const ALL: [OwnFailure; 5] =
        [OwnFailure::Descriptors, OwnFailure::Ports, OwnFailure::Memory, OwnFailure::Resolver, OwnFailure::Panic];

    /// The word under which it is counted in `/metrics`.
    pub const fn word(self) -> &'static str {
        match self {
            OwnFailure::Descriptors => "descriptors",
            OwnFailure::Ports => "ports",
            OwnFailure::Memory => "memory",
            OwnFailure::Resolver => "resolver",
            OwnFailure::Panic => "panic",
        }
    }

    /// Whether attempts to every endpoint are affected: what one receiver's address or one message causes must not slow
    /// down others.
    pub const fn affects_all(self) -> bool {
        matches!(self, OwnFailure::Descriptors | OwnFailure::Memory | OwnFailure::Resolver)
    }

    /// A sentence for the log: the cause, and the remedy.
    pub const fn sentence(self) -> &'static str {
        match self {
            OwnFailure::Descriptors => {
                "no file descriptor is left: raise the limit (ulimit -n), or lower SENDOFF_MAX_IN_FLIGHT"
            }
            OwnFailure::Ports => "no local port is left to connect from: widen net.ipv4.ip_local_port_range",
            OwnFailure::Memory => {
                "the system has no memory left for connections: give the machine more, or lower SENDOFF_MAX_IN_FLIGHT"
            }
            OwnFailure::Resolver => "no name server answers: look at /etc/resolv.conf and the servers in it",
            OwnFailure::Panic => "sending panicked, which is a bug of Sendoff's: please report the lines above",
        }
    }
}

/// Stands in place of an answer's body that was deleted. The word is the dialect's.
pub const EXPUNGED: &str = "EXPUNGED";

/// What came of one POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `None`: delivered (a 2xx). Otherwise why not.
    pub failure: Option<Failure>,
    /// One plain sentence about the failure for whoever looks into it, e.g. `certificate expired`. Empty when
    /// delivered. Never contains a secret or the request's headers.
    pub detail: String,
    /// The status code, if an answer's head arrived.
    pub status: Option<u16>,
    /// How long it took, from before DNS to the last byte that was read or written.
    pub duration: Duration,
    /// The response headers worth keeping (see `egress`), names in lower case, in the order they came.
    pub response_headers: Vec<(String, String)>,
    /// The first [`RESPONSE_BODY_LIMIT`] bytes of the body, whatever they are.
    pub response_body: Bytes,
    /// `Retry-After`, already turned into a span from the answer's time; unbounded here, bounded in
    /// [`crate::domain::deliveries::backoff`].
    pub retry_after: Option<Duration>,
}

impl Outcome {
    /// An attempt that failed before any answer came.
    pub fn failed(failure: Failure, detail: impl Into<String>, duration: Duration) -> Outcome {
        Outcome {
            failure: Some(failure),
            detail: detail.into(),
            status: None,
            duration,
            response_headers: Vec::new(),
            response_body: Bytes::new(),
            retry_after: None,
        }
    }

    /// Whether the receiver has it: a 2xx, decided at the headers.
    pub fn delivered(&self) -> bool {
        self.failure.is_none()
    }
}

/// What set an attempt off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// The first attempt of a delivery and its retries.
    #[default]
    Scheduled,
    /// Somebody pressed *Resend*, or asked for it over REST.
    Manual,
}

impl Trigger {
    /// The number in the store and over REST: 0 scheduled, 1 manual.
    pub const fn code(self) -> i16 {
        match self {
            Trigger::Scheduled => 0,
            Trigger::Manual => 1,
        }
    }

    /// The trigger of a stored number.
    pub const fn from_code(code: i16) -> Trigger {
        if code == 1 { Trigger::Manual } else { Trigger::Scheduled }
    }
}

/// An attempt as it is recorded and shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub id: AttemptId,
    pub app_id: AppId,
    pub message_id: MessageId,
    pub endpoint_id: EndpointId,
    /// Counted from 1 within its delivery; never starts again, not even after a resend.
    pub number: i32,
    pub trigger: Trigger,
    /// When the POST began.
    pub at: Time,
    /// Where it went: the endpoint's URL at that time.
    pub url: String,
    /// The request's headers as they were sent, signatures included, the endpoint's own headers masked.
    pub request_headers: Vec<(String, String)>,
    pub outcome: Outcome,
    /// When the next attempt was due as of this one; `None` if this one settled the delivery.
    pub next_at: Option<Time>,
}
