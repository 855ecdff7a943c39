//! `sendoff serve`: the whole of it, until a signal.

use std::io::IsTerminal;

use super::{CliError, print_notice};
use crate::app::{self, App, Signals};
use crate::config::Config;
use crate::dashboard::sign_in::login;
use crate::domain::OrgId;
use crate::domain::time::Clock;

pub(super) async fn run(config: Config) -> Result<(), CliError> {
    // The port first: a second process on the same machine should not get as far as the database.
    let listeners = app::Listeners::open(&config.http)?;
    let opened = app::open(&config).await?;
    // Before anything is in flight: from here on a signal drains.
    let signals = Signals::listen()?;
    let app = App::start(&config, &opened, listeners)?;
    print_notice(&format!("Sendoff {} listens on {}", env!("CARGO_PKG_VERSION"), app.address));
    if let Some(address) = app.admin_address {
        print_notice(&format!("Probes and metrics: {address}"));
    }
    if let Some(address) = app.portal_address {
        print_notice(&format!("Portal: {address}"));
    }
    if config.role.serves() {
        // A link sees everything, and output that is no terminal may be kept where others read it.
        let shown = std::io::stdout().is_terminal() || !opened.store.any_operators().await?;
        let (address, how) = match shown {
            true => (
                login::new_link(&opened.store, &OrgId::default_org(), &app.public_url, Clock.now()).await?,
                "signs in once, within 15 minutes; `sendoff login-link` prints another",
            ),
            false => (
                app.public_url.to_string(),
                "sign in with an account; `sendoff login-link` prints a link that signs in once",
            ),
        };
        print_notice(&format!("Dashboard: {address}\n           ({how})"));
    }
    Ok(app.run(signals, || ()).await?)
}
