//! The connectors of this module as the services that hyper expects.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use tower_service::Service;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Opens a connection to the host of a URI.
pub trait Connect: Clone + Send + 'static {
    type Connection;
    type Error;

    fn connect(self, uri: Uri) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;
}

/// A connector as a service. It is always ready: connections are limited elsewhere.
#[derive(Clone, Debug)]
pub struct ConnectService<C>(pub C);

impl<C: Connect> Service<Uri> for ConnectService<C> {
    type Response = C::Connection;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<C::Connection, C::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.0.clone().connect(uri))
    }
}
