//! How header names are written on the wire. HTTP compares names whatever their case (RFC 9110 section 5.1); some receivers and gateways do not.
//!
//! * Well-known names go out in title case (`Content-Type`), which is the client's doing.
//! * The names of Standard Webhooks go out in lower case, as their specification writes them; so do those of Svix's style.
//! * Names that the owner of an endpoint chose go out as they were typed.
//!
//! The client takes other cases from an extension of the request whose type hyper keeps to itself: it can only be had of a response that was
//! parsed with its case preserved. So [`HeaderCase`] has hyper parse a response with these names, in memory, and remembers what came of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Extensions, Request};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

/// Names that stay in lower case.
const LOWER: [&str; 6] =
    ["webhook-id", "webhook-timestamp", "webhook-signature", "svix-id", "svix-timestamp", "svix-signature"];
/// How many lists of names are remembered. An endpoint has one, and many have the same.
const REMEMBERED: usize = 1_024;
/// How long a list may be to be remembered, in bytes. An endpoint's own headers have 50 names of 128 characters at most.
const LIST: usize = 8 * 1024;

/// Knows the case of names. Clones share what they remember.
#[derive(Clone, Debug, Default)]
pub struct HeaderCase {
    known: Arc<Mutex<HashMap<String, Extensions>>>,
}

impl HeaderCase {
    /// What makes the client write `typed` as they are, beside the names that are always in lower case. Each must be a header name.
    pub async fn extensions(&self, typed: &[&str]) -> Extensions {
        let list = typed.join("\n");
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&list) {
            return known.clone();
        }
        // Title case does no harm: there is nothing in memory that could fail.
        let parsed = parsed(&[&LOWER[..], typed].concat()).await.unwrap_or_default();
        if list.len() <= LIST {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(list, parsed.clone());
        }
        parsed
    }
}

/// The extensions of a response that has headers of these `names`.
async fn parsed(names: &[&str]) -> Option<Extensions> {
    let mut head = "HTTP/1.1 204 No Content\r\n".to_owned();
    for name in names {
        head.push_str(name);
        head.push_str(": x\r\n");
    }
    head.push_str("\r\n");
    // Kept open to the end: a connection that ends may do so before its response is handed on.
    let (ours, mut theirs) = duplex(head.len() + 1_024);
    let mut client = http1::Builder::new();
    let (mut sender, connection) = client.preserve_header_case(true).handshake(TokioIo::new(ours)).await.ok()?;
    let asked = async {
        sender.ready().await.ok()?;
        let request = Request::new(Empty::<Bytes>::new());
        let (response, ()) = tokio::join!(sender.send_request(request), answer(&mut theirs, &head));
        response.ok()
    };
    tokio::select! {
        response = asked => Some(response?.into_parts().0.extensions),
        _ = connection => None,
    }
}

/// Answers the request with `head`; a response that came before it would be nobody's.
async fn answer(stream: &mut DuplexStream, head: &str) {
    let mut request = [0; 64];
    if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
        let _ = stream.write_all(head.as_bytes()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lists_are_remembered_within_bounds() {
        let case = HeaderCase::default();
        let remembered = || case.known.lock().unwrap().len();
        assert!(!case.extensions(&["X-API-Key", "x-TEAM"]).await.is_empty());
        case.extensions(&["X-API-Key", "x-TEAM"]).await;
        assert_eq!(remembered(), 1);
        let long = "x".repeat(LIST + 1);
        case.extensions(&[&long]).await;
        assert_eq!(remembered(), 1, "a list that is too long");
        for n in 0..REMEMBERED {
            case.extensions(&[&format!("X-{n}")]).await;
            assert!(remembered() <= REMEMBERED);
        }
    }
}
