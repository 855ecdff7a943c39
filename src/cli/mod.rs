//! The command line, one file per command. Come here to add a command, a flag or an exit code.
//!
//! * [`Cli`] is the parsed command line and [`Command`] one subcommand; each file declares its own arguments.
//! * Settings are global flags, generated from [`SETTINGS`].
//! * Exit codes: 0 success, 1 failure, 2 invalid usage or setting, 70 `serve` lost an essential task.
//!
//! # Invariants
//!
//! * Standard output carries only the requested result (a token, a key, a link); notices and errors go to standard
//!   error.
//! * An error is one line, and never quotes a secret.
//! * No command changes the database schema except `serve`, `demo` and `migrate`.

mod catalog_command;
mod demo;
mod development;
mod key;
mod login_link;
mod master_key;
mod migrate;
mod relay;
mod send;
mod serve;
mod token;
mod verify;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::app::AppError;
use crate::config::settings::{SETTINGS, unknown_variables};
use crate::config::{Config, ConfigError, Settings, parsers};

/// Exit code after an essential task was lost: `EX_SOFTWARE` of sysexits.h.
const EXIT_SOFTWARE: u8 = 70;

/// Deliver events as signed webhooks, from a REST API or an outbox table to your customers' endpoints
#[derive(Debug, Parser)]
#[command(name = "sendoff", version, subcommand_required = true, arg_required_else_help = true)]
#[command(
    after_help = "Every setting is also an environment variable (SENDOFF_MAX_PAYLOAD for --max-payload) and a key in the \
    TOML file named by --config (max_payload). Flags override the environment, which overrides the file."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the REST API, the dashboard and the delivery engine
    Serve,
    /// Run Sendoff on a temporary database with sample customers, history and traffic
    Demo,
    /// Print a bearer token for the REST API
    Token(token::Options),
    /// Create, list and revoke API keys
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Import event types from an OpenAPI document
    #[command(subcommand)]
    EventTypes(catalog_command::EventTypesCommand),
    /// Change the key that encrypts endpoint secrets
    #[command(subcommand)]
    MasterKey(master_key::MasterKeyCommand),
    /// Print a one-time link that signs an operator in to the dashboard
    LoginLink(login_link::Options),
    /// Update the database schema to this version
    Migrate,
    /// Send one message through the REST API of a running Sendoff
    Send(send::Options),
    /// Forward an application's events to a local program, signed like real deliveries
    Listen(development::listen::Options),
    /// Send the example payload of an event type to an application
    Trigger(development::trigger::Options),
    /// Print an application's attempts as they are recorded
    Tail(development::tail::Options),
    /// Send the rows of an outbox table in another database to a running Sendoff
    Relay(relay::Options),
    /// Prepare another database for `sendoff relay`
    #[command(subcommand)]
    Outbox(relay::ddl::OutboxCommand),
    /// Verify a signature as a receiver would, reading the body from standard input
    Verify(verify::Options),
    /// Print the version
    Version,
}

/// A command failed.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// The command line or a setting is invalid.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    App(#[from] AppError),
    #[error("{0}")]
    Failed(String),
}

impl From<ConfigError> for CliError {
    fn from(fault: ConfigError) -> CliError {
        CliError::App(fault.into())
    }
}

impl From<crate::store::StoreError> for CliError {
    fn from(error: crate::store::StoreError) -> CliError {
        CliError::App(error.into())
    }
}

/// Runs the command given by `arguments`, which start with the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let code = run_command(arguments);
    crate::telemetry::flush();
    code
}

fn run_command(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let flags = SETTINGS.iter().map(|setting| {
        let default = setting.default.filter(|default| !default.is_empty());
        let default = default.map(|default| format!(" [{default}]")).unwrap_or_default();
        let flag = Arg::new(setting.name)
            .long(setting.flag())
            .value_name("VALUE")
            .help(format!("{}{default}", setting.help))
            .help_heading("Settings")
            .global(true);
        // A boolean flag needs no value.
        if setting.form == "true or false" { flag.num_args(0..=1).default_missing_value("true") } else { flag }
    });
    let matches = match Cli::command().args(flags).try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return usage_error(&error),
    };
    let done = Cli::from_arg_matches(&matches).map_err(|error| CliError::Usage(one_line(&error)));
    match done.and_then(|line| dispatch(line.command, &matches)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Error sources may contain line breaks.
            print_stderr(&error.to_string().split_whitespace().collect::<Vec<_>>().join(" "));
            ExitCode::from(match error {
                CliError::Usage(_) | CliError::App(AppError::Setting(_)) => 2,
                CliError::App(AppError::Lost(_)) => EXIT_SOFTWARE,
                CliError::App(_) | CliError::Failed(_) => 1,
            })
        }
    }
}

fn dispatch(command: Command, matches: &ArgMatches) -> Result<(), CliError> {
    // These commands need no settings, so an invalid setting must not stop them.
    match command {
        Command::Verify(options) => return verify::run(&options),
        Command::Outbox(command) => {
            relay::ddl::run(&command);
            return Ok(());
        }
        Command::Version => {
            print_result(concat!("sendoff ", env!("CARGO_PKG_VERSION")));
            return Ok(());
        }
        _ => {}
    }
    let settings = Settings::from_sources(
        |name| matches.get_one::<String>(name).cloned(),
        |variable| std::env::var_os(variable).map(|value| value.to_string_lossy().into_owned()),
    )?;
    match command {
        Command::Serve => in_runtime(serve::run(load_config(&settings)?)),
        Command::Demo => in_runtime(demo::run(settings)),
        Command::Token(options) => token::run(&load_config(&settings)?, &options),
        Command::Key(command) => in_runtime(key::run(load_config(&settings)?, command)),
        Command::EventTypes(command) => in_runtime(catalog_command::run(load_config(&settings)?, command)),
        Command::LoginLink(options) => in_runtime(login_link::run(load_config(&settings)?, options)),
        Command::MasterKey(command) => in_runtime(master_key::run(load_config(&settings)?, command)),
        Command::Migrate => in_runtime(migrate::run(load_config(&settings)?)),
        Command::Send(options) => in_runtime(send::run(load_config(&settings)?, options)),
        Command::Listen(options) => in_runtime(development::listen::run(load_config(&settings)?, options)),
        Command::Trigger(options) => in_runtime(development::trigger::run(load_config(&settings)?, options)),
        Command::Tail(options) => in_runtime(development::tail::run(load_config(&settings)?, options)),
        Command::Relay(options) => in_runtime(relay::run(load_config(&settings)?, options)),
        Command::Outbox(_) | Command::Verify(_) | Command::Version => Ok(()),
    }
}

/// Checks the settings and starts logging as configured.
fn load_config(settings: &Settings) -> Result<Config, CliError> {
    let config = Config::new(settings)?;
    crate::telemetry::log(&config.log);
    let names: Vec<String> = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
    for name in unknown_variables(names.iter().map(String::as_str)) {
        tracing::warn!("{name} is not a setting of Sendoff; check its spelling");
    }
    Ok(config)
}

fn in_runtime(command: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    // At least two, even on one core: the engine and the writer must not wait for each other.
    let threads = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| CliError::Failed(format!("can't start threads: {error}")))?;
    let done = runtime.block_on(command);
    // Does not wait for blocked threads, such as a pending name lookup.
    runtime.shutdown_background();
    done
}

/// Prints help and version unchanged, and errors as one line.
fn usage_error(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(2)
        }
        _ => {
            print_stderr(&one_line(error));
            ExitCode::from(2)
        }
    }
}

/// A clap error without its paragraphs.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let said = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let said = said.collect::<Vec<_>>().join(" ");
    format!("{}; see `sendoff --help`", said.strip_prefix("error: ").unwrap_or(&said))
}

/// Parses the lifetime of a key or token.
fn parse_expiry(text: &str) -> Result<Duration, String> {
    const MAX: Duration = Duration::from_secs(36_500 * 86_400);
    let parse = parsers::span_within(Duration::from_secs(1), MAX);
    parse(text).map_err(|what| format!("{what}; expected 1s to 36500d, such as 90d"))
}

fn print_stderr(line: &str) {
    crate::telemetry::print_error(&format!("sendoff: {line}"));
}

/// Prints a command's result to standard output and waits for the reader. A closed pipe is not an error.
fn print_result(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints a server's notice to standard output without waiting for a slow reader.
fn print_notice(text: &str) {
    crate::telemetry::print(text);
}
