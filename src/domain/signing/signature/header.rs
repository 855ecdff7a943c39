//! Validation of an endpoint's custom headers.

use http::{HeaderName, HeaderValue};

use crate::domain::{Invalid, limits};

/// Prefixes of reserved names.
const RESERVED_PREFIXES: [&str; 5] = ["webhook-", "svix-", "x-svix-", "x-amzn-", "proxy-"];

/// Reserved names. Only Sendoff sets headers that describe the body or control the connection, because an ambiguous end
/// of a request allows request smuggling (RFC 9110 section 7.6.1, RFC 9112 section 6). `accept-encoding` is reserved
/// because responses are stored without decompression.
const RESERVED: [&str; 14] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Checks a custom header of an endpoint; `field` names the setting in the error.
///
/// # Errors
/// An invalid or reserved name, or a value that is longer than 4,096 bytes or not visible ASCII. Values are never
/// quoted: they may be passwords.
pub fn header_allowed(field: &str, name: &str, value: &str) -> Result<(), Invalid> {
    let refused = |reason: &str| Err(Invalid::new(field, format!("header {name:?} {reason}")));
    if name.len() > limits::NAME {
        return Err(Invalid::new(field, format!("has a header with a name of more than {} characters", limits::NAME)));
    }
    let Ok(parsed) = HeaderName::try_from(name) else {
        return refused("is not a valid header name");
    };
    let lower = parsed.as_str();
    if RESERVED.contains(&lower) || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) {
        return refused("is set by the sender and can't be changed");
    }
    if value.len() > limits::HEADER_VALUE {
        return refused("has a value longer than 4096 bytes");
    }
    match HeaderValue::from_str(value) {
        Ok(value) if value.to_str().is_ok() => Ok(()),
        _ => refused("has a value with characters other than visible ASCII"),
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::signing::signature::header::*;

    #[test]
    fn an_endpoint_may_set_its_own_headers() {
        for name in ["Authorization", "x-api-key", "X-Hub-Signature-256", "cookie", "webhooks"] {
            assert_eq!(header_allowed("headers", name, "Bearer x=1; \"y\""), Ok(()), "{name}");
        }
        assert_eq!(header_allowed("headers", "x-long", &"x".repeat(limits::HEADER_VALUE)), Ok(()));
    }

    #[test]
    fn reserved_header_names_are_rejected_in_any_case() {
        let ours = [
            "webhook-id",
            "Webhook-Signature",
            "svix-anything",
            "X-Svix-Signature",
            "x-amzn-trace-id",
            "Proxy-Connection",
            "Host",
            "TRANSFER-ENCODING",
        ];
        for name in ours.iter().chain(&RESERVED) {
            let invalid = header_allowed("headers", name, "x").unwrap_err();
            assert!(invalid.reason.contains("is set by the sender"), "{invalid}");
        }
    }

    #[test]
    fn invalid_headers_are_rejected_without_quoting_values() {
        for (name, value) in
            [("", "x"), ("a b", "x"), ("a:", "x"), ("ü", "x"), ("a\r\nb", "x"), ("x-a", "hush\r\nHost: evil")]
        {
            assert!(header_allowed("headers", name, value).is_err(), "{name:?}");
        }
        for value in ["hush\0", "hush\n", "hüsh", &"hush".repeat(1_025)] {
            let invalid = header_allowed("headers", "x-key", value).unwrap_err();
            assert!(!invalid.reason.contains("hush") && !invalid.reason.contains("hüsh"), "{invalid}");
        }
    }
}
