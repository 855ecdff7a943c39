//! The HTTP server: one port for the REST API, the dashboard, the portal and the probes, or separate ports for the
//! dashboard, the portal and the probes. Come here to change which routes a port serves, or how slow clients are
//! limited.
//!
//! * [`HttpServices`] is everything that handlers need; [`PageSet`] selects the pages of a port.
//! * [`ConnectionLimiter`] limits open connections, and [`TimedConnection`] cuts off slow ones by [`ClientDeadlines`].
//! * [`pipelining`] passes on one request at a time ([`request_framing`] finds their ends), and [`split_body`] writes
//!   large responses in chunks.
//!
//! # Invariants
//!
//! * No client can delay another, not even by sending slowly or not reading.
//! * Handlers are mounted here; they are implemented in `api` and `dashboard`, which know nothing of ports.

mod client_deadlines;
mod connection_limit;
mod listeners;
mod pipelining;
mod request_framing;
mod split_body;
mod timed_connection;

use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::available_parallelism;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{Extensions, HttpService, Protocol};
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::{AppConfig, Server, Service};
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{App, Error, HttpResponse};
use metrics::{describe_counter, describe_gauge};
use tokio::net::TcpStream;
use url::Url;

use crate::api::authn::authenticator::Authenticator;
use crate::api::http::probes;
use crate::api::http::probes::Probes;
use crate::api::{self, ApiState, Origins};
use crate::config::Role;
use crate::dashboard::sign_in::oidc::provider::OidcProvider;
use crate::dashboard::sign_in::passwords::Passwords;
use crate::dashboard::{self, DashboardState, TailFeeds};
use crate::domain::signing::secret::SignatureType;
use crate::domain::time::Clock;
use crate::egress::Egress;
use crate::store::Store;
use client_deadlines::ClientDeadlines;
use connection_limit::ConnectionLimiter;
pub(super) use listeners::ListenAddresses;
pub use listeners::Listeners;
use pipelining::{BodyLength, RequestFlow};
use timed_connection::TimedConnection;

/// The time to read the rest of an answered request, and for the peer to close.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Connections on the port for probes.
const MAX_ADMIN_CONNECTIONS: usize = 256;

pub(super) type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Everything that handlers need.
#[derive(Clone)]
pub(super) struct HttpServices {
    pub role: Role,
    pub store: Store,
    pub egress: Egress,
    pub authenticator: Authenticator,
    pub origins: Origins,
    /// The API's URL.
    pub public_url: Url,
    pub dashboard_url: Url,
    /// The base URL of links to the portal.
    pub portal_url: Url,
    pub frame_origins: Vec<String>,
    pub disable_after: Duration,
    pub retention: Duration,
    pub signature_type: SignatureType,
    pub dashboard_secret: [u8; 32],
    pub feeds: TailFeeds,
    pub passwords: Passwords,
    pub oidc: Option<Arc<OidcProvider>>,
    pub require_totp: bool,
    pub draining: Arc<AtomicBool>,
    pub metrics: RenderMetrics,
}

/// Builds the server, limited to `connections` open connections. It starts when polled.
pub(super) fn server(
    services: HttpServices,
    listeners: Listeners,
    connections: usize,
    drain: Duration,
) -> io::Result<Server> {
    describe_gauge!("sendoff_http_connections", "Open client connections.");
    describe_counter!(
        "sendoff_http_connections_cut_total",
        "Client connections refused (full, address) or cut off (slow_request, slow_reader, framing), by reason."
    );
    describe_counter!(
        "sendoff_http_rate_limited_total",
        "Requests rejected with 429, because of a rate limit or too many concurrent list scans."
    );
    let workers = available_parallelism().map_or(2, usize::from).max(2);
    let proxies = services.authenticator.traffic().proxies.clone();
    let builder = Server::build().workers(workers).shutdown_timeout(drain.as_secs().max(1)).disable_signals();
    let signal = builder.graceful_shutdown_signal();
    let stopping = move || {
        let signal = signal.clone();
        async move { signal.notified().await }
    };
    let Listeners { main, admin, dashboard, portal } = listeners;
    let (apart, limiter, address) =
        (admin.is_some(), ConnectionLimiter::new(connections, proxies.clone()), main.local_addr()?);
    let (whole, signal, for_all) = (services.clone(), stopping.clone(), limiter.clone());
    let pages = match (&dashboard, &portal) {
        (None, None) => PageSet::All,
        (None, Some(_)) => PageSet::Operators,
        (Some(_), None) => PageSet::Portal,
        (Some(_), Some(_)) => PageSet::None,
    };
    let mut builder = builder.listen("http", main, move || {
        let services = whole.clone();
        connection_service(
            move |config| mount(config, services, apart, pages),
            for_all.clone(),
            signal.clone(),
            address,
        )
    })?;
    let separate = [("dashboard", dashboard, PageSet::Operators), ("portal", portal, PageSet::Portal)];
    for (name, listener, pages) in separate {
        let Some(listener) = listener else { continue };
        let (services, signal, address) = (services.clone(), stopping.clone(), listener.local_addr()?);
        let limiter = limiter.clone();
        builder = builder.listen(name, listener, move || {
            let services = services.clone();
            let mount = move |config: &mut ServiceConfig| mount_pages(config, &services, pages);
            connection_service(mount, limiter.clone(), signal.clone(), address)
        })?;
    }
    if let Some(admin) = admin {
        // A separate limit: clients that use up the other one cannot keep probes out.
        let (limiter, address) = (ConnectionLimiter::new(MAX_ADMIN_CONNECTIONS, proxies), admin.local_addr()?);
        builder = builder.listen("admin", admin, move || {
            let services = services.clone();
            connection_service(
                move |config| mount_probes(config, &services),
                limiter.clone(),
                stopping.clone(),
                address,
            )
        })?;
    }
    Ok(builder.run())
}

/// Serves connections like actix-web's own server, but limits and times each one.
fn connection_service<F: Future<Output = ()> + 'static>(
    mount: impl FnOnce(&mut ServiceConfig),
    limiter: ConnectionLimiter,
    stopping: impl Fn() -> F + 'static,
    address: SocketAddr,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()> {
    let app = App::new()
        .wrap_fn(|request, service| {
            let active = request.conn_data::<RequestFlow>().map(|flow| flow.begin(body_length(request.headers())));
            let answer = service.call(request);
            async move { Ok(answer.await?.map_body(|_, body| split_body::split(body, active))) }
        })
        .configure(mount)
        .default_service(web::to(not_found));
    let app = app.into_factory().map_err(|error: Error| error.error_response());
    let deadlines = ClientDeadlines::new();
    let http = HttpService::build()
        .on_connect_ext(|io: &TimedConnection<TcpStream>, data: &mut Extensions| {
            data.insert(io.hangup().clone());
            data.insert(io.flow().clone());
        })
        .graceful_shutdown_signal(stopping)
        .keep_alive(deadlines.keep_alive)
        .client_request_timeout(deadlines.head)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        .local_addr(address)
        // Only sets the host of requests without a Host header, which no handler reads.
        .finish(map_config(app, |()| AppConfig::default()));
    fn_service(move |io: TcpStream| ready(admit(&limiter, deadlines, io))).and_then(http)
}

/// Times the connection if the limit allows it.
fn admit(
    limiter: &ConnectionLimiter,
    deadlines: ClientDeadlines,
    io: TcpStream,
) -> Result<(TimedConnection<TcpStream>, Protocol, Option<SocketAddr>), DispatchError> {
    let peer = prepare(&io)?;
    let permit = limiter.acquire(peer.ip()).ok_or(DispatchError::DisconnectTimeout)?;
    Ok((TimedConnection::new(io, permit, deadlines), Protocol::Http1, Some(peer)))
}

/// Sends each write at once, and returns the caller's address. Without `TCP_NODELAY`, the second write of a response
/// waits until the caller acknowledges the first, which takes 40 ms on Linux.
fn prepare(io: &TcpStream) -> std::io::Result<SocketAddr> {
    io.set_nodelay(true)?;
    io.peer_addr()
}

/// The length of a request's body.
fn body_length(headers: &HeaderMap) -> BodyLength {
    if headers.contains_key(TRANSFER_ENCODING) {
        return BodyLength::Chunked;
    }
    // The parser has already rejected invalid values.
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.trim().parse().ok());
    BodyLength::Bytes(length.unwrap_or(0))
}

/// The pages that a port serves.
#[derive(Clone, Copy)]
enum PageSet {
    All,
    Operators,
    Portal,
    None,
}

/// Mounts all routes, the most specific first: the dashboard owns the root.
fn mount(config: &mut ServiceConfig, services: HttpServices, probes_apart: bool, pages: PageSet) {
    if !probes_apart {
        mount_probes(config, &services);
    }
    if !services.role.serves() {
        return;
    }
    let HttpServices {
        store, egress, authenticator, origins, public_url, portal_url, retention, signature_type, ..
    } = services.clone();
    config
        .app_data(Data::new(ApiState {
            store,
            egress,
            authenticator,
            public_url,
            portal_url,
            clock: Clock,
            retention,
            signature_type,
            origins,
        }))
        .configure(api::routes);
    mount_pages(config, &services, pages);
}

/// Mounts the dashboard and the portal.
fn mount_pages(config: &mut ServiceConfig, services: &HttpServices, pages: PageSet) {
    if !services.role.serves() {
        return;
    }
    let (public_url, routes): (_, fn(&mut ServiceConfig)) = match pages {
        PageSet::All => (&services.dashboard_url, dashboard::routes),
        PageSet::Operators => (&services.dashboard_url, dashboard::operators),
        PageSet::Portal => (&services.portal_url, dashboard::customers),
        PageSet::None => return,
    };
    config
        .app_data(Data::new(DashboardState {
            store: services.store.clone(),
            clock: Clock,
            egress: services.egress.clone(),
            public_url: public_url.clone(),
            portal_url: services.portal_url.clone(),
            api_url: services.public_url.clone(),
            frame_origins: services.frame_origins.clone(),
            signature_type: services.signature_type,
            disable_after: services.disable_after,
            secret: services.dashboard_secret,
            feeds: services.feeds.clone(),
            passwords: services.passwords.clone(),
            traffic: services.authenticator.traffic().clone(),
            oidc: services.oidc.clone(),
            require_totp: services.require_totp,
        }))
        .configure(routes);
}

/// Mounts the probes, which need no token.
fn mount_probes(config: &mut ServiceConfig, services: &HttpServices) {
    let HttpServices { store, draining, metrics, .. } = services;
    let probes = Probes { store: store.clone(), draining: draining.clone(), metrics: metrics.clone() };
    config.app_data(Data::new(probes)).configure(probes::routes);
}

async fn not_found() -> HttpResponse {
    HttpResponse::NotFound().json(serde_json::json!({ "code": "not_found", "detail": "Not found." }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_write_waits_for_an_acknowledgement() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let caller = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (io, _) = listener.accept().await.unwrap();
        assert_eq!(prepare(&io).unwrap(), caller.local_addr().unwrap());
        assert!(io.nodelay().unwrap());
    }
}
