//! Maps a client error to a [`Failure`] and a sentence for readers of the attempt.
//!
//! An error is a chain: the HTTP client's, hyper's, the system's, the TLS library's, the resolver's. The first link
//! with a known meaning decides. The sentences are ours, so a library update cannot change them and no header or URL
//! leaks through them.

use std::error::Error;
use std::io::{self, ErrorKind};

use hyper_util::client::legacy as client;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};

use super::NotSent;
use super::connection::ReadLimitExceeded;
use super::dns::resolver::ResolveError;
use super::local::{NoPort, exhausted};
use super::proxy::ProxyError;
use crate::domain::Time;
use crate::domain::deliveries::attempt::{Failure, LocalFailure};

const NOT_HTTP: &str = "the response is not HTTP/1.1, or its head is too large";

/// The phase in which a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectPhase {
    /// Opening the TCP connection.
    Connecting,
    /// Opening a connection that uses TLS.
    Securing,
    /// Using an open connection.
    Connected,
}

/// The receiver's failure with its sentence, or a failure of this machine.
type Classification = Result<(Failure, String), NotSent>;

/// Classifies `error`; `tls` says whether the URL is https.
///
/// # Errors
/// The failure is this machine's.
pub fn classify(error: &client::Error, tls: bool) -> Classification {
    let phase = match (error.is_connect(), tls) {
        (true, false) => ConnectPhase::Connecting,
        (true, true) => ConnectPhase::Securing,
        (false, _) => ConnectPhase::Connected,
    };
    let mut link: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(this) = link {
        if let Some(known) = classify_link(this, phase) {
            return known;
        }
        link = this.source();
    }
    Ok(match phase != ConnectPhase::Connected {
        true => (Failure::Unreachable, "no connection could be made".to_owned()),
        false => (Failure::Closed, "the connection ended before an answer".to_owned()),
    })
}

fn classify_link(link: &(dyn Error + 'static), phase: ConnectPhase) -> Option<Classification> {
    if let Some(error) = link.downcast_ref::<ResolveError>() {
        return Some(match error {
            ResolveError::Blocked | ResolveError::BlockedAddress => Ok((Failure::Blocked, error.to_string())),
            ResolveError::NotFound(_) => Ok((Failure::Dns, error.to_string())),
            ResolveError::Ours(why) => Err(NotSent(*why)),
        });
    }
    if let Some(error) = link.downcast_ref::<ProxyError>() {
        return Some(match error {
            ProxyError::Ours(why) => Err(NotSent(*why)),
            ProxyError::NoTunnel => Ok((Failure::Unreachable, error.to_string())),
        });
    }
    if link.is::<NoPort>() {
        return Some(Err(NotSent(LocalFailure::Ports)));
    }
    if let Some(error) = link.downcast_ref::<rustls::Error>() {
        return Some(Ok((Failure::Tls, tls_sentence(error))));
    }
    if let Some(error) = link.downcast_ref::<hyper::Error>() {
        return classify_http(error).map(Ok);
    }
    if link.is::<ReadLimitExceeded>() {
        return Some(Ok((Failure::Protocol, NOT_HTTP.to_owned())));
    }
    let error = link.downcast_ref::<io::Error>()?;
    // The error inside an I/O error is not part of the `source` chain.
    match error.get_ref() {
        Some(inner) => classify_link(inner, phase).or_else(|| classify_io(error, phase)),
        None => classify_io(error, phase),
    }
}

fn classify_http(error: &hyper::Error) -> Option<(Failure, String)> {
    let (failure, sentence) = if error.is_parse() {
        (Failure::Protocol, NOT_HTTP)
    } else if error.is_user() {
        (Failure::Request, "the stored headers can't be sent")
    } else if error.source().is_some() {
        // An I/O error, or a request cancelled because of one: the next link is more specific.
        return None;
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        (Failure::Closed, "the connection was closed before an answer")
    } else {
        // Unsolicited bytes, as from an SSH, SMTP or FTP greeting.
        (Failure::Protocol, "the receiver sent data before the request, which is not HTTP")
    };
    Some((failure, sentence.to_owned()))
}

fn classify_io(error: &io::Error, phase: ConnectPhase) -> Option<Classification> {
    // On an open connection, part of the request may have arrived, so the attempt counts.
    if let Some(why) = exhausted(error).filter(|_| phase != ConnectPhase::Connected) {
        return Some(Err(NotSent(why)));
    }
    let (failure, sentence) = match error.kind() {
        ErrorKind::ConnectionRefused => (Failure::Refused, "the connection was refused: nothing listens there"),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            (Failure::Unreachable, "the host is unreachable")
        }
        ErrorKind::AddrNotAvailable => (
            Failure::Unreachable,
            "this machine has no address to connect from; the receiver may need IPv6, which is not available here",
        ),
        ErrorKind::TimedOut => (Failure::Timeout, "the host did not answer in time"),
        // TLS starts on an open TCP connection, so the peer's TLS ended it.
        ErrorKind::UnexpectedEof if phase == ConnectPhase::Securing => {
            (Failure::Tls, "the connection was closed during the TLS handshake")
        }
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe if phase == ConnectPhase::Securing => {
            (Failure::Tls, "the connection was reset during the TLS handshake")
        }
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe | ErrorKind::NotConnected => {
            (Failure::Closed, "the connection was reset before an answer")
        }
        ErrorKind::UnexpectedEof => (Failure::Closed, "the connection was closed before an answer"),
        ErrorKind::InvalidInput | ErrorKind::PermissionDenied if phase != ConnectPhase::Connected => {
            (Failure::Unreachable, "the system does not allow a connection to this address")
        }
        _ => return None,
    };
    Some(Ok((failure, sentence.to_owned())))
}

fn tls_sentence(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => certificate_sentence(error),
        rustls::Error::NoCertificatesPresented => "the server has no certificate".to_owned(),
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS".to_owned(),
        rustls::Error::PeerIncompatible(_) => "the server supports neither TLS 1.2 nor TLS 1.3".to_owned(),
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "the server refuses TLS 1.2 and 1.3".to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            "the server has no certificate for this name".to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server requires a client certificate".to_owned()
        }
        rustls::Error::AlertReceived(alert) => format!("the server refused the TLS handshake ({alert:?})"),
        _ => "the TLS handshake failed".to_owned(),
    }
}

/// Describes what is wrong with a certificate, with its date or its names.
fn certificate_sentence(error: &CertificateError) -> String {
    use CertificateError as E;
    let what = match error {
        E::ExpiredContext { not_after, .. } => format!("expired on {}", day(*not_after)),
        E::Expired => "expired".to_owned(),
        E::NotValidYetContext { not_before, .. } => format!("is not valid before {}", day(*not_before)),
        E::NotValidYet => "is not valid yet".to_owned(),
        E::NotValidForNameContext { expected, presented } => match names(presented) {
            None => format!("is not for {}", expected.to_str()),
            Some(names) => format!("is for {names}, not for {}", expected.to_str()),
        },
        E::NotValidForName => "is not for this host".to_owned(),
        E::UnknownIssuer => "is not trusted (self-signed, or an intermediate certificate is missing)".to_owned(),
        E::Revoked => "was revoked".to_owned(),
        E::BadSignature => "has an invalid signature".to_owned(),
        E::BadEncoding => "is malformed".to_owned(),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "is not a server certificate".to_owned(),
        // Created by `openssl req -x509`. Matched by name, because the error type belongs to webpki, which is not a
        // direct dependency.
        E::Other(error) if error.to_string().contains("CaUsedAsEndEntity") => {
            "is self-signed: a CA certificate used as a server certificate".to_owned()
        }
        _ => "is not valid".to_owned(),
    };
    format!("the receiver's certificate {what}")
}

/// Maximum names of a certificate in a sentence.
const NAMES: usize = 3;

/// Host names from a certificate, which rustls formats as `DnsName("a.example")`. The receiver controls them, so only
/// valid host name characters pass.
fn names(presented: &[String]) -> Option<String> {
    let name = |text: &String| -> Option<String> {
        let name = text.strip_prefix("DnsName(\"")?.strip_suffix("\")")?;
        let plain = name.len() <= 253 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._*".contains(&b));
        plain.then(|| name.to_owned())
    };
    let known: Vec<String> = presented.iter().filter_map(name).collect();
    let told = known.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
    match known.len() {
        0 => None,
        n if n <= NAMES => Some(told),
        n => Some(format!("{told} and {} more", n - NAMES)),
    }
}

/// A date such as `2026-01-02`.
fn day(time: UnixTime) -> String {
    let micros = i64::try_from(time.as_secs()).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    Time::from_micros(micros).to_string().chars().take(10).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::io::Errno;
    use rustls::pki_types::ServerName;

    use super::*;

    #[test]
    fn certificates_are_described() {
        let at = |secs| UnixTime::since_unix_epoch(Duration::from_secs(secs));
        let expected = ServerName::try_from("example.com").unwrap();
        let listed = |names: &[&str]| names.iter().map(|name| format!("DnsName({name:?})")).collect::<Vec<_>>();
        let table = [
            (
                CertificateError::ExpiredContext { time: at(1_790_000_000), not_after: at(1_767_312_000) },
                "the receiver's certificate expired on 2026-01-02",
            ),
            (
                CertificateError::NotValidYetContext { time: at(0), not_before: at(1_767_312_000) },
                "the receiver's certificate is not valid before 2026-01-02",
            ),
            (
                CertificateError::NotValidForNameContext {
                    expected: expected.clone(),
                    presented: listed(&["b.example"]),
                },
                "the receiver's certificate is for b.example, not for example.com",
            ),
            (
                CertificateError::NotValidForNameContext {
                    expected: expected.clone(),
                    presented: listed(&["a.example", "*.b.example", "<b>", "c.example", "d.example", "e.example"]),
                },
                "the receiver's certificate is for a.example, *.b.example, c.example and 2 more, not for example.com",
            ),
            (
                CertificateError::NotValidForNameContext { expected, presented: vec!["evil".into()] },
                "the receiver's certificate is not for example.com",
            ),
            (
                CertificateError::UnknownIssuer,
                "the receiver's certificate is not trusted (self-signed, or an intermediate certificate is missing)",
            ),
        ];
        for (error, wanted) in table {
            // TLS errors arrive inside an I/O error.
            let wrapped = io::Error::new(ErrorKind::InvalidData, rustls::Error::InvalidCertificate(error));
            assert_eq!(classify_link(&wrapped, ConnectPhase::Securing), Some(Ok((Failure::Tls, wanted.to_owned()))));
        }
    }

    #[test]
    fn system_errors_map_to_failures() {
        let table = [
            (ErrorKind::ConnectionRefused, ConnectPhase::Connecting, Some(Failure::Refused)),
            (ErrorKind::HostUnreachable, ConnectPhase::Connecting, Some(Failure::Unreachable)),
            (ErrorKind::NetworkUnreachable, ConnectPhase::Connecting, Some(Failure::Unreachable)),
            (ErrorKind::TimedOut, ConnectPhase::Connecting, Some(Failure::Timeout)),
            (ErrorKind::UnexpectedEof, ConnectPhase::Securing, Some(Failure::Tls)),
            (ErrorKind::ConnectionReset, ConnectPhase::Securing, Some(Failure::Tls)),
            (ErrorKind::UnexpectedEof, ConnectPhase::Connected, Some(Failure::Closed)),
            (ErrorKind::ConnectionReset, ConnectPhase::Connected, Some(Failure::Closed)),
            (ErrorKind::BrokenPipe, ConnectPhase::Connected, Some(Failure::Closed)),
            (ErrorKind::OutOfMemory, ConnectPhase::Connected, None),
        ];
        for (kind, phase, wanted) in table {
            let failure = classify_link(&io::Error::from(kind), phase).map(|known| known.unwrap().0);
            assert_eq!(failure, wanted, "{kind:?}");
        }
    }

    #[test]
    fn local_failures_do_not_count_against_the_receiver() {
        let known = |error: &(dyn Error + 'static), phase| classify_link(error, phase);
        let ours = |why| Some(Err(NotSent(why)));
        for (errno, why) in [
            (Errno::MFILE, LocalFailure::Descriptors),
            (Errno::NFILE, LocalFailure::Descriptors),
            (Errno::NOBUFS, LocalFailure::Memory),
            (Errno::NOMEM, LocalFailure::Memory),
        ] {
            let error = io::Error::from(errno);
            assert_eq!(known(&error, ConnectPhase::Connecting), ours(why), "{errno}");
            assert_eq!(known(&error, ConnectPhase::Securing), ours(why), "{errno}");
            assert_eq!(
                known(&error, ConnectPhase::Connected),
                None,
                "{errno}: something of the request may have arrived"
            );
            assert_eq!(known(&io::Error::other(error), ConnectPhase::Connecting), ours(why), "{errno}, wrapped");
        }
        assert_eq!(known(&NoPort, ConnectPhase::Connecting), ours(LocalFailure::Ports));
        assert_eq!(
            known(&ResolveError::Ours(LocalFailure::Resolver), ConnectPhase::Connecting),
            ours(LocalFailure::Resolver)
        );
        let unreachable = known(&io::Error::from(Errno::ADDRNOTAVAIL), ConnectPhase::Connecting).unwrap().unwrap();
        assert_eq!(unreachable.0, Failure::Unreachable, "an address that cannot be reached from here");
    }
}
