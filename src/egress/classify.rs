//! What went wrong before an answer's head had arrived, in our own words.
//!
//! The client's error is a chain: its own, hyper's, the system's, the TLS library's, our resolver's. The first link
//! that says something decides; the sentence is ours, so that it neither changes with a library nor carries a header or
//! URL.

use std::error::Error;
use std::io::{self, ErrorKind};

use hyper_util::client::legacy as client;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};

use super::NotMade;
use super::connection::Flood;
use super::local::{NoPort, exhausted};
use super::resolver::ResolveError;
use crate::domain::Time;
use crate::domain::attempt::{Failure, OwnFailure};

/// What an answer is not, where it is none.
const NOT_HTTP: &str = "the answer is not HTTP/1.1, or its head is beyond all bounds";

/// How far a request had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The connection was being made.
    Connecting,
    /// The same, with TLS on top.
    Securing,
    /// It stood.
    Connected,
}

/// A failure of the receiver with its sentence, or one of ours.
type Known = Result<(Failure, String), NotMade>;

/// The failure and the sentence for an error of the client, which was to use TLS or not.
///
/// # Errors
/// The reason is ours.
pub fn classify(error: &client::Error, tls: bool) -> Known {
    let stage = match (error.is_connect(), tls) {
        (true, false) => Stage::Connecting,
        (true, true) => Stage::Securing,
        (false, _) => Stage::Connected,
    };
    let mut link: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(this) = link {
        if let Some(known) = classify_link(this, stage) {
            return known;
        }
        link = this.source();
    }
    Ok(match stage != Stage::Connected {
        true => (Failure::Unreachable, "no connection could be made".to_owned()),
        false => (Failure::Closed, "the connection ended before an answer".to_owned()),
    })
}

fn classify_link(link: &(dyn Error + 'static), stage: Stage) -> Option<Known> {
    if let Some(error) = link.downcast_ref::<ResolveError>() {
        return Some(match error {
            ResolveError::Blocked(_) | ResolveError::BlockedAddress(_) => Ok((Failure::Blocked, error.to_string())),
            ResolveError::NotFound(_) => Ok((Failure::Dns, error.to_string())),
            ResolveError::Ours(why) => Err(NotMade(*why)),
        });
    }
    if link.is::<NoPort>() {
        return Some(Err(NotMade(OwnFailure::Ports)));
    }
    if let Some(error) = link.downcast_ref::<rustls::Error>() {
        return Some(Ok((Failure::Tls, tls_sentence(error))));
    }
    if let Some(error) = link.downcast_ref::<hyper::Error>() {
        return classify_http(error).map(Ok);
    }
    if link.is::<Flood>() {
        return Some(Ok((Failure::Protocol, NOT_HTTP.to_owned())));
    }
    let error = link.downcast_ref::<io::Error>()?;
    // What an I/O error wraps is not a link of the chain: its `source` is already the one after.
    match error.get_ref() {
        Some(inner) => classify_link(inner, stage).or_else(|| classify_io(error, stage)),
        None => classify_io(error, stage),
    }
}

fn classify_http(error: &hyper::Error) -> Option<(Failure, String)> {
    let (failure, sentence) = if error.is_parse() {
        (Failure::Protocol, NOT_HTTP)
    } else if error.is_user() {
        (Failure::Request, "the stored headers can't be sent")
    } else if error.source().is_some() {
        // An I/O error, or a request that was called off because of one: the next link says which.
        return None;
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        (Failure::Closed, "the connection was closed before an answer")
    } else {
        // Bytes that nobody asked for: of a server that greets, as SSH, SMTP and FTP do.
        (Failure::Protocol, "the receiver spoke before it was asked, which is not HTTP")
    };
    Some((failure, sentence.to_owned()))
}

fn classify_io(error: &io::Error, stage: Stage) -> Option<Known> {
    // Once the connection stands, a part of the request may have arrived: that attempt was made.
    if let Some(why) = exhausted(error).filter(|_| stage != Stage::Connected) {
        return Some(Err(NotMade(why)));
    }
    let (failure, sentence) = match error.kind() {
        ErrorKind::ConnectionRefused => (Failure::Refused, "the connection was refused: nothing listens there"),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            (Failure::Unreachable, "the host can't be reached from here")
        }
        ErrorKind::AddrNotAvailable => (
            Failure::Unreachable,
            "this machine has no address to connect from: is it an IPv6 address, and there is no IPv6?",
        ),
        ErrorKind::TimedOut => (Failure::Timeout, "the host did not answer in time"),
        // The TCP connection stands when TLS begins, so what ends then was ended by the other side's TLS.
        ErrorKind::UnexpectedEof if stage == Stage::Securing => {
            (Failure::Tls, "the connection was closed during the TLS handshake")
        }
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe if stage == Stage::Securing => {
            (Failure::Tls, "the connection was reset during the TLS handshake")
        }
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe | ErrorKind::NotConnected => {
            (Failure::Closed, "the connection was reset before an answer")
        }
        ErrorKind::UnexpectedEof => (Failure::Closed, "the connection was closed before an answer"),
        ErrorKind::InvalidInput | ErrorKind::PermissionDenied if stage != Stage::Connected => {
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
        rustls::Error::InvalidMessage(_) => "what answers there does not speak TLS".to_owned(),
        rustls::Error::PeerIncompatible(_) => "the server offers no TLS that is safe today (1.2 or 1.3)".to_owned(),
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "the server refuses TLS 1.2 and 1.3".to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            "the server knows no site of this name".to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server asks for a client certificate".to_owned()
        }
        rustls::Error::AlertReceived(alert) => format!("the server refused the TLS handshake ({alert:?})"),
        _ => "the TLS handshake failed".to_owned(),
    }
}

/// What is wrong with a certificate, and since when or for whom it is.
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
        E::UnknownIssuer => {
            "is signed by nobody that is trusted here (self-signed, or is the intermediate one missing?)".to_owned()
        }
        E::Revoked => "was revoked".to_owned(),
        E::BadSignature => "has a wrong signature".to_owned(),
        E::BadEncoding => "can't be read".to_owned(),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "is not made for servers".to_owned(),
        // What `openssl req -x509` makes. The error's type is webpki's own, which is no dependency of ours: by its
        // name.
        E::Other(error) if error.to_string().contains("CaUsedAsEndEntity") => {
            "is self-signed: a certificate authority's own, used as a server's".to_owned()
        }
        _ => "is not valid".to_owned(),
    };
    format!("the receiver's certificate {what}")
}

/// How many of a certificate's names are told.
const NAMES: usize = 3;

/// The host names of a certificate, as the TLS library lists them: `DnsName("a.example")`. They are the receiver's words, so only
/// what a host name may hold is passed on.
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

/// `2026-01-02`.
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
    fn certificates_are_described_in_plain_words() {
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
                "the receiver's certificate is signed by nobody that is trusted here (self-signed, or is the intermediate \
                 one missing?)",
            ),
        ];
        for (error, wanted) in table {
            // As it comes: wrapped by the system's error.
            let wrapped = io::Error::new(ErrorKind::InvalidData, rustls::Error::InvalidCertificate(error));
            assert_eq!(classify_link(&wrapped, Stage::Securing), Some(Ok((Failure::Tls, wanted.to_owned()))));
        }
    }

    #[test]
    fn the_systems_errors_have_their_kinds() {
        let table = [
            (ErrorKind::ConnectionRefused, Stage::Connecting, Some(Failure::Refused)),
            (ErrorKind::HostUnreachable, Stage::Connecting, Some(Failure::Unreachable)),
            (ErrorKind::NetworkUnreachable, Stage::Connecting, Some(Failure::Unreachable)),
            (ErrorKind::TimedOut, Stage::Connecting, Some(Failure::Timeout)),
            (ErrorKind::UnexpectedEof, Stage::Securing, Some(Failure::Tls)),
            (ErrorKind::ConnectionReset, Stage::Securing, Some(Failure::Tls)),
            (ErrorKind::UnexpectedEof, Stage::Connected, Some(Failure::Closed)),
            (ErrorKind::ConnectionReset, Stage::Connected, Some(Failure::Closed)),
            (ErrorKind::BrokenPipe, Stage::Connected, Some(Failure::Closed)),
            (ErrorKind::OutOfMemory, Stage::Connected, None),
        ];
        for (kind, stage, wanted) in table {
            let failure = classify_link(&io::Error::from(kind), stage).map(|known| known.unwrap().0);
            assert_eq!(failure, wanted, "{kind:?}");
        }
    }

    #[test]
    fn what_is_ours_is_no_failure_of_the_receiver() {
        let known = |error: &(dyn Error + 'static), stage| classify_link(error, stage);
        let ours = |why| Some(Err(NotMade(why)));
        for (errno, why) in [
            (Errno::MFILE, OwnFailure::Descriptors),
            (Errno::NFILE, OwnFailure::Descriptors),
            (Errno::NOBUFS, OwnFailure::Memory),
            (Errno::NOMEM, OwnFailure::Memory),
        ] {
            let error = io::Error::from(errno);
            assert_eq!(known(&error, Stage::Connecting), ours(why), "{errno}");
            assert_eq!(known(&error, Stage::Securing), ours(why), "{errno}");
            assert_eq!(known(&error, Stage::Connected), None, "{errno}: something of the request may have arrived");
            assert_eq!(known(&io::Error::other(error), Stage::Connecting), ours(why), "{errno}, wrapped");
        }
        assert_eq!(known(&NoPort, Stage::Connecting), ours(OwnFailure::Ports));
        assert_eq!(known(&ResolveError::Ours(OwnFailure::Resolver), Stage::Connecting), ours(OwnFailure::Resolver));
        let unreachable = known(&io::Error::from(Errno::ADDRNOTAVAIL), Stage::Connecting).unwrap().unwrap();
        assert_eq!(unreachable.0, Failure::Unreachable, "an address that cannot be reached from here");
    }
}
