//! Startup and shutdown: builds everything from the configuration, starts it in order and stops it in order.
//!
//! * [`open`] returns an [`OpenStore`]: keys, database, process lock, current schema. [`open_existing`] does so beside
//!   a running process.
//! * [`App`] is the running process: engine and HTTP server, depending on the role.
//! * [`ShutdownSignals`] are the signals that end it. `key_files` and `open_files` manage key files and descriptors.
//!
//! Shutdown: not ready → no new connections → the engine drains → exit. A second signal skips the wait. After the loss
//! of an essential task the process stops the same way, within 5 s.
//!
//! # Invariants
//!
//! * The engine, the API and the dashboard never use each other; only `app` and `cli` see all three.
//! * Nothing here decides about deliveries, requests or pages.
//! * Ports are bound before the database is opened, so a second process fails early.

mod http;
mod key_files;
mod open_files;
mod open_store;
mod shutdown_signals;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use crate::api::Origins;
use crate::api::authn::authenticator::Authenticator;
use crate::config::{Config, ConfigError};
use crate::dashboard::TailFeeds;
use crate::dashboard::sign_in::oidc::provider::OidcProvider;
use crate::dashboard::sign_in::passwords::Passwords;
use crate::egress::smtp::Smtp;
use crate::egress::{Egress, EgressError};
use crate::engine::{Engine, EngineOptions, Mailer};
use crate::store::{Store, StoreError};
use crate::supervisor::{Component, Supervisor};
use crate::telemetry;
pub use http::Listeners;
pub use key_files::existing_token_key;
pub use open_store::{OpenStore, open, open_existing};
pub use shutdown_signals::ShutdownSignals;

/// Time beyond `SENDOFF_DRAIN`: the engine's last records, and the last uses of API keys.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);
/// Timeout for writing the last uses of API keys.
const KEY_USE_TIMEOUT: Duration = Duration::from_secs(6);
const METRICS_UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Time to stop after the loss of an essential task: less than the rest of any lease.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);
/// The share of `ABORT_TIMEOUT` for attempts in flight; the rest is for returning leases.
const ABORT_RECORD_TIMEOUT: Duration = Duration::from_secs(3);

/// Startup failed, or the process had to stop.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Setting(#[from] ConfigError),
    /// An obstacle on this machine, and its remedy.
    #[error("{0}")]
    Start(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// A part of the process ended unexpectedly.
    #[error("{0}")]
    Stopped(String),
    /// An essential task panicked or ended.
    #[error("internal error: the {0} was lost (see the log). Restart Sendoff; accepted events are safe")]
    Lost(&'static str),
    #[error("second signal: stopped without waiting for attempts in flight")]
    Interrupted,
}

/// The running process.
pub struct App {
    /// The API's URL.
    pub public_url: Url,
    pub dashboard_url: Url,
    pub address: std::net::SocketAddr,
    /// Address of the probes, if separate.
    pub admin_address: Option<std::net::SocketAddr>,
    /// Address of the dashboard, if separate.
    pub dashboard_address: Option<std::net::SocketAddr>,
    /// Address of the portal, if separate.
    pub portal_address: Option<std::net::SocketAddr>,
    draining: Arc<AtomicBool>,
    engine: Option<Engine>,
    supervisor: Supervisor,
    store: Store,
    authenticator: Authenticator,
    feeds: TailFeeds,
    handle: ServerHandle,
    server: JoinHandle<std::io::Result<()>>,
    drain: Duration,
}

impl App {
    /// Starts the engine and the HTTP server, as the role requires, on bound ports.
    ///
    /// # Errors
    /// The HTTP client or server can't be set up.
    pub fn start(config: &Config, opened: &OpenStore, listeners: Listeners) -> Result<App, AppError> {
        config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let connections = open_files::raise_limit(config.delivery.settings.max_in_flight);
        let failed = |error: std::io::Error| AppError::Start(format!("can't serve HTTP: {error}"));
        let http::ListenAddresses {
            main: address,
            admin: admin_address,
            dashboard: dashboard_address,
            portal: portal_address,
        } = listeners.addresses().map_err(failed)?;
        let named = |url: Result<Url, url::ParseError>| url.map_err(|error| AppError::Start(error.to_string()));
        let public_url = named(config.http.public_url(address))?;
        let dashboard_url = named(config.http.dashboard_url(address, dashboard_address))?;
        let portal_url = match portal_address {
            Some(address) => named(config.http.portal_url(address))?,
            None => public_url.clone(),
        };
        let egress = Egress::with(config.egress.clone())?;
        let draining = Arc::new(AtomicBool::new(false));
        let feeds = TailFeeds::default();
        let authenticator = Authenticator::new(opened.store.clone(), opened.tokens.clone(), config.http.traffic());
        let services = http::HttpServices {
            role: config.role,
            store: opened.store.clone(),
            egress: egress.clone(),
            authenticator: authenticator.clone(),
            origins: config.http.cors_origins.clone().map_or(Origins::Any, Origins::These),
            public_url: public_url.clone(),
            dashboard_url: dashboard_url.clone(),
            portal_url,
            frame_origins: config.http.frame_origins.clone(),
            disable_after: config.delivery.settings.disable_after,
            retention: config.store.retention,
            signature_type: config.delivery.signature_type,
            dashboard_secret: opened.dashboard_secret,
            feeds: feeds.clone(),
            passwords: Passwords::default(),
            oidc: config.sign_in.oidc.clone().map(OidcProvider::new).transpose()?.map(Arc::new),
            require_totp: config.sign_in.require_totp,
            draining: draining.clone(),
            metrics: metrics(opened.store.supervisor())?,
        };
        let server = http::server(services, listeners, connections, config.delivery.settings.drain).map_err(failed)?;
        let engine = match config.role.sends() {
            true => Some(Engine::start(opened.store.clone(), egress, engine_options(config, dashboard_url.clone())?)),
            false => None,
        };
        tracing::info!(%address, role = ?config.role, store = opened.store.kind(), "Sendoff {} serves", env!("CARGO_PKG_VERSION"));
        Ok(App {
            public_url,
            dashboard_url,
            address,
            admin_address,
            dashboard_address,
            portal_address,
            draining,
            engine,
            supervisor: opened.store.supervisor().clone(),
            store: opened.store.clone(),
            authenticator,
            feeds,
            handle: server.handle(),
            server: tokio::spawn(server),
            drain: config.delivery.settings.drain,
        })
    }

    /// Runs until a signal, then drains. Calls `stopping` at the signal.
    ///
    /// # Errors
    /// The HTTP server ended, an essential task was lost, or a second signal arrived.
    pub async fn run(mut self, mut signals: ShutdownSignals, stopping: impl FnOnce()) -> Result<(), AppError> {
        let supervisor = self.supervisor.clone();
        tokio::select! {
            () = signals.next() => {}
            lost = supervisor.down() => {
                stopping();
                // Attempts in flight may still be recorded; nothing else is waited for.
                let _ = timeout(ABORT_TIMEOUT, self.abort()).await;
                return Err(AppError::Lost(lost.word()));
            }
            ended = &mut self.server => {
                let why = match ended {
                    Ok(Ok(())) => "without a reason".to_owned(),
                    Ok(Err(error)) => error.to_string(),
                    Err(error) => error.to_string(),
                };
                return Err(AppError::Stopped(format!("the HTTP server ended: {why}")));
            }
        }
        stopping();
        tokio::select! {
            () = self.shut_down() => Ok(()),
            lost = supervisor.down() => Err(AppError::Lost(lost.word())),
            () = signals.next() => Err(AppError::Interrupted),
        }
    }

    async fn abort(self) {
        self.draining.store(true, Ordering::Release);
        self.feeds.close();
        self.store.close_feed_listeners();
        let engine = async {
            if let Some(engine) = self.engine {
                engine.give_up(ABORT_RECORD_TIMEOUT).await;
            }
        };
        tokio::join!(self.handle.stop(true), engine);
    }

    async fn shut_down(self) {
        tracing::info!(drain = ?self.drain, "stopping: finishing and recording attempts in flight");
        let until = Instant::now() + self.drain;
        self.draining.store(true, Ordering::Release);
        // The server waits for open responses: live tails never end by themselves, and long polls may still wait.
        self.feeds.close();
        self.store.close_feed_listeners();
        let engine = async {
            if let Some(engine) = self.engine
                && timeout_at(until + SHUTDOWN_GRACE, engine.shut_down()).await.is_err()
            {
                tracing::warn!("the drain timed out: attempts in flight will be sent twice");
            }
        };
        tokio::join!(self.handle.stop(true), engine);
        let last = until.max(Instant::now() + SHUTDOWN_GRACE);
        match timeout_at(last.min(Instant::now() + KEY_USE_TIMEOUT), self.authenticator.write_key_usage()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "could not write the last uses of API keys"),
            Err(_) => tracing::warn!("could not write the last uses of API keys: the store timed out"),
        }
        tracing::info!("stopped");
    }
}

fn engine_options(config: &Config, dashboard_url: Url) -> Result<EngineOptions, AppError> {
    let mail = config.mail.as_ref().map(|mail| Smtp::new(&mail.url, mail.from.clone())).transpose();
    let mail = mail.map_err(|error| AppError::Start(error.to_string()))?;
    Ok(EngineOptions {
        delivery: config.delivery.settings.clone(),
        retention: config.store.retention,
        deleted_retention: config.store.deleted_retention,
        process: format!("{}:{}", rustix::system::uname().nodename().to_string_lossy(), std::process::id()),
        dashboard_url,
        mail: mail.map(|smtp| Mailer { smtp, portal_url: config.http.portal_link().cloned() }),
    })
}

/// Sets up `/metrics`.
fn metrics(supervisor: &Supervisor) -> Result<http::RenderMetrics, AppError> {
    let handle = telemetry::count().map_err(|error| AppError::Start(format!("can't set up metrics: {error}")))?;
    let upkeep = handle.clone();
    supervisor.restarting(Component::Metrics, move || {
        let upkeep = upkeep.clone();
        async move {
            let mut interval = tokio::time::interval(METRICS_UPKEEP_INTERVAL);
            loop {
                interval.tick().await;
                upkeep.run_upkeep();
            }
        }
    });
    Ok(Arc::new(move || {
        telemetry::count_dropped_lines();
        handle.render()
    }))
}
