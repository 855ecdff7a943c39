//! `sendoff login-link`: prints a one-time link that signs an operator in. Works beside a running `serve`, on its
//! database.

use super::{CliError, print_result};
use crate::app::{self, AppError};
use crate::config::Config;
use crate::dashboard::sign_in::login;
use crate::domain::OrgId;
use crate::domain::time::Clock;

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Organization to show first
    #[arg(long, value_name = "ORG", default_value = "org_default")]
    org: OrgId,
}

pub(super) async fn run(config: Config, options: Options) -> Result<(), CliError> {
    let opened = app::open_existing(&config).await?;
    let url = config.http.dashboard_url(config.http.listen, config.http.dashboard_listen);
    let url = url.map_err(|error| AppError::Start(format!("the dashboard's URL: {error}")))?;
    print_result(&login::new_link(&opened.store, &options.org, &url, Clock.now()).await?);
    Ok(())
}
