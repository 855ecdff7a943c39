//! `sendoff serve`: runs until a signal.

use std::io::IsTerminal;

use super::{CliError, print_notice};
use crate::app::{self, App, ShutdownSignals};
use crate::config::Config;
use crate::dashboard::sign_in::login;
use crate::domain::OrgId;
use crate::domain::time::Clock;

pub(super) async fn run(config: Config) -> Result<(), CliError> {
    // Open the ports first: a second process on this machine must fail before it touches the database.
    let listeners = app::Listeners::open(&config.http)?;
    let opened = app::open(&config).await?;
    // From here on, a signal drains.
    let signals = ShutdownSignals::listen()?;
    let app = App::start(&config, &opened, listeners)?;
    print_notice(&format!("Sendoff {} listens on {}", env!("CARGO_PKG_VERSION"), app.address));
    if let Some(address) = app.admin_address {
        print_notice(&format!("Probes and metrics: {address}"));
    }
    if let Some(address) = app.dashboard_address {
        print_notice(&format!("Dashboard port: {address}"));
    }
    if let Some(address) = app.portal_address {
        print_notice(&format!("Portal: {address}"));
    }
    if config.role.serves() {
        // The link grants full access, and output that is not a terminal may end up in a log.
        let shown = std::io::stdout().is_terminal() || !opened.store.any_operators().await?;
        let (address, how) = match shown {
            true => (
                login::new_link(&opened.store, &OrgId::default_org(), &app.dashboard_url, Clock.now()).await?,
                "valid once, for 15 minutes; `sendoff login-link` prints another",
            ),
            false => (
                app.dashboard_url.to_string(),
                "sign in with an account, or print a one-time link with `sendoff login-link`",
            ),
        };
        print_notice(&format!("Dashboard: {address}\n           ({how})"));
    }
    Ok(app.run(signals, || ()).await?)
}
