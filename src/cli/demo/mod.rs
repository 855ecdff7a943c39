//! `sendoff demo`: runs Sendoff on a temporary database, with customers whose receivers succeed and fail in different
//! ways. Come here to change the first impression of a new user.
//!
//! * [`customers`] defines the event types and customers, and [`receiver`] is the HTTP server behind their endpoints.
//! * [`history`] writes the past 30 days, so the dashboard has data from the start.
//! * [`shop`] produces live events, over REST and through the outbox.
//!
//! # Invariants
//!
//! * The demo connects to 127.0.0.1 only, and only to its own receiver.
//! * The temporary folder with the database is removed on every exit except a kill.

mod customers;
mod history;
mod receiver;
mod shop;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

use super::{CliError, print_notice, send};
use crate::app::{self, App, AppError, Listeners, OpenStore, ShutdownSignals};
use crate::config::{Config, Settings};
use crate::dashboard::sign_in::login;
use crate::domain::OrgId;
use crate::domain::signing::master_key::MasterKey;
use crate::domain::time::Clock;
use customers::Customer;
use receiver::DemoReceiver;
use shop::{EventCounters, Shop};

/// Short enough to watch. A configured schedule overrides it.
const RETRY_SCHEDULE: &str = "2s,5s,15s,30s";
/// Interval between printed counters.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// Ports to try after the default one if that is in use.
const MORE_PORTS: u16 = 10;
const DAY: Duration = Duration::from_secs(86_400);

pub(super) async fn run(settings: Settings) -> Result<(), CliError> {
    let start = Instant::now();
    // From here on, a signal shuts down cleanly, which removes the folder.
    let mut signals = ShutdownSignals::listen()?;
    let folder = tempfile::Builder::new()
        .prefix("sendoff-demo-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .map_err(|error| CliError::Failed(format!("can't create a temporary folder: {error}")))?;
    let setup = tokio::select! {
        setup = DemoSetup::prepare(settings, &folder) => setup?,
        () = signals.next() => return Ok(()),
    };
    let app = App::start(&setup.config, &setup.opened, setup.listener)?;
    let link = login::new_link(&setup.opened.store, &OrgId::default_org(), &app.dashboard_url, Clock.now()).await?;
    let token = setup
        .opened
        .tokens
        .mint_org(&OrgId::default_org(), Clock.now(), DAY)
        .map_err(|error| CliError::Failed(format!("can't sign a token: {error}")))?;
    print_greeting(&app, &link, &token, &setup.customers, &setup.receiver, setup.messages);

    let event_counters = Arc::new(EventCounters::default());
    let shop = Shop {
        base: own_url(&app)?,
        token,
        client: send::http_client()?,
        database: folder.path().join("sendoff.db"),
        customers: setup.customers.iter().map(|customer| customer.uid).collect(),
        event_counters: event_counters.clone(),
    };
    let shop = tokio::spawn(shop.run());
    let report = tokio::spawn(report(setup.receiver, event_counters, start));
    let done = app
        .run(signals, || {
            shop.abort();
            report.abort();
            print_notice("\nStopping after the attempts in flight. Press Ctrl-C again to stop at once.");
        })
        .await;
    if let Err(error) = folder.close() {
        tracing::warn!(%error, "the demo's folder could not be removed");
    }
    done?;
    print_notice("The demo's database is deleted.");
    Ok(())
}

/// The state that is prepared before the server starts.
struct DemoSetup {
    config: Config,
    listener: Listeners,
    opened: OpenStore,
    receiver: DemoReceiver,
    customers: Vec<Customer>,
    messages: usize,
}

impl DemoSetup {
    async fn prepare(mut settings: Settings, folder: &TempDir) -> Result<DemoSetup, CliError> {
        let usual_port = !settings.is_set("listen");
        settings.override_with("database_url", format!("sqlite:{}", folder.path().join("sendoff.db").display()));
        settings.override_with("jwt_algorithm", "HS256");
        settings.override_with("jwt_secret", MasterKey::generate().text().as_str());
        settings.override_with("master_key", MasterKey::generate().text().as_str());
        settings.override_with("role", "all");
        // The narrowest network that contains the receiver.
        settings.override_with("egress_allow", "127.0.0.1/32");
        settings.override_with("https_only", "false");
        if !settings.is_set("retry_schedule") {
            settings.override_with("retry_schedule", RETRY_SCHEDULE);
        }
        if !settings.is_set("log") {
            settings.override_with("log", "warn");
        }
        let config = super::load_config(&settings)?;
        let listener = if usual_port { listen_nearby(&config)? } else { Listeners::single(config.http.listen)? };
        let receiver = DemoReceiver::start()
            .await
            .map_err(|error| CliError::Failed(format!("the demo's receiver can't listen: {error}")))?;
        let opened = app::open(&config).await?;
        let now = Clock.now();
        let customers = customers::create(&opened.store, &receiver, now.minus(history::SPAN)).await?;
        let messages = history::write(&opened.store, &customers, &config.delivery.settings.schedule, now).await?;
        Ok(DemoSetup { config, listener, opened, receiver, customers, messages })
    }
}

/// Listens on the default port, or on a following one if it is in use.
fn listen_nearby(config: &Config) -> Result<Listeners, AppError> {
    let mut address = config.http.listen;
    let first = Listeners::single(address);
    for port in (address.port()..).skip(1).take(MORE_PORTS.into()) {
        if first.is_ok() {
            break;
        }
        address.set_port(port);
        if let Ok(listener) = Listeners::single(address) {
            return Ok(listener);
        }
    }
    first
}

/// The URL at which this process reaches itself, regardless of the public URL.
fn own_url(app: &App) -> Result<url::Url, CliError> {
    let mut address = app.address;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    url::Url::parse(&format!("http://{address}/")).map_err(|error| CliError::Failed(error.to_string()))
}

fn print_greeting(
    app: &App,
    link: &str,
    token: &str,
    customers: &[Customer],
    receiver: &DemoReceiver,
    messages: usize,
) {
    print_notice(&format!(
        "Sendoff {} demo. Press Ctrl-C to stop; the database is deleted.\n",
        env!("CARGO_PKG_VERSION")
    ));
    print_notice(&format!("  Dashboard  {link}\n             (valid once, for 15 minutes)"));
    print_notice(&format!("  REST API   {}api/v1/, with the token\n             {token}", app.public_url));
    for (number, customer) in customers.iter().enumerate() {
        let title = if number == 0 { "Customers" } else { "" };
        let endpoints: Vec<&str> =
            customer.endpoints.iter().map(|demo_endpoint| demo_endpoint.endpoint.spec.description.as_str()).collect();
        print_notice(&format!("  {title:<9}  {:<14} {}", customer.app.name, endpoints.join(", ")));
    }
    print_notice(&format!(
        "  Receiver   {}, in this process; 127.0.0.1/32 is the only private network that endpoints may use",
        receiver.address
    ));
    print_notice(&format!(
        "  History    {messages} messages from the last 30 days; about {} new ones per minute\n",
        60 / shop::EVENT_INTERVAL.as_secs()
    ));
}

/// Prints the time of the first delivery, then the counters periodically.
async fn report(receiver: DemoReceiver, event_counters: Arc<EventCounters>, start: Instant) {
    let counters = &receiver.counters;
    counters.first.notified().await;
    print_notice(&format!("First delivery after {:.1} s.", start.elapsed().as_secs_f64()));
    loop {
        tokio::time::sleep(REPORT_INTERVAL).await;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let failed = match count(&event_counters.failed) {
            0 => String::new(),
            failed => format!(" ({failed} could not be sent)"),
        };
        print_notice(&format!(
            "{:>4} s  in: {} over REST, {} through the outbox{failed} · out: {} requests, {} delivered · signatures: {} bad",
            start.elapsed().as_secs(),
            count(&event_counters.rest),
            count(&event_counters.outbox),
            count(&counters.requests),
            count(&counters.delivered),
            count(&counters.bad_signatures),
        ));
    }
}
