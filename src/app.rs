//! The only wiring: what is built from the settings, in which order it starts, and in which it stops.
//!
//! * [`open`] makes an [`Opened`] store: keys, database, lock, schema.
//! * [`App::start`] puts engine and HTTP server on it, as far as the role asks for them.
//! * [`App::run`] lasts until a signal. Then: unready → no more connections → the engine drains → the end. A second signal does
//!   not wait for any of that. A process that lost an essential task goes the same way, within 5 s.

mod http;
mod keys;
mod limits;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use crate::api::authn::authenticator::Authenticator;
use crate::api::authn::jwt::Tokens;
use crate::api::{BodyBudget, Origins};
use crate::config::{Config, ConfigError};
use crate::dashboard::Feeds;
use crate::dashboard::sign_in::passwords::Passwords;
use crate::egress::smtp::Smtp;
use crate::egress::{Egress, EgressError};
use crate::engine::{Engine, EngineOptions, Mailer};
use crate::store::{Location, Store, StoreError, StoreOptions, WIDE};
use crate::supervisor::{SupervisedTask, Supervisor};
use crate::telemetry;
pub use http::Listeners;
pub use keys::known_token_key;

/// How many messages may wait to be stored before callers are turned away with 503.
const QUEUE: usize = 16_384;
/// How much longer than `SENDOFF_DRAIN` a shutdown may take: the engine's goodbye, and the last things to be written down, if the store
/// takes them at once.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long writing down the last uses of API keys may take.
const USES: Duration = Duration::from_secs(6);
const UPKEEP: Duration = Duration::from_secs(5);
/// How long a process that lost an essential task takes to finish what it still can: less than the rest of any lease that it relies on.
const GIVE_UP: Duration = Duration::from_secs(5);
/// How much of that is for what is in flight; the rest is for handing back the slots.
const LAST_RECORDS: Duration = Duration::from_secs(3);

/// Why there is nothing running (any more).
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A setting is wrong.
    #[error(transparent)]
    Setting(#[from] ConfigError),
    /// Something of this machine is in the way; the sentence says what to do.
    #[error("{0}")]
    Start(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// A part that should have gone on has stopped.
    #[error("{0}")]
    Stopped(String),
    /// A task that the process cannot do without has panicked or ended.
    #[error("an internal error: the {0} was lost, see the log. Start Sendoff again; nothing that was accepted is lost")]
    Lost(&'static str),
    /// A second signal.
    #[error("a second signal: stopped without waiting for what is in flight")]
    Interrupted,
}

/// A store that is ready to be worked on, and the keys that go with it.
pub struct Opened {
    pub store: Store,
    pub tokens: Tokens,
    /// Keys what the dashboard signs for itself.
    dashboard_secret: [u8; 32],
}

/// Opens the store as the one who serves it: keys, database, lock, schema.
///
/// # Errors
/// A key or database that can't be used; another process that serves the file; a schema newer than this binary.
pub async fn open(config: &Config) -> Result<Opened, AppError> {
    // Before keys are made, which would lie beside it.
    if let Location::Sqlite(path) = &config.store.location {
        check_folder(path)?;
        check_file(path)?;
    }
    let keys = keys::keys(&config.keys, &config.store.location)?;
    let made = keys.made_master.clone();
    let opened = connect(config, keys).await?;
    opened.store.lock()?;
    opened.store.migrate().await.map_err(|error| match (&error, made) {
        // A new key for an old database would only hide that the right one is missing.
        (StoreError::Sealed(_), Some(file)) => {
            let _ = std::fs::remove_file(&file);
            AppError::Start(format!(
                "the master key {} is missing: put it back beside the database, or set SENDOFF_MASTER_KEY",
                file.display()
            ))
        }
        _ => error.into(),
    })?;
    Ok(opened)
}

/// Opens a store that somebody else may be serving, without changing its schema.
///
/// # Errors
/// There is none, it can't be reached, or its schema is not this binary's.
pub async fn visit(config: &Config) -> Result<Opened, AppError> {
    expect_database(&config.store.location)?;
    let opened = connect(config, keys::keys(&config.keys, &config.store.location)?).await?;
    opened.store.ready().await?;
    Ok(opened)
}

/// That there is a database already, as far as that can be seen from its file.
fn expect_database(location: &Location) -> Result<(), AppError> {
    match location {
        Location::Sqlite(path) if !path.exists() => {
            let path = path.display();
            let why = format!("there is no database {path} yet: `sendoff serve` makes it at its first start");
            Err(AppError::Start(why))
        }
        _ => Ok(()),
    }
}

async fn connect(config: &Config, keys: keys::Keys) -> Result<Opened, AppError> {
    // Not of the tokens' key, which may be a public one.
    let dashboard_secret = keys.master.derived(b"sendoff dashboard");
    let options = StoreOptions {
        location: config.store.location.clone(),
        master: keys.master,
        max_payload: config.store.max_payload,
        queue: QUEUE,
        wide: WIDE,
    };
    let store = Store::open_with(options, config.store.tuning).await?;
    store.limit_endpoints(config.store.max_endpoints);
    Ok(Opened { store, tokens: Tokens::with_key(&keys.tokens), dashboard_secret })
}

/// SQLite says "unable to open database file" of a folder that is missing; this says which.
fn check_folder(file: &Path) -> Result<(), AppError> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.is_dir()) {
        Some(folder) => Err(AppError::Start(format!(
            "there is no folder {} for the database (SENDOFF_DATABASE_URL): make it first",
            folder.display()
        ))),
        None => Ok(()),
    }
}

/// A file that is no SQLite database is somebody's, and no key belongs beside it.
fn check_file(file: &Path) -> Result<(), AppError> {
    const HEADER: &[u8] = b"SQLite format 3\0";
    let mut head = Vec::new();
    let read = File::open(file).and_then(|file| file.take(HEADER.len() as u64).read_to_end(&mut head));
    match read {
        // Not there yet, or not to be read: opening it says more.
        Err(_) => Ok(()),
        // SQLite makes an empty file before it writes to it.
        Ok(_) if head.is_empty() || head == HEADER => Ok(()),
        Ok(_) => Err(AppError::Start(format!(
            "{} is not an SQLite database (SENDOFF_DATABASE_URL): name another file, or move this one away",
            file.display()
        ))),
    }
}

/// SIGTERM, SIGINT and SIGHUP, which from then on no longer end the process by themselves; nor do SIGUSR1, SIGUSR2 and SIGALRM, which mean
/// nothing.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// `None` where whoever started us wants it ignored, as `nohup` does.
    hangup: Option<Signal>,
    _ignored: [Signal; 3],
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// The system does not let us.
    pub fn listen() -> Result<Signals, AppError> {
        let on = |kind| signal(kind).map_err(|error| AppError::Start(format!("can't wait for signals: {error}")));
        let hangup = (!ignores_hangup()).then(|| on(SignalKind::hangup())).transpose()?;
        let [one, two, alarm] = [SignalKind::user_defined1(), SignalKind::user_defined2(), SignalKind::alarm()].map(on);
        let _ignored = [one?, two?, alarm?];
        Ok(Signals {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hangup,
            _ignored,
        })
    }

    /// Waits for the next of them.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = async { self.hangup.as_mut()?.recv().await }, if self.hangup.is_some() => {}
        }
    }
}

/// Whether this process was started with SIGHUP ignored, by the system's own account.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    // The lowest bit is signal 1.
    mask.is_some_and(|mask| mask & 1 == 1)
}

/// What runs.
pub struct App {
    pub public_url: Url,
    pub address: std::net::SocketAddr,
    /// Where the probes are, if not there.
    pub admin_address: Option<std::net::SocketAddr>,
    /// Where the portal is, if not there.
    pub portal_address: Option<std::net::SocketAddr>,
    draining: Arc<AtomicBool>,
    engine: Option<Engine>,
    supervisor: Supervisor,
    store: Store,
    authenticator: Authenticator,
    feeds: Feeds,
    handle: ServerHandle,
    server: JoinHandle<std::io::Result<()>>,
    drain: Duration,
}

impl App {
    /// Starts the engine and the HTTP server, as far as the role asks for them, on ports that are open already.
    ///
    /// # Errors
    /// The HTTP client or server can't be set up.
    pub fn start(config: &Config, opened: &Opened, listeners: Listeners) -> Result<App, AppError> {
        config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let connections = limits::make_room(config.delivery.max_in_flight);
        let failed = |error: std::io::Error| AppError::Start(format!("can't serve HTTP: {error}"));
        let http::Addresses { main: address, admin: admin_address, portal: portal_address } =
            listeners.addresses().map_err(failed)?;
        let named = |url: Result<Url, url::ParseError>| url.map_err(|error| AppError::Start(error.to_string()));
        let public_url = named(config.http.public_url(address))?;
        let portal_url = match portal_address {
            Some(address) => named(config.http.portal_url(address))?,
            None => public_url.clone(),
        };
        let egress = Egress::new(config.egress.clone())?;
        let draining = Arc::new(AtomicBool::new(false));
        let feeds = Feeds::default();
        let authenticator = Authenticator::new(opened.store.clone(), opened.tokens.clone(), config.http.traffic());
        let served = http::Served {
            role: config.role,
            store: opened.store.clone(),
            egress: egress.clone(),
            authenticator: authenticator.clone(),
            origins: config.http.cors_origins.clone().map_or(Origins::Any, Origins::These),
            public_url: public_url.clone(),
            portal_url,
            frame_origins: config.http.frame_origins.clone(),
            disable_after: config.delivery.disable_after,
            retention: config.store.retention,
            signature_type: config.delivery.signature_type,
            dashboard_secret: opened.dashboard_secret,
            feeds: feeds.clone(),
            passwords: Passwords::default(),
            bodies: BodyBudget::default(),
            draining: draining.clone(),
            metrics: metrics(opened.store.supervisor())?,
        };
        let server = http::server(served, listeners, connections, config.delivery.drain).map_err(failed)?;
        let engine = match config.role.sends() {
            true => Some(Engine::start(opened.store.clone(), egress, engine_options(config)?)),
            false => None,
        };
        tracing::info!(%address, role = ?config.role, store = opened.store.kind(), "Sendoff {} serves", env!("CARGO_PKG_VERSION"));
        Ok(App {
            public_url,
            address,
            admin_address,
            portal_address,
            draining,
            engine,
            supervisor: opened.store.supervisor().clone(),
            store: opened.store.clone(),
            authenticator,
            feeds,
            handle: server.handle(),
            server: tokio::spawn(server),
            drain: config.delivery.drain,
        })
    }

    /// Lasts until a signal, then drains. Calls `stopping` at the signal.
    ///
    /// # Errors
    /// The HTTP server ended by itself, an essential task was lost, or a second signal came.
    pub async fn run(mut self, mut signals: Signals, stopping: impl FnOnce()) -> Result<(), AppError> {
        let supervisor = self.supervisor.clone();
        tokio::select! {
            () = signals.next() => {}
            lost = supervisor.down() => {
                stopping();
                // Attempts in flight get a last chance to be recorded; nothing else is waited for.
                let _ = timeout(GIVE_UP, self.give_up()).await;
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

    async fn give_up(self) {
        self.draining.store(true, Ordering::Release);
        self.feeds.close();
        self.store.end_feed_waits();
        let engine = async {
            if let Some(engine) = self.engine {
                engine.give_up(LAST_RECORDS).await;
            }
        };
        tokio::join!(self.handle.stop(true), engine);
    }

    async fn shut_down(self) {
        tracing::info!(drain = ?self.drain, "stopping: what is in flight is finished and recorded");
        let until = Instant::now() + self.drain;
        self.draining.store(true, Ordering::Release);
        // The server waits for whoever is still reading; a live tail never ends by itself, and a poll may wait for a while.
        self.feeds.close();
        self.store.end_feed_waits();
        let engine = async {
            if let Some(engine) = self.engine
                && timeout_at(until + LAST_WORDS, engine.shut_down()).await.is_err()
            {
                tracing::warn!("the drain took too long: what was in flight will be sent a second time");
            }
        };
        tokio::join!(self.handle.stop(true), engine);
        let last = until.max(Instant::now() + LAST_WORDS);
        match timeout_at(last.min(Instant::now() + USES), self.authenticator.write_key_usage()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "when API keys were used last could not be written"),
            Err(_) => tracing::warn!("when API keys were used last could not be written: the store did not answer"),
        }
        tracing::info!("stopped");
    }
}

fn engine_options(config: &Config) -> Result<EngineOptions, AppError> {
    let mail = config.mail.as_ref().map(|mail| Smtp::new(&mail.url, mail.from.clone())).transpose();
    let mail = mail.map_err(|error| AppError::Start(error.to_string()))?;
    Ok(EngineOptions {
        schedule: config.delivery.schedule.clone(),
        timeout: config.delivery.timeout,
        max_in_flight: config.delivery.max_in_flight,
        endpoint_max_in_flight: config.delivery.endpoint_max_in_flight,
        drain: config.delivery.drain,
        disable_after: config.delivery.disable_after,
        retention: config.store.retention,
        deleted_retention: config.store.deleted_retention,
        process: format!("{}:{}", rustix::system::uname().nodename().to_string_lossy(), std::process::id()),
        mail: mail.map(|smtp| Mailer { smtp, portal_url: config.http.portal_link().cloned() }),
    })
}

/// What `/metrics` shows.
fn metrics(supervisor: &Supervisor) -> Result<http::Render, AppError> {
    let handle = telemetry::count().map_err(|error| AppError::Start(format!("can't count: {error}")))?;
    let tidied = handle.clone();
    supervisor.restarting(SupervisedTask::Metrics, move || {
        let tidied = tidied.clone();
        async move {
            let mut beat = tokio::time::interval(UPKEEP);
            loop {
                beat.tick().await;
                tidied.run_upkeep();
            }
        }
    });
    Ok(Arc::new(move || {
        telemetry::count_dropped_lines();
        handle.render()
    }))
}
