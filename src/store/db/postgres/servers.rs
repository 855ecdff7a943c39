//! The servers that a PostgreSQL URL names, and which of them is used: the one that takes writes.
//!
//! * A URL may name several (`postgres://user@a:5432,b:5432/product`), as libpq's do: a primary and those that may take its place.
//! * When statements fail because of the server, all of them are asked which one takes writes. The pools then connect there, and close
//!   their older sessions.
//! * A pooler that gives each transaction another session is found at the start and refused: settings of a session, LISTEN and prepared
//!   statements do not work behind it.

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
use crate::store::{Engine, Inner, StoreError};

/// How many servers a URL may name.
const MOST: usize = 8;
/// How long a server may take to say whether it takes writes.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often is looked whether statements failed because of the server.
const LOOK: Duration = Duration::from_millis(250);
/// A statement that takes longer is logged.
const SLOW: Duration = Duration::from_secs(5);
/// How often two connections are asked for their sessions to find a pooler.
const ROUNDS: usize = 3;

/// The servers, in the order of the URL.
#[derive(Debug)]
pub(in crate::store) struct Servers {
    /// At least one.
    all: Vec<PgConnectOptions>,
    /// Which of them is used.
    current: AtomicUsize,
}

impl Servers {
    /// Reads a URL.
    ///
    /// # Errors
    /// The end of a sentence about the URL; nothing of it is quoted but names of parameters and files.
    pub(in crate::store::db) fn parse(url: &str) -> Result<Servers, String> {
        let all: Result<Vec<PgConnectOptions>, String> = urls(url)?.iter().map(|url| options(url)).collect();
        Ok(Servers { all: all?, current: AtomicUsize::new(0) })
    }

    /// How the server that is used is connected to.
    pub(in crate::store) fn current(&self) -> PgConnectOptions {
        self.all[self.current.load(Ordering::Relaxed)].clone()
    }

    /// Whether there is more than one.
    pub(in crate::store) fn several(&self) -> bool {
        self.all.len() > 1
    }

    /// Their names, for people.
    pub(in crate::store::db) fn names(&self) -> String {
        let names: Vec<String> = self.all.iter().map(name).collect();
        names.join(" or ")
    }

    /// Asks all of them at once, and takes the first that says that it takes writes; if none does, the first that answers.
    /// Gives back whether it takes writes.
    ///
    /// # Errors
    /// None answers; what the last one came to.
    pub(in crate::store::db) async fn find(&self) -> Result<bool, sqlx::Error> {
        let look = |(index, options): (usize, &PgConnectOptions)| {
            let options = options.clone();
            async move { (index, timeout(PATIENCE, takes_writes(&options)).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))) }
        };
        let mut looks: FuturesUnordered<_> = self.all.iter().enumerate().map(look).collect();
        let (mut reads, mut failed) = (None, sqlx::Error::PoolTimedOut);
        while let Some((index, looked)) = looks.next().await {
            match looked {
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

    /// That each connection has a session of its own, as far as can be seen.
    ///
    /// # Errors
    /// Two share one, or one has another with each transaction; or the server is away.
    pub(in crate::store::db) async fn check_pooler(&self) -> Result<(), StoreError> {
        let options = self.current();
        let connect = async || timeout(PATIENCE, options.clone().disable_statement_logging().connect()).await;
        let Ok(first) = connect().await else { return Ok(()) };
        let mut first = first?;
        // A server without room for another one has no pooler before it that shares sessions.
        let Ok(Ok(mut second)) = connect().await else { return Ok(()) };
        let sessions = async {
            let mut seen = Vec::with_capacity(ROUNDS);
            for _ in 0..ROUNDS {
                seen.push([session(&mut first).await?, session(&mut second).await?]);
            }
            Ok::<_, sqlx::Error>(seen)
        };
        let Ok(seen) = timeout(PATIENCE, sessions).await else { return Ok(()) };
        let _ = tokio::join!(first.close(), second.close());
        if shared(&seen?) {
            return Err(StoreError::Unusable(format!(
                "{} is a pooler that gives each transaction another session (pool_mode = transaction): Sendoff needs one for as long as \
                 it is connected. Set pool_mode = session for it, or connect to PostgreSQL itself",
                name(&options)
            )));
        }
        Ok(())
    }
}

/// Whether connections have no sessions of their own, by what each of the two had in each round.
fn shared(seen: &[[i32; 2]]) -> bool {
    seen.iter().any(|[first, second]| first == second) || seen.windows(2).any(|pair| pair[0] != pair[1])
}

/// The process id of the session. Without a prepared statement, which may be another session's behind a pooler.
async fn session(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    use sqlx::Row;
    sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(connection).await?.try_get(0)
}

async fn takes_writes(options: &PgConnectOptions) -> Result<bool, sqlx::Error> {
    use sqlx::Row;
    let mut connection = options.clone().disable_statement_logging().connect().await?;
    let row = sqlx::raw_sql("SHOW transaction_read_only").fetch_one(&mut connection).await?;
    let read_only: String = row.try_get(0)?;
    let _ = connection.close().await;
    Ok(read_only == "off")
}

/// A server as it is named in sentences; never the password.
pub(in crate::store::db) fn name(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(folder) => folder.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// Follows the primary for as long as the store is open.
pub(in crate::store) async fn follow(store: Weak<Inner>) {
    let mut handled = sessions::troubles();
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(inner) = store.upgrade() else { return };
        let Engine::Postgres(engine) = &inner.engine else { return };
        let troubles = sessions::troubles();
        if troubles == handled {
            continue;
        }
        let before = engine.servers.current.load(Ordering::Relaxed);
        if let Ok(true) = engine.servers.find().await {
            handled = troubles;
            if engine.servers.current.load(Ordering::Relaxed) != before {
                let options = engine.servers.current();
                tracing::warn!("PostgreSQL at {} takes writes: it is used from now on", name(&options));
                engine.front.set_connect_options(options.clone());
                engine.engine.set_connect_options(options);
                sessions::end_older(Instant::now());
            }
        }
    }
}

/// A URL for each host of `url`.
fn urls(url: &str) -> Result<Vec<String>, String> {
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

/// How a server is connected to, by the URL of this one alone.
fn options(url: &str) -> Result<PgConnectOptions, String> {
    let malformed = || "is not a URL such as postgres://user:password@host/database".to_owned();
    let mut url: Url = url.parse().map_err(|_| malformed())?;
    let mut parameters: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    for (name, value) in &parameters {
        match name.as_str() {
            "host" | "port" | "hostaddr" if value.contains(',') => {
                return Err(format!(
                    "names several in {name}=: put them before the database instead, as a:5432,b:5432"
                ));
            }
            "sslrootcert" | "sslcert" | "sslkey" if !value.starts_with("-----BEGIN") => {
                if let Err(error) = std::fs::File::open(Path::new(value)) {
                    return Err(format!("names a file for {name} that can't be read ({value}): {error}"));
                }
            }
            "target_session_attrs" if !["any", "read-write", "primary"].contains(&value.as_str()) => {
                return Err(
                    "asks for a server that takes no writes (target_session_attrs), and Sendoff writes".to_owned()
                );
            }
            _ => {}
        }
    }
    // The server that takes writes is always the one that is used.
    let all = parameters.len();
    parameters.retain(|(name, _)| name != "target_session_attrs");
    if parameters.len() < all {
        url.set_query(None);
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
    }
    // A pooler knows few parameters of a session's beginning, and this one makes no difference since PostgreSQL 12.
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
    fn a_url_names_one_server_or_several() {
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
    fn sessions_that_are_shared_or_change_are_a_poolers() {
        assert!(!shared(&[[1, 2], [1, 2], [1, 2]]));
        assert!(shared(&[[1, 1], [1, 1], [1, 1]]), "one session for both");
        assert!(shared(&[[1, 2], [2, 1], [1, 2]]), "in turns");
    }
}
