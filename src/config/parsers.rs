//! Parsers for settings: durations, sizes, lists, addresses. An error completes the sentence "VALUE …"; the expected
//! format is in the table of settings.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use lettre::message::Mailbox;
use lettre::{AsyncSmtpTransport, Tokio1Executor};
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::domain::duration_text;

/// The value, or the rest of the error's sentence.
pub type ParseResult<T> = Result<T, String>;

/// Parses a duration: a whole number and one of `ms`, `s`, `m`, `h`, `d`.
pub fn span(text: &str) -> ParseResult<Duration> {
    duration_text::parse(text)
}

/// Parses a duration within bounds.
pub fn span_within(least: Duration, most: Duration) -> impl Fn(&str) -> ParseResult<Duration> {
    move |text| match span(text)? {
        span if span < least => Err("is too short".to_owned()),
        span if span > most => Err("is too long".to_owned()),
        span => Ok(span),
    }
}

/// Parses durations separated by commas.
pub fn spans(text: &str) -> ParseResult<Vec<Duration>> {
    items(text).map(|item| span(item).map_err(|wrong| format!("contains {item:?}, which {wrong}"))).collect()
}

/// Parses a size within bounds: a whole number and one of `B`, `KiB`, `MiB`, or no unit for bytes.
pub fn size_within(least: usize, most: usize) -> impl Fn(&str) -> ParseResult<usize> {
    move |text| {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let scale = match unit.trim_start() {
            "" | "B" => 1,
            "KiB" => 1_024,
            "MiB" => 1_024 * 1_024,
            _ => return Err("has a unit other than B, KiB or MiB".to_owned()),
        };
        let number: usize = number.parse().map_err(|_| "is not a size".to_owned())?;
        match number.checked_mul(scale) {
            Some(bytes) if bytes < least => Err("is too small".to_owned()),
            Some(bytes) if bytes <= most => Ok(bytes),
            _ => Err("is too large".to_owned()),
        }
    }
}

/// Parses a whole number within bounds.
pub fn count_within(least: usize, most: usize) -> impl Fn(&str) -> ParseResult<usize> {
    move |text| match text.parse::<usize>() {
        Ok(number) if number < least => Err("is too small".to_owned()),
        Ok(number) if number > most => Err("is too large".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("is not a whole number".to_owned()),
    }
}

/// Parses `true` or `false`.
pub fn boolean(text: &str) -> ParseResult<bool> {
    text.parse().map_err(|_| "is not a boolean".to_owned())
}

/// Parses networks separated by commas; a plain address is a network of one.
pub fn networks(text: &str) -> ParseResult<Vec<IpNet>> {
    let network = |item: &str| match item.parse::<IpAddr>() {
        Ok(ip) => Ok(IpNet::from(ip)),
        Err(_) => item.parse::<IpNet>().map_err(|_| format!("contains {item:?}, which is not a network")),
    };
    items(text).map(network).collect()
}

/// Parses addresses of name servers separated by commas. Without a port, it is 53.
pub fn name_servers(text: &str) -> ParseResult<Vec<SocketAddr>> {
    let server = |item: &str| match item.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, 53)),
        Err(_) => item.parse().map_err(|_| format!("contains {item:?}, which is not an address")),
    };
    items(text).map(server).collect()
}

/// Validates host names, addresses and networks separated by commas. A name may begin with a dot.
pub fn hosts_and_networks(text: &str) -> ParseResult<String> {
    let label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let is_name = |item: &str| item.strip_prefix('.').unwrap_or(item).split('.').all(label);
    let mut unknown = items(text).filter(|item| networks(item).is_err() && !is_name(item));
    match unknown.next() {
        Some(item) => Err(format!("contains {item:?}, which is neither a host name nor a network")),
        None => Ok(text.to_owned()),
    }
}

/// Parses a listen address. `localhost` means 127.0.0.1.
pub fn listen(text: &str) -> ParseResult<SocketAddr> {
    let text = text.strip_prefix("localhost:").map_or(text.to_owned(), |port| format!("127.0.0.1:{port}"));
    text.parse().map_err(|_| "is not an IP address with a port".to_owned())
}

/// Parses a scheme, a host and an optional port.
pub fn public_url(text: &str) -> ParseResult<Url> {
    let url: Url = text.parse().map_err(|_| "is not a URL".to_owned())?;
    match () {
        () if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) => {
            Err("is not an http or https URL".to_owned())
        }
        () if !url.username().is_empty() || url.password().is_some() => Err("contains a user or password".to_owned()),
        () if url.path() != "/" || url.query().is_some() || url.fragment().is_some() => {
            Err("contains more than a scheme, a host and a port".to_owned())
        }
        () => Ok(url),
    }
}

/// Validates a mail server URL. The error never quotes it, because it contains the password.
pub fn smtp_url(text: &str) -> ParseResult<Zeroizing<String>> {
    let url: Url = text.parse().map_err(|_| "is not a URL".to_owned())?;
    let tls: Vec<_> = url.query_pairs().filter(|(name, _)| name == "tls").map(|(_, how)| how).collect();
    let known = tls.iter().all(|how| ["required", "opportunistic"].contains(&how.as_ref()));
    match () {
        () if !matches!(url.scheme(), "smtp" | "smtps") || url.host_str().is_none_or(str::is_empty) => {
            Err("is not an smtp or smtps URL".to_owned())
        }
        () if url.port() == Some(0) => Err("names port 0".to_owned()),
        () if url.username().is_empty() != url.password().is_none() => {
            Err("needs a user name and a password, or neither".to_owned())
        }
        () if !known || tls.len() > 1 || url.query_pairs().count() > tls.len() => {
            Err("has a parameter other than tls=required or tls=opportunistic".to_owned())
        }
        () => match AsyncSmtpTransport::<Tokio1Executor>::from_url(text) {
            Ok(_) => Ok(Zeroizing::new(text.to_owned())),
            Err(_) => Err("is not a valid mail server".to_owned()),
        },
    }
}

/// Parses a sender address.
pub fn mailbox(text: &str) -> ParseResult<Mailbox> {
    text.parse().map_err(|_| "is not an e-mail address".to_owned())
}

/// Parses origins that may embed the portal. Plain HTTP is for loopback hosts only: elsewhere the page around the
/// portal could be changed in transit.
pub fn frame_origins(text: &str) -> ParseResult<Vec<String>> {
    let origin = |item: &str| -> ParseResult<String> {
        let url = public_url(item).map_err(|wrong| format!("contains {item:?}, which {wrong}"))?;
        let plain = |host: &str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b));
        let loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        match () {
            // The origin becomes part of a header, where `*`, `;` and `,` have a meaning.
            () if !url.host_str().is_some_and(plain) => Err(format!("contains {item:?}, which is not a single host")),
            () if url.scheme() == "http" && !loopback => Err(format!("contains {item:?}, which is not https")),
            () => Ok(url.origin().ascii_serialization()),
        }
    };
    items(text).map(origin).collect()
}

/// Parses browser origins: `*` is any (`None`), and `none` is an empty list.
pub fn cors_origins(text: &str) -> ParseResult<Option<Vec<String>>> {
    let origin = |item: &str| match public_url(item) {
        Ok(url) => Ok(url.origin().ascii_serialization()),
        Err(wrong) => Err(format!("contains {item:?}, which {wrong}")),
    };
    match text {
        "*" => Ok(None),
        "none" => Ok(Some(Vec::new())),
        list => items(list).map(origin).collect::<ParseResult<_>>().map(Some),
    }
}

/// Validates a log filter. Stricter than `tracing-subscriber`, which takes a misspelled level for a module name.
pub fn log_filter(text: &str) -> ParseResult<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for item in items(text) {
        let level = item.rsplit_once('=').map_or(item, |(_, level)| level).to_ascii_lowercase();
        if !LEVELS.contains(&level.as_str()) {
            return Err(format!("contains {item:?}, which has no level"));
        }
    }
    tracing_subscriber::EnvFilter::try_new(text).map_err(|_| "is not a filter".to_owned())?;
    Ok(text.to_owned())
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units() {
        let seconds = |text| span(text).map(|span| span.as_secs());
        assert_eq!((seconds("15s"), seconds("5m"), seconds("2h")), (Ok(15), Ok(300), Ok(7_200)));
        assert_eq!((seconds("90d"), span("250ms")), (Ok(7_776_000), Ok(Duration::from_millis(250))));
        for bad in ["", "s", "15", "1.5s", "-1s", "15 s", "1h30m", "1w", "15S", "99999999999999999999s", "+1s"] {
            assert!(span(bad).is_err(), "{bad}");
        }
        assert_eq!(spans("1s, 2m,").map(|list| list.len()), Ok(2));
        assert!(spans("1s;2s").is_err());
        let bounded = span_within(Duration::from_secs(1), Duration::from_secs(30));
        assert!(
            bounded("1s").is_ok() && bounded("30s").is_ok() && bounded("999ms").is_err() && bounded("31s").is_err()
        );
    }

    #[test]
    fn sizes_and_counts_have_bounds() {
        let size = size_within(1_024, 16 << 20);
        assert_eq!((size("256KiB"), size("1MiB"), size("2048")), (Ok(262_144), Ok(1_048_576), Ok(2_048)));
        assert_eq!(size("1024 B"), Ok(1_024));
        for bad in ["1B", "17MiB", "1GB", "256kb", "KiB", "-1", "", "18446744073709551615MiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        let count = count_within(1, 10);
        assert!(count("1").is_ok() && count("10").is_ok() && count("0").is_err() && count("11").is_err());
        assert!(count("many").is_err() && count("-1").is_err());
    }

    #[test]
    fn addresses_and_networks() {
        assert_eq!(listen("localhost:80"), listen("127.0.0.1:80"));
        assert!(listen("[::1]:8071").is_ok() && listen("0.0.0.0:0").is_ok());
        for bad in ["", "8071", ":8071", "example.com:80", "127.0.0.1", "127.0.0.1:99999"] {
            assert!(listen(bad).is_err(), "{bad}");
        }
        assert_eq!(networks("10.0.0.0/8, ::1").map(|list| list.len()), Ok(2));
        assert_eq!(networks(""), Ok(vec![]));
        assert!(networks("10.0.0.0/33").is_err() && networks("localhost").is_err());
        let servers = name_servers("192.0.2.53, [2001:db8::1]:5353,2001:db8::1").unwrap();
        assert_eq!(servers.iter().map(SocketAddr::port).collect::<Vec<_>>(), [53, 5_353, 53]);
        assert!(name_servers("localhost").is_err() && name_servers("192.0.2.53:x").is_err());
    }

    #[test]
    fn public_urls_are_a_scheme_a_host_and_a_port() {
        assert!(public_url("https://hooks.example.com").is_ok() && public_url("http://[::1]:8071/").is_ok());
        for bad in ["", "example.com", "ftp://x", "https://a@b", "https://x/y", "https://x/?q", "https://x/#f"] {
            assert!(public_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn frame_origins_are_https_or_loopback() {
        let all = "https://app.example.com, https://App.example.com:8443/,http://localhost:3000,http://[::1]";
        let wanted =
            ["https://app.example.com", "https://app.example.com:8443", "http://localhost:3000", "http://[::1]"];
        assert_eq!(frame_origins(all).unwrap(), wanted);
        assert_eq!(frame_origins(""), Ok(vec![]));
        let bad = ["*", "https://*.example.com", "https://*", "'self'", "app.example.com", "http://app.example.com"];
        let worse =
            ["https://a.example/x", "https://a.example;script-src", "https://u@a.example", "https://a.example?q"];
        for bad in bad.into_iter().chain(worse) {
            assert!(frame_origins(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cors_origins_are_any_none_or_some() {
        assert_eq!((cors_origins("*"), cors_origins("none")), (Ok(None), Ok(Some(vec![]))));
        let some = cors_origins("https://App.example.com/, http://localhost:3000");
        assert_eq!(some, Ok(Some(vec!["https://app.example.com".into(), "http://localhost:3000".into()])));
        for bad in ["https://*.example.com/x", "app.example.com", "*, https://a.example", "https://a.example/x"] {
            assert!(cors_origins(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_filter_names_levels() {
        for good in ["info", "warn,sendoff=debug", "OFF", "sendoff::engine=trace"] {
            assert!(log_filter(good).is_ok(), "{good}");
        }
        for bad in ["inof", "sendoff", "sendoff=loud", "info,sendoff="] {
            assert!(log_filter(bad).is_err(), "{bad}");
        }
    }
}
