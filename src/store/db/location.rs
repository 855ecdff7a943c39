//! The setting with the location of the database.

use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    Sqlite(PathBuf),
    /// The URL with its password; never log it.
    Postgres(String),
}

impl Location {
    /// Parses `sqlite:PATH` or `postgres://…`.
    ///
    /// # Errors
    /// The expected format.
    pub fn parse(text: &str) -> Result<Location, String> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Location::Postgres(text.to_owned()));
        }
        let path = text.strip_prefix("sqlite:").map(|rest| rest.strip_prefix("//").unwrap_or(rest));
        match path {
            Some(path) if !path.is_empty() && !path.starts_with(':') && !path.contains('?') => {
                Ok(Location::Sqlite(PathBuf::from(path)))
            }
            _ => Err("expected sqlite:PATH (a file) or postgres://user:password@host/database".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        assert_eq!(Location::parse("sqlite:sendoff.db"), Ok(Location::Sqlite("sendoff.db".into())));
        assert_eq!(Location::parse("sqlite:///var/lib/x.db"), Ok(Location::Sqlite("/var/lib/x.db".into())));
        assert!(matches!(Location::parse("postgres://a@b/c"), Ok(Location::Postgres(_))));
        for bad in ["", "sqlite:", "sqlite::memory:", "mysql://x", "sendoff.db", "sqlite:a.db?mode=ro"] {
            assert!(Location::parse(bad).is_err(), "{bad}");
        }
    }
}
