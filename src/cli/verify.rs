//! `sendoff verify`: checks a signature as a receiver would. For somebody whose own code says no, and who wants to know who is right.

use std::io::Read;
use std::time::Duration;

use super::{CliError, print_result};
use crate::config::values;
use crate::domain::signing::signature::{Signed, Verifier};
use crate::domain::time::Clock;

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The endpoint's secret (whsec_…) or public key (whpk_…)
    #[arg(long, value_name = "SECRET")]
    secret: String,
    /// The header webhook-id
    #[arg(long, value_name = "ID")]
    id: String,
    /// The header webhook-timestamp
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    timestamp: String,
    /// The header webhook-signature, as a whole
    #[arg(long, value_name = "SIGNATURES")]
    signature: String,
    /// How far the timestamp may be from now
    #[arg(long, value_name = "SPAN", default_value = "5m", value_parser = span)]
    tolerance: Duration,
}

fn span(text: &str) -> Result<Duration, String> {
    values::span(text).map_err(|what| format!("{what}; expected a span of time such as 5m"))
}

pub(super) fn run(options: &Options) -> Result<(), CliError> {
    let verifier = Verifier::parse("--secret", &options.secret).map_err(|wrong| CliError::Usage(wrong.to_string()))?;
    let mut body = Vec::new();
    std::io::stdin()
        .read_to_end(&mut body)
        .map_err(|error| CliError::Failed(format!("can't read the body from standard input: {error}")))?;
    let signed = Signed { id: &options.id, timestamp: &options.timestamp, signature: &options.signature };
    match verifier.verify(signed, &body, Clock.now(), options.tolerance) {
        Ok(()) => print_result(&format!("The signature is right, over {} bytes.", body.len())),
        Err(error) => {
            let bytes = body.len();
            return Err(CliError::Failed(format!("{error} (body: {bytes} bytes; a trailing newline counts)")));
        }
    }
    Ok(())
}
