//! Splits large response bodies. The server copies a body into the connection's write buffer. Without chunks, a peer
//! that does not read would hold a full copy in memory. A request stays [active](super::pipelining::ActiveRequest)
//! until its body is written.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::web::Bytes;

use super::pipelining::ActiveRequest;

/// Bytes per chunk. The write buffer accepts chunks while it holds less than 32 KiB.
const CHUNK_SIZE: usize = 32 * 1024;

/// Returns the body in chunks. Drops `active` once all of it is in the connection's write buffer.
pub(super) fn split(body: impl MessageBody + 'static, active: Option<ActiveRequest>) -> BoxBody {
    match body.try_into_bytes() {
        Ok(bytes) if bytes.len() > CHUNK_SIZE => BoxBody::new(SplitBody(bytes, active)),
        Ok(bytes) => BoxBody::new(bytes),
        Err(body) => BoxBody::new(StreamedBody(body.boxed(), active)),
    }
}

/// A body that is already a stream.
struct StreamedBody(BoxBody, #[expect(dead_code, reason = "is dropped with it")] Option<ActiveRequest>);

impl MessageBody for StreamedBody {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.0.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().0).poll_next(cx)
    }
}

struct SplitBody(Bytes, #[expect(dead_code, reason = "is dropped with it")] Option<ActiveRequest>);

impl MessageBody for SplitBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0.len() as u64)
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let rest = &mut self.get_mut().0;
        let next = rest.len().min(CHUNK_SIZE);
        Poll::Ready((next > 0).then(|| Ok(rest.split_to(next))))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_large_body_is_split_without_loss() {
        let text: Vec<u8> = (0..3 * CHUNK_SIZE + 7).map(|n| n as u8).collect();
        let mut body = split(text.clone(), None);
        assert_eq!(body.size(), BodySize::Sized(text.len() as u64));
        let mut all = Vec::new();
        while let Some(chunk) = poll_fn(|cx| Pin::new(&mut body).poll_next(cx)).await {
            let chunk = chunk.unwrap();
            assert!(chunk.len() <= CHUNK_SIZE);
            all.extend_from_slice(&chunk);
        }
        assert_eq!(all, text);
    }
}
