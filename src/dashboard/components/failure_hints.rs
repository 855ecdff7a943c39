//! Advice on failed attempts.

use crate::domain::deliveries::attempt::{Failure, Outcome};

/// Advice on a failure, for an operator or a customer. `None`: the attempt succeeded, or the failure explains itself.
pub fn hint(outcome: &Outcome, operator: bool) -> Option<&'static str> {
    Some(match outcome.failure? {
        Failure::Blocked if operator => {
            "The address is private, reserved or local, so nothing was sent. To allow it, add its range to SENDOFF_EGRESS_ALLOW."
        }
        Failure::Tls if operator && outcome.detail.contains("is not trusted") => {
            "The receiver must send its full certificate chain. To trust your own root, set SSL_CERT_FILE."
        }
        Failure::Status => return outcome.status.and_then(of_status),
        Failure::Timeout => {
            "No complete response in time. A receiver should store the event, respond at once and process it afterwards."
        }
        Failure::Refused => {
            "Nothing listens at this host and port. Check that the receiver is running and the port is right."
        }
        Failure::Unreachable => "No route to this host. Check routing, firewalls and outages.",
        Failure::Dns => "The host name does not resolve. Check for typos and missing DNS records.",
        Failure::Tls => of_tls(&outcome.detail),
        Failure::Blocked => "The address is private, reserved or local, so nothing was sent. Use a public address.",
        Failure::Closed => {
            "The receiver closed the connection before responding. It may have crashed, or a proxy in front of it timed out."
        }
        Failure::Protocol => "The response is not HTTP/1.1. Check the port.",
        Failure::Request => "The endpoint's URL or headers are invalid. Edit the endpoint.",
    })
}

/// Matches the descriptions from `egress::classify`. Certificates are always verified.
fn of_tls(detail: &str) -> &'static str {
    let of = |word: &str| detail.contains(word);
    if of("expired") {
        "Renew the receiver's certificate. Retries continue and succeed once it is valid."
    } else if of("not valid before") {
        "Check the receiver's certificate and clock."
    } else if of("not for") {
        "The certificate is for another host. Check the endpoint's URL and the receiver's TLS setup."
    } else if of("is not trusted") || of("self-signed") {
        "The receiver must send its full certificate chain, up to a public root."
    } else if of("does not speak TLS") {
        "Check the port, and whether the URL should begin with http."
    } else {
        "The TLS handshake failed. The receiver's certificate must be valid, complete and issued for this host."
    }
}

fn of_status(status: u16) -> Option<&'static str> {
    Some(match status {
        300..=399 => "Redirects are not followed. Set the endpoint's URL to the redirect's target.",
        400 | 422 => "The receiver rejected the request. Its response below may say why.",
        401 | 403 => {
            "The receiver denied access. Check that it verifies with the current secret, and that no login or firewall is in front of it."
        }
        404 => "The receiver does not serve this path. Check whether it has moved.",
        405 => "The receiver does not accept POST at this path. Check the URL.",
        408 | 504 => "The receiver, or a service behind it, was too slow.",
        410 => "The receiver asked us to stop (410). The endpoint was disabled; enable it to resume.",
        413 => "The payload exceeds the receiver's size limit.",
        415 => "The receiver does not accept application/json.",
        429 => "The receiver limits its rate. Set a rate limit on the endpoint to spread deliveries out.",
        502 | 503 => "The receiver, or a proxy in front of it, is down or overloaded. Retries continue.",
        500..=599 => "The receiver failed. Check its log at this time.",
        _ => return None,
    })
}

/// A failure as the beginning of a sentence.
pub fn in_words(failure: Failure) -> &'static str {
    match failure {
        Failure::Status => "Responded",
        Failure::Timeout => "Timed out",
        Failure::Refused => "Connection refused",
        Failure::Unreachable => "Host unreachable",
        Failure::Dns => "DNS lookup failed",
        Failure::Tls => "TLS failed",
        Failure::Blocked => "Address not allowed",
        Failure::Closed => "Connection closed",
        Failure::Protocol => "Not HTTP",
        Failure::Request => "Invalid request",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::dashboard::components::failure_hints::*;

    #[test]
    fn every_failure_has_a_hint() {
        for failure in Failure::ALL.into_iter().filter(|failure| *failure != Failure::Status) {
            let outcome = Outcome::failed(failure, "the receiver's certificate is not trusted", Duration::ZERO);
            let (operator, customer) = (hint(&outcome, true).unwrap(), hint(&outcome, false).unwrap());
            assert!(!operator.is_empty() && !customer.contains("SENDOFF_") && !customer.contains("SSL_"), "{customer}");
        }
        let blocked = Outcome::failed(Failure::Blocked, "", Duration::ZERO);
        assert!(hint(&blocked, true).is_some_and(|hint| hint.contains("SENDOFF_EGRESS_ALLOW")));
        let answered =
            |status| Outcome { status: Some(status), ..Outcome::failed(Failure::Status, "", Duration::ZERO) };
        for status in [301, 400, 401, 404, 410, 429, 500, 503, 599] {
            assert!(hint(&answered(status), false).is_some(), "{status}");
        }
        let delivered = Outcome { failure: None, ..answered(200) };
        assert_eq!(hint(&delivered, false), None);
    }
}
