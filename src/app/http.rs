//! The HTTP server: one port for the probes, the REST API and the dashboard.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::available_parallelism;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{App, HttpResponse, HttpServer};
use tokio::net::TcpSocket;
use url::Url;

use super::AppError;
use crate::api::callers::Callers;
use crate::api::probes::{self, Probes};
use crate::api::{self, ApiState, BodyBudget};
use crate::config::Role;
use crate::dashboard::passwords::Passwords;
use crate::dashboard::{self, DashboardState, Feeds};
use crate::domain::time::Clock;
use crate::egress::Egress;
use crate::store::Store;

/// How many connections the system keeps for us while all workers are busy.
const BACKLOG: u32 = 2_048;
/// Longer than the idle time of proxies and clients in common use (60 s): they close, so no request meets a closing connection.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// For the head of a request.
const HEAD: Duration = Duration::from_secs(10);

/// Renders the metrics.
pub(super) type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// What is served.
#[derive(Clone)]
pub(super) struct Served {
    pub role: Role,
    pub store: Store,
    pub egress: Egress,
    pub callers: Callers,
    pub public_url: Url,
    pub frame_origins: Vec<String>,
    pub disable_after: Duration,
    pub dashboard_secret: [u8; 32],
    pub feeds: Feeds,
    pub passwords: Passwords,
    pub bodies: BodyBudget,
    pub draining: Arc<AtomicBool>,
    pub metrics: Render,
}

/// Opens the port.
///
/// # Errors
/// Somebody else has it, or it is not ours to take.
pub fn listen(address: SocketAddr) -> Result<TcpListener, AppError> {
    let open = || -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // What the process before left in TIME_WAIT is no reason to wait.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)?.into_std()
    };
    open().map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => AppError::Start(format!(
            "{address} is in use by another process: stop that one, or set SENDOFF_LISTEN to another port"
        )),
        _ => AppError::Start(format!("can't listen on {address} (SENDOFF_LISTEN): {error}")),
    })
}

/// Sets the server up; it begins when it is polled.
pub(super) fn server(served: Served, listener: TcpListener, drain: Duration) -> io::Result<Server> {
    let workers = available_parallelism().map_or(2, usize::from).max(2);
    let server = HttpServer::new(move || {
        let served = served.clone();
        App::new().configure(|config| mount(config, served)).default_service(web::to(nothing_here))
    });
    let server = server
        .workers(workers)
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(HEAD)
        .shutdown_timeout(drain.as_secs().max(1))
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

/// Everything that answers, most exact paths first: the dashboard has the root.
fn mount(config: &mut ServiceConfig, served: Served) {
    let Served {
        role,
        store,
        egress,
        callers,
        public_url,
        frame_origins,
        disable_after,
        dashboard_secret,
        feeds,
        passwords,
        bodies,
        draining,
        metrics,
    } = served;
    config.app_data(Data::new(Probes { store: store.clone(), draining, metrics })).configure(probes::routes);
    if !role.serves() {
        return;
    }
    config
        .app_data(Data::new(ApiState {
            store: store.clone(),
            egress: egress.clone(),
            callers,
            public_url: public_url.clone(),
            clock: Clock,
            bodies,
        }))
        .configure(api::routes)
        .app_data(Data::new(DashboardState {
            store,
            clock: Clock,
            egress,
            public_url,
            frame_origins,
            disable_after,
            secret: dashboard_secret,
            feeds,
            passwords,
        }))
        .configure(dashboard::routes);
}

async fn nothing_here() -> HttpResponse {
    HttpResponse::NotFound()
        .json(serde_json::json!({ "code": "not_found", "detail": "There is nothing at this path." }))
}
