//! The case of header names on the wire. Names are case-insensitive (RFC 9110 section 5.1), but some receivers and
//! gateways compare bytes.
//!
//! * The client writes names in title case (`Content-Type`).
//! * Standard Webhooks and Svix names stay in lower case, as their specifications write them.
//! * Custom headers keep the case in which the endpoint's owner entered them.
//!
//! A request extension controls the case. Its type is private to hyper, which only creates it while parsing a response
//! with case preserved. [`HeaderCase`] therefore has hyper parse an in-memory response, and caches the extensions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Extensions, Request};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

/// Names sent in lower case.
const LOWER_CASE: [&str; 6] =
    ["webhook-id", "webhook-timestamp", "webhook-signature", "svix-id", "svix-timestamp", "svix-signature"];
/// Maximum cached lists of names. Many endpoints have the same list.
const MAX_CACHED_LISTS: usize = 1_024;
/// Maximum bytes of a cached list. An endpoint has at most 50 custom headers of 128 characters.
const MAX_LIST_BYTES: usize = 8 * 1024;

/// Creates header case extensions. Clones share the cache.
#[derive(Clone, Debug, Default)]
pub struct HeaderCase {
    cache: Arc<Mutex<HashMap<String, Extensions>>>,
}

impl HeaderCase {
    /// Extensions that make the client write `exact_case` names unchanged, beside the lower-case names. Each must be a
    /// valid header name.
    pub async fn extensions(&self, exact_case: &[&str]) -> Extensions {
        let list = exact_case.join("\n");
        if let Some(extensions) = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(&list) {
            return extensions.clone();
        }
        // In-memory parsing cannot fail; if it did, names would go out in title case.
        let extensions = parse_names(&[&LOWER_CASE[..], exact_case].concat()).await.unwrap_or_default();
        if list.len() <= MAX_LIST_BYTES {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if cache.len() >= MAX_CACHED_LISTS {
                cache.clear();
            }
            cache.insert(list, extensions.clone());
        }
        extensions
    }
}

/// Extensions of a parsed response that has headers with these names.
async fn parse_names(names: &[&str]) -> Option<Extensions> {
    let mut head = "HTTP/1.1 204 No Content\r\n".to_owned();
    for name in names {
        head.push_str(name);
        head.push_str(": x\r\n");
    }
    head.push_str("\r\n");
    // Kept open: a connection that ends may do so before it returns its response.
    let (ours, mut theirs) = duplex(head.len() + 1_024);
    let mut client = http1::Builder::new();
    let (mut sender, connection) = client.preserve_header_case(true).handshake(TokioIo::new(ours)).await.ok()?;
    let exchange = async {
        sender.ready().await.ok()?;
        let request = Request::new(Empty::<Bytes>::new());
        let (response, ()) = tokio::join!(sender.send_request(request), respond(&mut theirs, &head));
        response.ok()
    };
    tokio::select! {
        response = exchange => Some(response?.into_parts().0.extensions),
        _ = connection => None,
    }
}

/// Waits for the request, because hyper rejects a response that precedes it, and writes `head`.
async fn respond(stream: &mut DuplexStream, head: &str) {
    let mut request = [0; 64];
    if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
        let _ = stream.write_all(head.as_bytes()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_cache_of_lists_is_bounded() {
        let case = HeaderCase::default();
        let cached = || case.cache.lock().unwrap().len();
        assert!(!case.extensions(&["X-API-Key", "x-TEAM"]).await.is_empty());
        case.extensions(&["X-API-Key", "x-TEAM"]).await;
        assert_eq!(cached(), 1);
        let long = "x".repeat(MAX_LIST_BYTES + 1);
        case.extensions(&[&long]).await;
        assert_eq!(cached(), 1, "a list that is too long");
        for n in 0..MAX_CACHED_LISTS {
            case.extensions(&[&format!("X-{n}")]).await;
            assert!(cached() <= MAX_CACHED_LISTS);
        }
    }
}
