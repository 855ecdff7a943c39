//! Passwords of operators: argon2id, kept as a PHC string that says how it was made.
//!
//! Making one and comparing with one take some 30 ms and 19 MiB, on purpose: whoever calls does so on a thread that may
//! wait, and not often at once.

use std::fmt;

use argon2::password_hash::phc::PasswordHash as Phc;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::domain::Invalid;

/// The fewest characters of a password.
pub const SHORTEST: usize = 12;
/// The most bytes.
pub const LONGEST: usize = 1_024;
/// Memory in KiB, rounds, lanes: what OWASP asks of argon2id at the least.
const COST: (u32, u32, u32) = (19_456, 2, 1);
/// Of the random salt.
const SALT_BYTES: usize = 16;
/// Takes as long to compare with as any, and is nobody's: what was hashed to it is not known.
const NOBODYS: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq, sqlx::Type)]
#[sqlx(transparent)]
pub struct PasswordHash(String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(redacted)")
    }
}

impl PasswordHash {
    /// What to keep of a new password, given as `field`. Slow.
    ///
    /// # Errors
    /// It is too short or too long.
    pub fn make(field: &str, password: &str) -> Result<PasswordHash, Invalid> {
        check(field, password)?;
        let failed = |error: &dyn fmt::Display| Invalid::new(field, format!("cannot be kept: {error}"));
        let argon2 = argon2().map_err(|error| failed(&error))?;
        let salt: [u8; SALT_BYTES] = rand::random();
        let hash: Phc = argon2.hash_password_with_salt(password.as_bytes(), &salt).map_err(|error| failed(&error))?;
        Ok(PasswordHash(hash.to_string()))
    }

    /// For a name that nobody has: no password fits it, after the usual time.
    pub fn nobodys() -> PasswordHash {
        PasswordHash(NOBODYS.to_owned())
    }

    /// Whether it is of this password. Slow, whatever comes of it; one that could be nobody's is compared as an empty
    /// one.
    pub fn is_of(&self, password: &str) -> bool {
        let possible = if password.len() > LONGEST { "" } else { password };
        let fits =
            Phc::new(&self.0).is_ok_and(|hash| Argon2::default().verify_password(possible.as_bytes(), &hash).is_ok());
        fits && !possible.is_empty()
    }
}

/// Whether a new password may be one. Long is what helps; what is in it is left to whoever types it.
///
/// # Errors
/// It is too short or too long.
pub fn check(field: &str, password: &str) -> Result<(), Invalid> {
    if password.chars().count() < SHORTEST {
        return Err(Invalid::new(field, format!("must have at least {SHORTEST} characters")));
    }
    match password.len() > LONGEST {
        true => Err(Invalid::new(field, format!("must have at most {LONGEST} bytes"))),
        false => Ok(()),
    }
}

fn argon2() -> Result<Argon2<'static>, argon2::Error> {
    let (memory, rounds, lanes) = COST;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(memory, rounds, lanes, None)?))
}

#[cfg(test)]
mod tests {
    use crate::domain::access::password::*;

    const GOOD: &str = "correct horse battery";

    #[test]
    fn a_password_fits_what_was_kept_of_it_and_no_other_does() {
        let (one, other) = (PasswordHash::make("p", GOOD).unwrap(), PasswordHash::make("p", GOOD).unwrap());
        assert!(one.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", one.0);
        assert_ne!(one, other, "a salt of its own");
        assert!(one.is_of(GOOD) && other.is_of(GOOD));
        for wrong in ["", "correct horse battery ", "Correct horse battery"] {
            assert!(!one.is_of(wrong), "{wrong:?}");
        }
        assert!(!format!("{one:?}").contains("argon2id"));
    }

    #[test]
    fn nobodys_is_as_dear_as_anybodys() {
        let cost = |hash: &PasswordHash| hash.0.split('$').take(4).map(str::to_owned).collect::<Vec<_>>();
        let nobodys = PasswordHash::nobodys();
        assert_eq!(cost(&nobodys), cost(&PasswordHash::make("p", GOOD).unwrap()));
        let parsed = Phc::new(NOBODYS).unwrap();
        assert_eq!(parsed.hash.map(|hash| hash.len()), Some(32));
        assert!(!nobodys.is_of(GOOD) && !nobodys.is_of(""));
    }

    #[test]
    fn what_is_too_short_or_too_long_is_refused() {
        assert!(check("p", "äöüäöüäöüäöü").is_ok(), "characters, not bytes");
        for bad in ["", "elevenchars", &"x".repeat(LONGEST + 1)] {
            assert_eq!(PasswordHash::make("p", bad).unwrap_err().field, "p");
        }
        assert!(!PasswordHash::nobodys().is_of(&"x".repeat(LONGEST + 1)));
    }
}
