//! The headers that carry an endpoint's signatures, under the names that its receiver sees. The pages about
//! verification and rotation list them.

use crate::dashboard::components::format::{Block, Line};
use crate::domain::catalog::endpoint::EndpointSpec;
use crate::domain::signing::secret::SignatureType;
use crate::domain::signing::signature::{ExtraSignature, KeyForm};

/// Code that verifies `sha256=…` and code that verifies `t=…,v1=…`. Both files call the header `NAME`.
const BODY_CODE: &str = include_str!("../../../snippets/verify_body.py");
const TIMED_CODE: &str = include_str!("../../../snippets/verify_timed.py");
const NAME: &str = "x-signature";
/// The HMAC key in both files, and its replacement for endpoints that sign with the decoded secret.
const TEXT_KEY: &str = "secret.encode()";
const BYTES_KEY: &str = "base64.b64decode(secret.removeprefix(\"whsec_\"))";

/// Names of all headers that carry an id, a timestamp or a signature.
pub fn all(spec: &EndpointSpec) -> Vec<Line> {
    let mut names = vec!["webhook-id", "webhook-timestamp", "webhook-signature"];
    for extra in &spec.extra_signatures {
        match extra.header() {
            Some(header) => names.push(header),
            None => names.extend(["svix-id", "svix-timestamp", "svix-signature"]),
        }
    }
    names.into_iter().map(Line::new).collect()
}

/// The effect of a rotation on each header.
pub fn in_rotation(spec: &EndpointSpec) -> Vec<Line> {
    let (mut both, mut one) = (vec!["webhook-signature"], Vec::new());
    for extra in &spec.extra_signatures {
        match extra {
            ExtraSignature::Svix => both.push("svix-signature"),
            ExtraSignature::Stripe { header, .. } => both.push(header),
            ExtraSignature::GitHub { header, .. } => one.push(header.as_str()),
        }
    }
    let what = if spec.signature_type == SignatureType::Ed25519 { "by both keys" } else { "with both secrets" };
    let mut notes = vec![format!("Signed {what}: {}.", both.join(", "))];
    if !one.is_empty() {
        let names = one.join(", ");
        notes.push(format!("Signed with the new secret alone, from now on: {names}. Give it to the receiver first."));
    }
    notes.iter().map(|note| Line::new(note)).collect()
}

/// The code that verifies an extra signature, with its header and key.
pub struct ExtraSnippet {
    pub header: Line,
    code: String,
}

impl ExtraSnippet {
    /// One for each extra signature that has its own header.
    pub fn all(spec: &EndpointSpec) -> Vec<ExtraSnippet> {
        let snippet = |extra: &ExtraSignature| {
            let (code, header, key) = match extra {
                ExtraSignature::Svix => return None,
                ExtraSignature::GitHub { header, key } => (BODY_CODE, header, key),
                ExtraSignature::Stripe { header, key } => (TIMED_CODE, header, key),
            };
            let code = code.replace(NAME, &header.to_ascii_lowercase());
            let code = match key {
                KeyForm::Text => code,
                KeyForm::Bytes => code.replace(TEXT_KEY, BYTES_KEY).replacen("import ", "import base64, ", 1),
            };
            Some(ExtraSnippet { header: Line::new(header), code })
        };
        spec.extra_signatures.iter().filter_map(snippet).collect()
    }

    /// The code for display.
    pub fn shown(&self) -> Block {
        Block::new(self.code.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_names_that_the_receiver_sees() {
        let github = |key| ExtraSignature::GitHub { header: "X-Acme-Signature".into(), key };
        let stripe = ExtraSignature::Stripe { header: "Acme-Signature".into(), key: KeyForm::Text };
        let spec = EndpointSpec {
            extra_signatures: vec![ExtraSignature::Svix, github(KeyForm::Bytes), stripe],
            ..EndpointSpec::default()
        };
        let text = |lines: Vec<Line>| lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        assert!(text(all(&spec)).ends_with("svix-signature; X-Acme-Signature; Acme-Signature"));
        let notes = text(in_rotation(&spec));
        assert!(notes.contains("both secrets: webhook-signature, svix-signature, Acme-Signature."), "{notes}");
        assert!(notes.contains("new secret alone, from now on: X-Acme-Signature."), "{notes}");
        let [body, timed] = &ExtraSnippet::all(&spec)[..] else { panic!("two snippets") };
        assert!(body.code.starts_with("import base64, hashlib") && body.code.contains("headers[\"x-acme-signature\"]"));
        assert!(body.code.contains("base64.b64decode(secret") && !body.code.contains(TEXT_KEY), "{}", body.code);
        assert!(timed.code.contains("headers[\"acme-signature\"]") && timed.code.contains(TEXT_KEY), "{}", timed.code);
        assert_eq!(text(in_rotation(&EndpointSpec::default())), "Signed with both secrets: webhook-signature.");
    }
}
