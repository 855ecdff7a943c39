//! `sendoff serve`: the whole of it, until a signal.

use super::{CliError, announce};
use crate::app::{self, App, Signals};
use crate::config::Config;
use crate::dashboard::login;
use crate::domain::OrgId;
use crate::domain::time::Clock;

pub(super) async fn run(config: Config) -> Result<(), CliError> {
    // The port first: a second process on the same machine should not get as far as the database.
    let listener = app::listen(config.http.listen)?;
    let opened = app::open(&config).await?;
    // Before anything is in flight: from here on a signal drains.
    let signals = Signals::listen()?;
    let app = App::start(&config, &opened, listener)?;
    announce(&format!("Sendoff {} listens on {}", env!("CARGO_PKG_VERSION"), app.address));
    if config.role.serves() {
        let link = login::new_link(&opened.store, &OrgId::default_org(), &app.public_url, Clock.now()).await?;
        announce(&format!(
            "Dashboard: {link}\n           (signs in once, within 15 minutes; `sendoff login-link` prints another)"
        ));
    }
    Ok(app.run(signals, || ()).await?)
}
