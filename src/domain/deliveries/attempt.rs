//! An **attempt** is one HTTP POST of one delivery. Its [`Outcome`] is data, never an `Err`: failing receivers are
//! normal. Failures on our side are [`LocalFailure`]s and are not recorded as attempts.

use std::time::Duration;

use bytes::Bytes;

use crate::domain::{AppId, AttemptId, EndpointId, MessageId, Time};

/// Maximum bytes of a response body that are read and kept.
pub const RESPONSE_BODY_LIMIT: usize = 16 * 1024;

/// The classes of response statuses, 500 for 5xx; 0: no response.
pub const STATUS_CLASSES: [i32; 6] = [0, 100, 200, 300, 400, 500];

/// The reason an attempt failed. The words are stored and public: they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The response was not 2xx.
    Status,
    /// The attempt, from DNS to the last byte, exceeded the endpoint's timeout.
    Timeout,
    /// The connection was refused.
    Refused,
    /// The host is unreachable (no route, network down).
    Unreachable,
    /// The name did not resolve.
    Dns,
    /// The TLS handshake failed: expired or self-signed certificate, wrong host, not TLS.
    Tls,
    /// The address is not allowed (SSRF protection).
    Blocked,
    /// The connection was closed or reset before the response head was complete.
    Closed,
    /// The response was not HTTP, or its head was too large.
    Protocol,
    /// The stored URL or headers do not form a valid request.
    Request,
}

impl Failure {
    /// All reasons.
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

    /// The word in the store, in `/metrics` and in the REST API.
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

    /// Parses the stored word.
    pub fn from_word(word: &str) -> Option<Failure> {
        Failure::ALL.into_iter().find(|failure| failure.word() == word)
    }
}

/// A failure on our side that prevented an attempt. It is not recorded: the delivery stays pending and is retried soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LocalFailure {
    /// Out of file descriptors (EMFILE, ENFILE).
    Descriptors,
    /// Out of local ports for this address (EADDRNOTAVAIL).
    Ports,
    /// Out of memory or buffers for a connection (ENOMEM, ENOBUFS).
    Memory,
    /// No name server responds, for this name or any other.
    Resolver,
    /// The egress proxy does not accept connections, or not our credentials.
    Proxy,
    /// Our code panicked.
    Panic,
}

impl LocalFailure {
    /// All reasons.
    pub const ALL: [LocalFailure; 6] = [
        LocalFailure::Descriptors,
        LocalFailure::Ports,
        LocalFailure::Memory,
        LocalFailure::Resolver,
        LocalFailure::Proxy,
        LocalFailure::Panic,
    ];

    /// The word in `/metrics`.
    pub const fn word(self) -> &'static str {
        match self {
            LocalFailure::Descriptors => "descriptors",
            LocalFailure::Ports => "ports",
            LocalFailure::Memory => "memory",
            LocalFailure::Resolver => "resolver",
            LocalFailure::Proxy => "proxy",
            LocalFailure::Panic => "panic",
        }
    }

    /// Whether the failure affects attempts to all endpoints. A failure caused by one address or one message must not
    /// slow down others.
    pub const fn affects_all(self) -> bool {
        matches!(self, LocalFailure::Descriptors | LocalFailure::Memory | LocalFailure::Resolver | LocalFailure::Proxy)
    }

    /// Cause and remedy, for the log.
    pub const fn sentence(self) -> &'static str {
        match self {
            LocalFailure::Descriptors => {
                "no file descriptor is left: raise the limit (ulimit -n), or lower SENDOFF_MAX_IN_FLIGHT"
            }
            LocalFailure::Ports => "no local port is left to connect from: widen net.ipv4.ip_local_port_range",
            LocalFailure::Memory => {
                "the system has no memory left for connections: give the machine more, or lower SENDOFF_MAX_IN_FLIGHT"
            }
            LocalFailure::Resolver => "no name server answers: check /etc/resolv.conf and its servers",
            LocalFailure::Proxy => {
                "the egress proxy can't be used: check that it runs, and the URL and credentials in SENDOFF_EGRESS_PROXY"
            }
            LocalFailure::Panic => "sending panicked, which is a bug in Sendoff: please report the log lines above",
        }
    }
}

/// Placeholder for a deleted response body. The word is that of the REST dialect.
pub const EXPUNGED: &str = "EXPUNGED";

/// The result of one POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `None`: delivered (2xx).
    pub failure: Option<Failure>,
    /// A short description of the failure, e.g. `certificate expired`. Empty if delivered. Never contains a secret or
    /// request headers.
    pub detail: String,
    /// The status code, if a response head arrived.
    pub status: Option<u16>,
    /// Duration from DNS lookup to the last byte read or written.
    pub duration: Duration,
    /// The kept response headers (see `egress`): lower-case names, in order of arrival.
    pub response_headers: Vec<(String, String)>,
    /// The first [`RESPONSE_BODY_LIMIT`] bytes of the body.
    pub response_body: Bytes,
    /// `Retry-After` as a duration from the time of the response. Unbounded; [`crate::domain::deliveries::backoff`]
    /// bounds it.
    pub retry_after: Option<Duration>,
}

impl Outcome {
    /// An attempt that failed without a response.
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

    /// Whether the response was 2xx, decided at the response head.
    pub fn delivered(&self) -> bool {
        self.failure.is_none()
    }
}

/// The cause of an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// The first attempt of a delivery and its retries.
    #[default]
    Scheduled,
    /// A resend from the dashboard or the REST API.
    Manual,
}

impl Trigger {
    /// The number in the store and in the REST API: 0 scheduled, 1 manual.
    pub const fn code(self) -> i16 {
        match self {
            Trigger::Scheduled => 0,
            Trigger::Manual => 1,
        }
    }

    /// Parses the stored number.
    pub const fn from_code(code: i16) -> Trigger {
        if code == 1 { Trigger::Manual } else { Trigger::Scheduled }
    }
}

/// A recorded attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub id: AttemptId,
    pub app_id: AppId,
    pub message_id: MessageId,
    pub endpoint_id: EndpointId,
    /// Number within the delivery, from 1. A resend does not restart it.
    pub number: i32,
    pub trigger: Trigger,
    /// The start of the POST.
    pub at: Time,
    /// The endpoint's URL at that time.
    pub url: String,
    /// The sent headers with signatures; the endpoint's custom headers are masked.
    pub request_headers: Vec<(String, String)>,
    pub outcome: Outcome,
    /// The scheduled time of the next attempt; `None` if the delivery ended with this one.
    pub next_at: Option<Time>,
}
