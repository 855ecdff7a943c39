//! What a failed attempt means, and where to look, in plain words.

use crate::domain::attempt::{Failure, Outcome};

/// What to do about a failure; `None`: delivered, or nothing to say beyond the failure itself.
pub fn hint(outcome: &Outcome) -> Option<&'static str> {
    Some(match outcome.failure? {
        Failure::Status => return outcome.status.and_then(of_status),
        Failure::Timeout => {
            "No whole answer came in time. A receiver should store the event, answer at once and do its work afterwards."
        }
        Failure::Refused => "Nothing listens at this host and port: is the receiver running, and is the port right?",
        Failure::Unreachable => "No network path leads there from here: a routing, firewall or outage question.",
        Failure::Dns => "The host name does not resolve: a typo, or its DNS entry is gone.",
        Failure::Tls => of_tls(&outcome.detail),
        Failure::Blocked => {
            "The address is private, reserved or this machine's own, so nothing was sent. If it is meant, open its range with SENDOFF_EGRESS_ALLOW."
        }
        Failure::Closed => {
            "The receiver hung up before it had answered: it may have crashed, or a proxy in front of it gave up."
        }
        Failure::Protocol => "What answered does not speak HTTP/1.1: is it the right port?",
        Failure::Request => "The endpoint's URL or headers cannot be sent as they are: correct the endpoint.",
    })
}

/// By what `egress` says of a handshake. Certificates are always checked.
fn of_tls(detail: &str) -> &'static str {
    let of = |word: &str| detail.contains(word);
    if of("expired") {
        "It has to be renewed at the receiver. Retries go on by themselves, and arrive once it is."
    } else if of("not valid before") {
        "Is the receiver's clock, or this machine's, wrong?"
    } else if of("not for") {
        "Either the endpoint's URL names another host than the receiver's certificate, or the receiver serves the wrong site."
    } else if of("nobody that is trusted") || of("self-signed") {
        "The receiver must send its whole chain. A root of your own is trusted when SSL_CERT_FILE names it."
    } else if of("does not speak TLS") {
        "Is it the right port, and should the URL begin with http?"
    } else {
        "The TLS handshake failed. Certificates are always checked: the receiver's must be valid, whole and for this host."
    }
}

fn of_status(status: u16) -> Option<&'static str> {
    Some(match status {
        300..=399 => "Redirects are not followed: set the endpoint's URL to where this one leads.",
        400 | 422 => "The receiver rejects what it got. Its answer below may say why.",
        401 | 403 => {
            "The receiver refuses it: does it verify with the endpoint's current secret, and is no login or firewall in front?"
        }
        404 => "Nothing answers at this path: has the receiver moved?",
        405 => "The receiver takes no POST at this path: is the URL right?",
        408 | 504 => "The receiver, or something it waits for, was too slow.",
        410 => "The receiver says that it wants no more. The endpoint was disabled; enable it to go on.",
        413 => "The payload is larger than the receiver takes.",
        415 => "The receiver does not take application/json.",
        429 => "The receiver is given more than it takes: a throttle rate on the endpoint spaces deliveries out.",
        502 | 503 => "The receiver, or a proxy in front of it, is down or overloaded. Retries go on by themselves.",
        500..=599 => "The receiver failed. Its own log of this moment says why.",
        _ => return None,
    })
}

/// A kind of failure, as the beginning of a sentence.
pub fn in_words(failure: Failure) -> &'static str {
    match failure {
        Failure::Status => "Answered",
        Failure::Timeout => "Timed out",
        Failure::Refused => "Connection refused",
        Failure::Unreachable => "Host unreachable",
        Failure::Dns => "Name not found",
        Failure::Tls => "TLS failed",
        Failure::Blocked => "Address not allowed",
        Failure::Closed => "Connection closed",
        Failure::Protocol => "Not HTTP",
        Failure::Request => "Could not be sent",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_kind_of_failure_has_its_words() {
        for failure in Failure::ALL.into_iter().filter(|failure| *failure != Failure::Status) {
            assert!(hint(&Outcome::failed(failure, "", Duration::ZERO)).is_some(), "{failure:?}");
        }
        let answered =
            |status| Outcome { status: Some(status), ..Outcome::failed(Failure::Status, "", Duration::ZERO) };
        for status in [301, 400, 401, 404, 410, 429, 500, 503, 599] {
            assert!(hint(&answered(status)).is_some(), "{status}");
        }
        let delivered = Outcome { failure: None, ..answered(200) };
        assert_eq!(hint(&delivered), None);
    }
}
