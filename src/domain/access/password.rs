//! Operators' passwords, hashed with argon2id and stored as PHC strings.
//!
//! Hashing and verifying take about 30 ms and 19 MiB by design. Call them on a blocking thread, with limited
//! concurrency.

use std::fmt;

use argon2::password_hash::phc::PasswordHash as Phc;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

use sha2::{Digest, Sha256};

use crate::domain::Invalid;
use crate::domain::column_type::column_type;

/// The shortest password, in characters.
pub const SHORTEST: usize = 12;
/// The longest password, in bytes.
pub const LONGEST: usize = 1_024;
/// Memory in KiB, iterations, lanes: the OWASP minimum for argon2id.
const COST: (u32, u32, u32) = (19_456, 2, 1);
const SALT_BYTES: usize = 16;
/// A hash of no known password, which costs as much to verify as any other.
const NOBODYS: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The stored hash of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

column_type!(PasswordHash(String));

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(redacted)")
    }
}

impl PasswordHash {
    /// Hashes a new password; `field` names it in the error. Slow.
    ///
    /// # Errors
    /// The password is too short or too long.
    pub fn make(field: &str, password: &str) -> Result<PasswordHash, Invalid> {
        check(field, password)?;
        let failed = |error: &dyn fmt::Display| Invalid::new(field, format!("cannot be hashed: {error}"));
        let argon2 = argon2().map_err(|error| failed(&error))?;
        let salt: [u8; SALT_BYTES] = rand::random();
        let hash: Phc = argon2.hash_password_with_salt(password.as_bytes(), &salt).map_err(|error| failed(&error))?;
        Ok(PasswordHash(hash.to_string()))
    }

    /// A hash for unknown names: no password matches it, and verifying takes the usual time.
    pub fn dummy() -> PasswordHash {
        PasswordHash(NOBODYS.to_owned())
    }

    /// Tells stored hashes apart without revealing them.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }

    /// Verifies a password. Always slow: a password that is too long is compared as an empty one.
    pub fn verify(&self, password: &str) -> bool {
        let possible = if password.len() > LONGEST { "" } else { password };
        let fits =
            Phc::new(&self.0).is_ok_and(|hash| Argon2::default().verify_password(possible.as_bytes(), &hash).is_ok());
        fits && !possible.is_empty()
    }
}

/// Checks the length of a new password. There are no rules about its characters.
///
/// # Errors
/// The password is too short or too long.
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
        assert!(one.verify(GOOD) && other.verify(GOOD));
        for wrong in ["", "correct horse battery ", "Correct horse battery"] {
            assert!(!one.verify(wrong), "{wrong:?}");
        }
        assert!(!format!("{one:?}").contains("argon2id"));
    }

    #[test]
    fn nobodys_is_as_dear_as_anybodys() {
        let cost = |hash: &PasswordHash| hash.0.split('$').take(4).map(str::to_owned).collect::<Vec<_>>();
        let nobodys = PasswordHash::dummy();
        assert_eq!(cost(&nobodys), cost(&PasswordHash::make("p", GOOD).unwrap()));
        let parsed = Phc::new(NOBODYS).unwrap();
        assert_eq!(parsed.hash.map(|hash| hash.len()), Some(32));
        assert!(!nobodys.verify(GOOD) && !nobodys.verify(""));
    }

    #[test]
    fn passwords_that_are_too_short_or_too_long_are_rejected() {
        assert!(check("p", "äöüäöüäöüäöü").is_ok(), "characters, not bytes");
        for bad in ["", "elevenchars", &"x".repeat(LONGEST + 1)] {
            assert_eq!(PasswordHash::make("p", bad).unwrap_err().field, "p");
        }
        assert!(!PasswordHash::dummy().verify(&"x".repeat(LONGEST + 1)));
    }
}
