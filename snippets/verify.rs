use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

pub const SECRET: &str = "whsec_…"; // the endpoint's secret

/// Fails unless `body`, the raw bytes of the request, was signed with `secret`.
pub fn verify(secret: &str, id: &str, timestamp: &str, signatures: &str, body: &[u8]) -> Result<(), &'static str> {
    let sent: u64 = timestamp.parse().map_err(|_| "invalid timestamp")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| "clock before 1970")?.as_secs();
    if now.abs_diff(sent) > 300 {
        return Err("timestamp outside the tolerance");
    }
    let key = secret.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok()).ok_or("invalid secret")?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| "invalid secret")?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    let given = signatures.split(' ').filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok());
    for signature in given {
        // Compares in constant time.
        if mac.clone().verify_slice(&signature).is_ok() {
            return Ok(());
        }
    }
    Err("no matching signature")
}
