//! Large answers in pieces. The server copies a body into the connection's write buffer, whole unless it comes in pieces: a peer that does
//! not read would hold a copy of it in memory. While such an answer lasts, its request is [busy](super::intake::Busy).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::web::Bytes;

use super::intake::Busy;

/// The bytes of a piece. The write buffer takes pieces while it has less than 32 KiB.
const PIECE: usize = 32 * 1024;

/// The same body, in pieces if it is large. The request is busy until all of it is in the connection's write buffer.
pub(super) fn of(body: impl MessageBody + 'static, busy: Option<Busy>) -> BoxBody {
    match body.try_into_bytes() {
        Ok(bytes) if bytes.len() > PIECE => BoxBody::new(Pieces(bytes, busy)),
        Ok(bytes) => BoxBody::new(bytes),
        Err(body) => BoxBody::new(Lasting(body.boxed(), busy)),
    }
}

/// A body that comes bit by bit.
struct Lasting(BoxBody, #[expect(dead_code, reason = "is dropped with it")] Option<Busy>);

impl MessageBody for Lasting {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.0.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().0).poll_next(cx)
    }
}

struct Pieces(Bytes, #[expect(dead_code, reason = "is dropped with it")] Option<Busy>);

impl MessageBody for Pieces {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0.len() as u64)
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let rest = &mut self.get_mut().0;
        let next = rest.len().min(PIECE);
        Poll::Ready((next > 0).then(|| Ok(rest.split_to(next))))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_large_body_comes_in_pieces_and_whole() {
        let text: Vec<u8> = (0..3 * PIECE + 7).map(|n| n as u8).collect();
        let mut body = of(text.clone(), None);
        assert_eq!(body.size(), BodySize::Sized(text.len() as u64));
        let mut all = Vec::new();
        while let Some(piece) = poll_fn(|cx| Pin::new(&mut body).poll_next(cx)).await {
            let piece = piece.unwrap();
            assert!(piece.len() <= PIECE);
            all.extend_from_slice(&piece);
        }
        assert_eq!(all, text);
    }
}
