//! The servers of a PostgreSQL URL, and failover to the one that accepts writes.
//!
//! * As in libpq, a URL may list a primary and its standbys (`postgres://user@a:5432,b:5432/product`).
//! * When statements fail because of the server, all servers are probed for the one that accepts writes. The pools
//!   connect to it and close their older sessions.
//! * A pooler in transaction mode is detected at startup and rejected, because it breaks session settings, LISTEN and
//!   prepared statements.

use std::path::Path;
use std::str::FromStr;
use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::time::timeout;
use url::Url;

use crate::store::db::postgres::sessions;
use crate::store::{Backend, Inner, StoreError};

/// Maximum servers in a URL.
const MOST: usize = 8;
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// Interval of checks whether statements failed because of the server.
const POLL: Duration = Duration::from_millis(250);
/// Slower statements are logged.
const SLOW: Duration = Duration::from_secs(5);
/// Probes of two connections to detect a pooler.
const ROUNDS: usize = 3;

/// The servers, in the order of the URL.
#[derive(Debug)]
pub(in crate::store) struct Servers {
    /// At least one.
    all: Vec<PgConnectOptions>,
    /// The index of the server in use.
    current: AtomicUsize,
}

impl Servers {
    /// Parses a URL.
    ///
    /// # Errors
    /// The end of a sentence about the URL. It quotes only names of parameters and files, never credentials.
    pub(in crate::store::db) fn parse(url: &str) -> Result<Servers, String> {
        let all: Result<Vec<PgConnectOptions>, String> = server_urls(url)?.iter().map(|url| options(url)).collect();
        Ok(Servers { all: all?, current: AtomicUsize::new(0) })
    }

    /// The options of the server in use.
    pub(in crate::store) fn current(&self) -> PgConnectOptions {
        self.all[self.current.load(Ordering::Relaxed)].clone()
    }

    pub(in crate::store) fn several(&self) -> bool {
        self.all.len() > 1
    }

    /// The names of all servers, for messages.
    pub(in crate::store::db) fn names(&self) -> String {
        let names: Vec<String> = self.all.iter().map(name).collect();
        names.join(" or ")
    }

    /// Probes all servers concurrently and selects the first that accepts writes, or else the first that answers.
    /// Returns whether it accepts writes.
    ///
    /// # Errors
    /// No server answers; the error of the last one.
    pub(in crate::store::db) async fn find(&self) -> Result<bool, sqlx::Error> {
        let probe = |(index, options): (usize, &PgConnectOptions)| {
            let options = options.clone();
            let timed_out = Err(sqlx::Error::PoolTimedOut);
            async move { (index, timeout(PROBE_TIMEOUT, accepts_writes(&options)).await.unwrap_or(timed_out)) }
        };
        let mut probes: FuturesUnordered<_> = self.all.iter().enumerate().map(probe).collect();
        let (mut reads, mut failed) = (None, sqlx::Error::PoolTimedOut);
        while let Some((index, result)) = probes.next().await {
            match result {
                Ok(true) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok(true);
                }
                Ok(false) => reads = reads.or(Some(index)),
                Err(error) => failed = error,
            }
        }
        self.current.store(reads.ok_or(failed)?, Ordering::Relaxed);
        Ok(false)
    }

    /// Detects a pooler in transaction mode, by the process ids of the sessions.
    ///
    /// # Errors
    /// Two connections share a session or a connection changes its session; or the server is unavailable.
    pub(in crate::store::db) async fn check_pooler(&self) -> Result<(), StoreError> {
        let options = self.current();
        let connect = async || timeout(PROBE_TIMEOUT, options.clone().disable_statement_logging().connect()).await;
        let Ok(first) = connect().await else { return Ok(()) };
        let mut first = first?;
        // A server that has no connection left is not behind a pooler in transaction mode.
        let Ok(Ok(mut second)) = connect().await else { return Ok(()) };
        let sessions = async {
            let mut seen = Vec::with_capacity(ROUNDS);
            for _ in 0..ROUNDS {
                seen.push([session(&mut first).await?, session(&mut second).await?]);
            }
            Ok::<_, sqlx::Error>(seen)
        };
        let Ok(seen) = timeout(PROBE_TIMEOUT, sessions).await else { return Ok(()) };
        let _ = tokio::join!(first.close(), second.close());
        if shared(&seen?) {
            return Err(StoreError::Unusable(format!(
                "{} is a pooler in transaction mode (pool_mode = transaction), and Sendoff needs sessions of its own: \
                 set pool_mode = session, or connect to PostgreSQL directly",
                name(&options)
            )));
        }
        Ok(())
    }
}

/// Whether sessions are shared, by the sessions of two connections in each round.
fn shared(seen: &[[i32; 2]]) -> bool {
    seen.iter().any(|[first, second]| first == second) || seen.windows(2).any(|pair| pair[0] != pair[1])
}

/// The process id of the session. Uses no prepared statement, which could belong to another session behind a pooler.
async fn session(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    use sqlx::Row;
    sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(connection).await?.try_get(0)
}

async fn accepts_writes(options: &PgConnectOptions) -> Result<bool, sqlx::Error> {
    use sqlx::Row;
    let mut connection = options.clone().disable_statement_logging().connect().await?;
    let row = sqlx::raw_sql("SHOW transaction_read_only").fetch_one(&mut connection).await?;
    let read_only: String = row.try_get(0)?;
    let _ = connection.close().await;
    Ok(read_only == "off")
}

/// A server's name in messages, without credentials.
pub(in crate::store::db) fn name(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(folder) => folder.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// Switches the pools to the new primary after a failover, until the store is dropped.
pub(in crate::store) async fn follow_primary(store: Weak<Inner>) {
    let mut handled = sessions::server_errors();
    loop {
        tokio::time::sleep(POLL).await;
        let Some(inner) = store.upgrade() else { return };
        let Backend::Postgres(backend) = &inner.backend else { return };
        let errors = sessions::server_errors();
        if errors == handled {
            continue;
        }
        let before = backend.servers.current.load(Ordering::Relaxed);
        if let Ok(true) = backend.servers.find().await {
            handled = errors;
            if backend.servers.current.load(Ordering::Relaxed) != before {
                let options = backend.servers.current();
                tracing::warn!("switched to PostgreSQL at {}, which accepts writes", name(&options));
                backend.front.set_connect_options(options.clone());
                backend.engine.set_connect_options(options);
                sessions::invalidate_older(Instant::now());
            }
        }
    }
}

/// A URL for each host of `url`.
fn server_urls(url: &str) -> Result<Vec<String>, String> {
    let malformed = || "is not a URL such as postgres://user:password@host/database".to_owned();
    let (scheme, rest) = url.split_once("://").ok_or_else(malformed)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
    let at = if user.is_empty() { "" } else { "@" };
    let hosts: Vec<&str> = hosts.split(',').collect();
    if hosts.len() > MOST {
        return Err(format!("names more than {MOST} hosts"));
    }
    if hosts.len() > 1 && hosts.iter().any(|host| host.is_empty()) {
        return Err(malformed());
    }
    Ok(hosts.iter().map(|host| format!("{scheme}://{user}{at}{host}{path}")).collect())
}

/// The connect options for the URL of one server.
fn options(url: &str) -> Result<PgConnectOptions, String> {
    let malformed = || "is not a URL such as postgres://user:password@host/database".to_owned();
    let mut url: Url = url.parse().map_err(|_| malformed())?;
    let mut parameters: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    for (name, value) in &parameters {
        match name.as_str() {
            "host" | "port" | "hostaddr" if value.contains(',') => {
                return Err(format!(
                    "lists several hosts in {name}=: list them before the database instead, as a:5432,b:5432"
                ));
            }
            "sslrootcert" | "sslcert" | "sslkey" if !value.starts_with("-----BEGIN") => {
                if let Err(error) = std::fs::File::open(Path::new(value)) {
                    return Err(format!("names a file for {name} that can't be read ({value}): {error}"));
                }
            }
            "target_session_attrs" if !["any", "read-write", "primary"].contains(&value.as_str()) => {
                return Err("asks for a read-only server (target_session_attrs), but Sendoff writes".to_owned());
            }
            _ => {}
        }
    }
    // Not needed: the server that accepts writes is always used.
    let all = parameters.len();
    parameters.retain(|(name, _)| name != "target_session_attrs");
    if parameters.len() < all {
        url.set_query(None);
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
    }
    // Poolers reject unknown startup parameters, and this one has no effect since PostgreSQL 12.
    let options = PgConnectOptions::from_str(url.as_str()).map_err(|_| malformed())?.extra_float_digits(None::<i8>);
    Ok(options.application_name("sendoff").log_slow_statements(tracing::log::LevelFilter::Warn, SLOW))
}

#[cfg(test)]
mod tests {
    use crate::store::db::postgres::servers::*;

    fn named(url: &str) -> Result<String, String> {
        Servers::parse(url).map(|servers| servers.names())
    }

    #[test]
    fn a_url_lists_one_server_or_several() {
        assert_eq!(named("postgres://me:p%40ss@a/db").as_deref(), Ok("a:5432"));
        assert_eq!(named("postgres://me@a:1,b,[::1]:3/db?sslmode=disable").as_deref(), Ok("a:1 or b:5432 or [::1]:3"));
        let servers =
            Servers::parse("postgresql://me@a:1,b:2/db?target_session_attrs=primary&sslmode=disable").unwrap();
        for options in &servers.all {
            assert_eq!((options.get_username(), options.get_database()), ("me", Some("db")));
        }
        for (wrong, why) in [
            ("postgres://me@a,,b/db", "not a URL"),
            ("postgres://me@a:x/db", "not a URL"),
            ("postgres://me@a,b,c,d,e,f,g,h,i/db", "more than 8"),
            ("postgres://me@a/db?host=a,b", "host="),
            ("postgres://me@a/db?target_session_attrs=standby", "writes"),
            ("postgres://me@a/db?sslmode=verify-full&sslrootcert=/none/such.pem", "/none/such.pem"),
        ] {
            let said = named(wrong).unwrap_err();
            assert!(said.contains(why), "{wrong}: {said}");
        }
    }

    #[test]
    fn shared_or_changing_sessions_reveal_a_pooler() {
        assert!(!shared(&[[1, 2], [1, 2], [1, 2]]));
        assert!(shared(&[[1, 1], [1, 1], [1, 1]]), "one session for both");
        assert!(shared(&[[1, 2], [2, 1], [1, 2]]), "swapped");
    }
}
