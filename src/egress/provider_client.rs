//! HTTP requests to the configured identity provider. The SSRF guard does not apply: a provider may be in the private
//! network.

use std::time::Duration;

use crate::egress::EgressError;

/// The time for a request and its response.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest response, in bytes: documents and key sets have a few KiB.
const LONGEST: usize = 1024 * 1024;

/// A failed request to the provider.
#[derive(Debug, thiserror::Error)]
pub enum ProviderRequestError {
    #[error("request failed: {0}")]
    Failed(#[from] reqwest::Error),
    #[error("the response is longer than {LONGEST} bytes")]
    TooLong,
    #[error("invalid response: {0}")]
    Invalid(#[from] http::Error),
}

/// A client with a time limit and a bounded response. It follows no redirects.
#[derive(Clone, Debug)]
pub struct ProviderClient(reqwest::Client);

impl ProviderClient {
    /// # Errors
    /// TLS cannot be set up on this machine.
    pub fn new() -> Result<ProviderClient, EgressError> {
        // Fails if the process already has a default provider, which is then used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .http1_only()
            .timeout(TIMEOUT)
            .user_agent(concat!("Sendoff/", env!("CARGO_PKG_VERSION")))
            .build();
        client.map(ProviderClient).map_err(EgressError::Provider)
    }

    /// Sends a request and reads the response.
    ///
    /// # Errors
    /// The request failed, or the response is too long.
    pub async fn call(&self, request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, ProviderRequestError> {
        let mut response = self.0.execute(reqwest::Request::try_from(request)?).await?;
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await? {
            if body.len() + piece.len() > LONGEST {
                return Err(ProviderRequestError::TooLong);
            }
            body.extend_from_slice(&piece);
        }
        let mut read = http::Response::builder().status(response.status());
        for (name, value) in response.headers() {
            read = read.header(name, value);
        }
        Ok(read.body(body)?)
    }
}
