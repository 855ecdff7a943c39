//! Databases for tests, on either kind of store. Each goes when it is dropped, or with its server.

use super::{Kind, Postgres, SqliteFile, sqlite_file};

/// A new database, still empty: the store makes the schema.
pub struct Database {
    pub url: String,
    pub file: Option<SqliteFile>,
}

impl Database {
    pub fn on(kind: Kind) -> Database {
        match kind {
            Kind::Sqlite => {
                let file = sqlite_file();
                Database { url: file.url(), file: Some(file) }
            }
            Kind::Postgres => Database { url: Postgres::shared().fresh_database(), file: None },
        }
    }
}
