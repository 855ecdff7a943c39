//! The HTTP server: one port for the REST API, the dashboard and the probes, or another one for the probes.
//!
//! Nobody who connects can hold up the others: there are so many [places] for connections, a [connection] that is too slow is cut off,
//! requests are [taken in](intake) one at a time, and large answers go out in [pieces].

mod connection;
mod intake;
mod pieces;
mod places;

use std::future::ready;
use std::io;
use std::net::{SocketAddr, TcpListener};
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
use tokio::net::{TcpSocket, TcpStream};
use url::Url;

use super::AppError;
use crate::api::authn::authenticator::Authenticator;
use crate::api::http::probes;
use crate::api::http::probes::Probes;
use crate::api::{self, ApiState, BodyBudget, Origins};
use crate::config::{HttpConfig, Role};
use crate::dashboard::sign_in::passwords::Passwords;
use crate::dashboard::{self, DashboardState, Feeds};
use crate::domain::signing::secret::SignatureType;
use crate::domain::time::Clock;
use crate::egress::Egress;
use crate::store::Store;
use connection::{RECEIVING, SENDING, Watched};
use intake::{Body, Flow};
use places::Places;

/// How many connections the system keeps for us while all workers are busy.
const BACKLOG: u32 = 2_048;
/// Longer than the idle time of proxies and clients in common use (60 s): they close, so no request meets a closing connection.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// For the head of a connection's first request.
const HEAD: Duration = Duration::from_secs(10);
/// For what is left of a request once it is answered, and for the peer to close.
const DISCONNECT: Duration = Duration::from_secs(1);
/// How many connections the port for probes alone takes.
const ADMIN_CONNECTIONS: usize = 256;
/// How many bytes of an answer the system holds for a peer that does not read.
const SEND_BUFFER: u32 = 256 * 1024;

/// Renders the metrics.
pub(super) type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// What is served.
#[derive(Clone)]
pub(super) struct Served {
    pub role: Role,
    pub store: Store,
    pub egress: Egress,
    pub authenticator: Authenticator,
    pub origins: Origins,
    pub public_url: Url,
    /// The base URL of links into the portal.
    pub portal_url: Url,
    pub frame_origins: Vec<String>,
    pub disable_after: Duration,
    pub retention: Duration,
    pub signature_type: SignatureType,
    pub dashboard_secret: [u8; 32],
    pub feeds: Feeds,
    pub passwords: Passwords,
    pub bodies: BodyBudget,
    pub draining: Arc<AtomicBool>,
    pub metrics: Render,
}

/// The ports, open.
#[derive(Debug)]
pub struct Listeners {
    main: TcpListener,
    /// For the probes alone, which are then not on the other.
    admin: Option<TcpListener>,
    /// For the portal alone, which is then not on the other.
    portal: Option<TcpListener>,
}

impl Listeners {
    /// Opens the ports that the settings name.
    ///
    /// # Errors
    /// Somebody else has one, or it is not ours to take.
    pub fn open(http: &HttpConfig) -> Result<Listeners, AppError> {
        let main = listen(http.listen, "SENDOFF_LISTEN")?;
        let admin = http.admin_listen.map(|address| listen(address, "SENDOFF_ADMIN_LISTEN")).transpose()?;
        let portal = http.portal_listen.map(|address| listen(address, "SENDOFF_PORTAL_LISTEN")).transpose()?;
        Ok(Listeners { main, admin, portal })
    }

    /// Opens one port for everything.
    ///
    /// # Errors
    /// Those of [`Listeners::open`].
    pub fn at(address: SocketAddr) -> Result<Listeners, AppError> {
        Ok(Listeners { main: listen(address, "SENDOFF_LISTEN")?, admin: None, portal: None })
    }

    /// Where they listen.
    pub(super) fn addresses(&self) -> io::Result<Addresses> {
        let of = |listener: &Option<TcpListener>| listener.as_ref().map(TcpListener::local_addr).transpose();
        Ok(Addresses { main: self.main.local_addr()?, admin: of(&self.admin)?, portal: of(&self.portal)? })
    }
}

/// Where the ports are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub main: SocketAddr,
    /// `None`: beside everything else.
    pub admin: Option<SocketAddr>,
    /// `None`: beside everything else.
    pub portal: Option<SocketAddr>,
}

fn listen(address: SocketAddr, setting: &str) -> Result<TcpListener, AppError> {
    let open = || -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // What the process before left in TIME_WAIT is no reason to wait.
        socket.set_reuseaddr(true)?;
        // Connections inherit it from the port.
        socket.set_send_buffer_size(SEND_BUFFER)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)?.into_std()
    };
    open().map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => AppError::Start(format!(
            "{address} is in use by another process: stop that one, or set {setting} to another port"
        )),
        _ => AppError::Start(format!("can't listen on {address} ({setting}): {error}")),
    })
}

/// Sets the server up, with room for so many connections; it begins when it is polled.
pub(super) fn server(served: Served, listeners: Listeners, connections: usize, drain: Duration) -> io::Result<Server> {
    describe_gauge!("sendoff_http_connections", "Connections of callers that are open.");
    describe_counter!(
        "sendoff_http_connections_cut_total",
        "Connections of callers that were refused (full, address) or cut off (slow_request, slow_reader), by reason."
    );
    describe_counter!(
        "sendoff_http_rate_limited_total",
        "Requests that were refused with 429: too many of a key, an application, a session or an address, or too many scans at a time."
    );
    let workers = available_parallelism().map_or(2, usize::from).max(2);
    let proxies = served.authenticator.traffic().proxies.clone();
    let builder = Server::build().workers(workers).shutdown_timeout(drain.as_secs().max(1)).disable_signals();
    let signal = builder.graceful_shutdown_signal();
    let stopping = move || {
        let signal = signal.clone();
        async move { signal.notified().await }
    };
    let Listeners { main, admin, portal } = listeners;
    let (apart, places, address) = (admin.is_some(), Places::new(connections, proxies.clone()), main.local_addr()?);
    let (whole, signal, for_all) = (served.clone(), stopping.clone(), places.clone());
    let pages = if portal.is_some() { Pages::Operators } else { Pages::All };
    let mut builder = builder.listen("http", main, move || {
        let served = whole.clone();
        connections_of(move |config| mount(config, served, apart, pages), for_all.clone(), signal.clone(), address)
    })?;
    if let Some(portal) = portal {
        let (served, signal, address) = (served.clone(), stopping.clone(), portal.local_addr()?);
        builder = builder.listen("portal", portal, move || {
            let served = served.clone();
            let mount = move |config: &mut ServiceConfig| mount_pages(config, &served, Pages::Portal);
            connections_of(mount, places.clone(), signal.clone(), address)
        })?;
    }
    if let Some(admin) = admin {
        // Places of their own: whoever fills the others does not keep probes out.
        let (places, address) = (Places::new(ADMIN_CONNECTIONS, proxies), admin.local_addr()?);
        builder = builder.listen("admin", admin, move || {
            let served = served.clone();
            connections_of(move |config| mount_probes(config, &served), places.clone(), stopping.clone(), address)
        })?;
    }
    Ok(builder.run())
}

/// Takes connections as actix-web's own server does, but each connection is watched, and has to find a place.
fn connections_of<F: Future<Output = ()> + 'static>(
    mount: impl FnOnce(&mut ServiceConfig),
    places: Places,
    stopping: impl Fn() -> F + 'static,
    address: SocketAddr,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()> {
    let app = App::new()
        .wrap_fn(|request, service| {
            let busy = request.conn_data::<Flow>().map(|flow| flow.begin(body_of(request.headers())));
            let answer = service.call(request);
            async move { Ok(answer.await?.map_body(|_, body| pieces::of(body, busy))) }
        })
        .configure(mount)
        .default_service(web::to(nothing_here));
    let app = app.into_factory().map_err(|error: Error| error.error_response());
    let http = HttpService::build()
        .on_connect_ext(|io: &Watched<TcpStream>, data: &mut Extensions| {
            data.insert(io.hangup().clone());
            data.insert(io.flow().clone());
        })
        .graceful_shutdown_signal(stopping)
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(HEAD)
        .client_disconnect_timeout(DISCONNECT)
        .local_addr(address)
        // It only says what host a request without a Host header is for, which nothing here asks.
        .finish(map_config(app, |()| AppConfig::default()));
    fn_service(move |io: TcpStream| ready(admit(&places, io))).and_then(http)
}

/// Watches a connection, if there is a place for it.
fn admit(places: &Places, io: TcpStream) -> Result<(Watched<TcpStream>, Protocol, Option<SocketAddr>), DispatchError> {
    let peer = io.peer_addr()?;
    let place = places.take(peer.ip()).ok_or(DispatchError::DisconnectTimeout)?;
    Ok((Watched::new(io, place, RECEIVING, SENDING), Protocol::Http1, Some(peer)))
}

/// The body that a request announces.
fn body_of(headers: &HeaderMap) -> Body {
    if headers.contains_key(TRANSFER_ENCODING) {
        return Body::Chunked;
    }
    // A value that is no number was refused when the head was read.
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.trim().parse().ok());
    Body::Bytes(length.unwrap_or(0))
}

/// The pages that a port serves.
#[derive(Clone, Copy)]
enum Pages {
    All,
    Operators,
    Portal,
}

/// Everything that answers, most exact paths first: the dashboard has the root.
fn mount(config: &mut ServiceConfig, served: Served, probes_apart: bool, pages: Pages) {
    if !probes_apart {
        mount_probes(config, &served);
    }
    if !served.role.serves() {
        return;
    }
    let Served { store, egress, authenticator, origins, public_url, portal_url, retention, signature_type, bodies, .. } =
        served.clone();
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
            bodies,
            origins,
        }))
        .configure(api::routes);
    mount_pages(config, &served, pages);
}

/// Pages for people.
fn mount_pages(config: &mut ServiceConfig, served: &Served, pages: Pages) {
    if !served.role.serves() {
        return;
    }
    let (public_url, routes): (_, fn(&mut ServiceConfig)) = match pages {
        Pages::All => (&served.public_url, dashboard::routes),
        Pages::Operators => (&served.public_url, dashboard::operators),
        Pages::Portal => (&served.portal_url, dashboard::customers),
    };
    config
        .app_data(Data::new(DashboardState {
            store: served.store.clone(),
            clock: Clock,
            egress: served.egress.clone(),
            public_url: public_url.clone(),
            portal_url: served.portal_url.clone(),
            api_url: served.public_url.clone(),
            frame_origins: served.frame_origins.clone(),
            signature_type: served.signature_type,
            disable_after: served.disable_after,
            secret: served.dashboard_secret,
            feeds: served.feeds.clone(),
            passwords: served.passwords.clone(),
            traffic: served.authenticator.traffic().clone(),
        }))
        .configure(routes);
}

/// The probes, which machines ask without a token.
fn mount_probes(config: &mut ServiceConfig, served: &Served) {
    let Served { store, draining, metrics, .. } = served;
    let probes = Probes { store: store.clone(), draining: draining.clone(), metrics: metrics.clone() };
    config.app_data(Data::new(probes)).configure(probes::routes);
}

async fn nothing_here() -> HttpResponse {
    HttpResponse::NotFound()
        .json(serde_json::json!({ "code": "not_found", "detail": "There is nothing at this path." }))
}
