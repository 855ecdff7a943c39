//! Valid and invalid tokens.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use sha2::Sha256;

use crate::api::authn::jwt::*;

const NOW: Time = Time::from_micros(1_763_800_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

fn org() -> OrgId {
    OrgId::default_org()
}

/// The tenant of `token` at the time `now`.
fn read(tokens: &Tokens, token: &str, now: Time) -> Result<Tenant, TokenError> {
    let grant = tokens.verify(token)?;
    grant.check_at(now).map(|()| grant.tenant)
}

/// A token with any header and claims, signed by `sign`.
fn made(header: &str, claims: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = sign(text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn hs256(secret: &[u8]) -> impl FnOnce(&[u8]) -> Vec<u8> {
    move |text| Hmac::<Sha256>::new_from_slice(secret).unwrap().chain_update(text).finalize().as_bytes().to_vec()
}

fn signed(secret: &[u8], header: &str, claims: &str) -> String {
    made(header, claims, hs256(secret))
}

const RSA: &str = include_str!("../../../../tests/keys/rsa.private.pem");
const RSA_PUBLIC: &str = include_str!("../../../../tests/keys/rsa.public.pem");
const ED: &str = include_str!("../../../../tests/keys/ed25519.private.pem");
const ED_PUBLIC: &str = include_str!("../../../../tests/keys/ed25519.public.pem");

fn rs(algorithm: Algorithm) -> impl FnOnce(&[u8]) -> Vec<u8> {
    let how = match algorithm {
        Algorithm::Rs384 => &RSA_PKCS1_SHA384,
        Algorithm::Rs512 => &RSA_PKCS1_SHA512,
        _ => &RSA_PKCS1_SHA256,
    };
    move |text| {
        let der = PrivatePkcs8KeyDer::from_pem_slice(RSA.as_bytes()).unwrap();
        let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(how, &SystemRandom::new(), text, &mut signature).unwrap();
        signature
    }
}

fn ed(text: &[u8]) -> Vec<u8> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(ED.as_bytes()).unwrap();
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).unwrap().sign(text).as_ref().to_vec()
}

fn header(algorithm: Algorithm) -> String {
    format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#)
}

fn public(algorithm: Algorithm) -> Tokens {
    let pem = if algorithm == Algorithm::EdDsa { ED_PUBLIC } else { RSA_PUBLIC };
    Tokens::with_key(&TokenKey::Public(algorithm, PublicKey::parse(pem).unwrap()), None)
}

fn shared(algorithm: Algorithm, secret: &[u8]) -> Tokens {
    Tokens::with_key(&TokenKey::Shared(algorithm, Zeroizing::new(secret.to_vec())), None)
}

#[test]
fn a_token_names_its_tenant() {
    let (tokens, app) = (Tokens::new(b"secret"), AppId::new(NOW));
    let all = tokens.mint_org(&org(), NOW, HOUR).unwrap();
    let one = tokens.mint_app(&org(), app, NOW, HOUR).unwrap();
    assert_eq!(read(&tokens, &all, NOW), Ok(Tenant::org(org())));
    assert_eq!(read(&tokens, &one, NOW), Ok(Tenant { org: org(), only: Some(app) }));
    assert_ne!(tokens.mint_org(&org(), NOW, HOUR).unwrap(), all, "two of the same words are two");
}

#[test]
fn tokens_of_the_other_secret_are_accepted_and_none_are_signed_with_it() {
    let key = |secret: &[u8]| TokenKey::Shared(Algorithm::Hs256, Zeroizing::new(secret.to_vec()));
    let (old, new) = (Tokens::new(b"old"), Tokens::new(b"new"));
    let both = Tokens::with_key(&key(b"new"), Some(b"old"));
    let mint = |tokens: &Tokens| tokens.mint_org(&org(), NOW, HOUR).unwrap();
    let unreadable = Err(TokenError::Unreadable(Algorithm::Hs256));
    for from in [&old, &new, &both] {
        assert!(read(&both, &mint(from), NOW).is_ok());
    }
    assert_eq!(read(&both, &mint(&Tokens::new(b"third")), NOW), unreadable);
    assert_eq!((read(&old, &mint(&both), NOW), read(&new, &mint(&both), NOW).is_ok()), (unreadable, true));
    // A shared secret never verifies tokens of a key pair.
    let pair =
        Tokens::with_key(&TokenKey::Public(Algorithm::EdDsa, PublicKey::parse(ED_PUBLIC).unwrap()), Some(b"old"));
    assert_eq!(read(&pair, &mint(&old), NOW), Err(TokenError::Unreadable(Algorithm::EdDsa)));
}

#[test]
fn a_token_is_valid_between_nbf_and_exp() {
    let tokens = Tokens::new(b"secret");
    let token = tokens.mint_org(&org(), NOW, HOUR).unwrap();
    assert!(read(&tokens, &token, NOW).is_ok());
    assert!(read(&tokens, &token, NOW.plus(HOUR - Duration::from_secs(1))).is_ok());
    assert_eq!(read(&tokens, &token, NOW.plus(HOUR)), Err(TokenError::Expired));
    assert_eq!(read(&tokens, &token, NOW.minus(HOUR)), Err(TokenError::TooEarly));
}

#[test]
fn foreign_tokens_and_fractional_times_are_accepted() {
    let tokens = Tokens::new(b"k");
    let ours = r#"{"alg":"HS256","typ":"JWT"}"#;
    let table = [
        (ours, r#"{"sub":"org_abc"}"#, Ok(())),
        (ours, r#"{"sub":"org_abc","exp":1763800000.5,"aud":"us"}"#, Ok(())),
        (ours, r#"{"sub":"org_abc","exp":1e300}"#, Ok(())),
        (ours, r#"{"sub":"org_abc","exp":1763799999}"#, Err(TokenError::Expired)),
        (ours, r#"{"sub":"org_abc","nbf":1763803600}"#, Err(TokenError::TooEarly)),
        (ours, r#"{"sub":"org_abc","exp":"never"}"#, Err(TokenError::Unreadable(Algorithm::Hs256))),
        (ours, r#"{"sub":"org_abc","org":"org_other"}"#, Err(TokenError::Subject)),
        (ours, r#"{"sub":"app_abc","org":"org_abc"}"#, Err(TokenError::Subject)),
        (ours, r#"{"sub":"user_1"}"#, Err(TokenError::Subject)),
        (ours, r#"{}"#, Err(TokenError::Unreadable(Algorithm::Hs256))),
        (r#"{"alg":"none"}"#, r#"{"sub":"org_abc"}"#, Err(TokenError::Unreadable(Algorithm::Hs256))),
        (r#"{"alg":"HS512"}"#, r#"{"sub":"org_abc"}"#, Err(TokenError::Unreadable(Algorithm::Hs256))),
        (r#"{"alg":"RS256"}"#, r#"{"sub":"org_abc"}"#, Err(TokenError::Unreadable(Algorithm::Hs256))),
        (r#"{}"#, r#"{"sub":"org_abc"}"#, Err(TokenError::Unreadable(Algorithm::Hs256))),
    ];
    for (header, claims, wanted) in table {
        assert_eq!(read(&tokens, &signed(b"k", header, claims), NOW).map(drop), wanted, "{header} {claims}");
    }
    let app = AppId::new(NOW);
    let lone = signed(b"k", ours, &format!(r#"{{"sub":"{app}"}}"#));
    assert_eq!(read(&tokens, &lone, NOW), Err(TokenError::Subject), "an application without its organization");
}

#[test]
fn tampered_tokens_are_rejected() {
    let tokens = Tokens::new(b"secret");
    let token = tokens.mint_org(&org(), NOW, HOUR).unwrap();
    let foreign = Tokens::new(b"another").mint_org(&org(), NOW, HOUR).unwrap();
    let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
    let none = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), token.split('.').nth(1).unwrap());
    for bad in [foreign, unsigned, none, token[..token.len() - 2].to_owned(), "sk_x".into(), String::new()] {
        assert_eq!(read(&tokens, &bad, NOW), Err(TokenError::Unreadable(Algorithm::Hs256)), "{bad}");
    }
}

const CLAIMS: &str = r#"{"sub":"org_abc"}"#;

#[test]
fn each_algorithm_accepts_only_its_own_tokens() {
    use Algorithm::*;
    let secret = b"a secret that is long enough";
    let all = Algorithm::ALL.map(|algorithm| match algorithm {
        Hs256 | Hs384 | Hs512 => shared(algorithm, secret).mint_org(&"org_abc".parse().unwrap(), NOW, HOUR).unwrap(),
        Rs256 | Rs384 | Rs512 => made(&header(algorithm), CLAIMS, rs(algorithm)),
        EdDsa => made(&header(algorithm), CLAIMS, ed),
    });
    for algorithm in Algorithm::ALL {
        let tokens = if algorithm.is_shared() { shared(algorithm, secret) } else { public(algorithm) };
        for (of, token) in Algorithm::ALL.iter().zip(&all) {
            let wanted = if *of == algorithm { Ok(()) } else { Err(TokenError::Unreadable(algorithm)) };
            assert_eq!(read(&tokens, token, NOW).map(drop), wanted, "{algorithm} is shown {of}");
        }
    }
    // The header names one algorithm, the signature uses another.
    let table = [(Rs512, rs(Rs256)), (Rs256, rs(Rs384))];
    for (said, sign) in table {
        assert!(read(&public(said), &made(&header(said), CLAIMS, sign), NOW).is_err(), "{said}");
    }
}

#[test]
fn a_public_key_is_rejected_as_an_hmac_key() {
    let der = PublicKey::parse(RSA_PUBLIC).unwrap();
    let PublicKey::Rsa(der) = der else { panic!("an RSA key") };
    for secret in [RSA_PUBLIC.as_bytes(), RSA_PUBLIC.trim().as_bytes(), &der] {
        for said in [Algorithm::Hs256, Algorithm::Rs256] {
            let token = made(&header(said), CLAIMS, hs256(secret));
            for algorithm in [Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512] {
                assert_eq!(read(&public(algorithm), &token, NOW), Err(TokenError::Unreadable(algorithm)), "{said}");
            }
        }
    }
    let PublicKey::Ed25519(bytes) = PublicKey::parse(ED_PUBLIC).unwrap() else { panic!("an Ed25519 key") };
    for secret in [ED_PUBLIC.as_bytes(), &bytes] {
        let token = made(&header(Algorithm::Hs256), CLAIMS, hs256(secret));
        assert!(read(&public(Algorithm::EdDsa), &token, NOW).is_err());
    }
}

#[test]
fn a_public_key_cannot_sign() {
    let tokens = public(Algorithm::Rs256);
    let refused = tokens.mint_org(&org(), NOW, HOUR).unwrap_err();
    assert_eq!(refused, MintError::VerifiesOnly(Algorithm::Rs256));
    assert!(refused.to_string().contains("RS256") && refused.to_string().contains("API key"), "{refused}");
    assert!(tokens.can_sign().is_err() && shared(Algorithm::Hs512, b"k").can_sign().is_ok());
}

#[test]
fn altered_or_malleable_signatures_are_rejected() {
    for algorithm in Algorithm::ALL {
        let secret = b"k";
        let (tokens, token) = match algorithm {
            Algorithm::EdDsa => (public(algorithm), made(&header(algorithm), CLAIMS, ed)),
            _ if algorithm.is_shared() => {
                let tokens = shared(algorithm, secret);
                let token = tokens.mint_org(&org(), NOW, HOUR).unwrap();
                (tokens, token)
            }
            _ => (public(algorithm), made(&header(algorithm), CLAIMS, rs(algorithm))),
        };
        assert!(tokens.verify(&token).is_ok(), "{algorithm}");
        let (rest, signature) = token.rsplit_once('.').unwrap();
        let flipped = if signature.starts_with('A') { "B" } else { "A" };
        let mut others = vec![format!("{rest}.{flipped}{}", &signature[1..]), format!("{token}="), format!("{token} ")];
        // The unused bits of the last base64 character must be zero.
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let (head, last) = token.split_at(token.len() - 1);
        others.extend(
            letters.iter().map(|&letter| format!("{head}{}", letter as char)).filter(|one| !one.ends_with(last)),
        );
        for other in others {
            assert!(tokens.verify(&other).is_err(), "{algorithm}: {other}");
        }
    }
}

#[test]
fn application_tokens_carry_flags_and_capabilities() {
    let (tokens, app) = (Tokens::new(b"secret"), AppId::new(NOW));
    let options = PortalOptions {
        feature_flags: vec!["beta".into()],
        capabilities: Some(vec![Capability::ViewBase]),
        ..PortalOptions::all(NOW.plus(HOUR).micros())
    };
    // The wall clock is ahead of Sendoff's, which `until` follows: the token is still valid for an hour.
    let wall = NOW.plus(Duration::from_millis(999));
    let token = tokens.mint_portal(&org(), app, &options, wall, HOUR).unwrap();
    let grant = tokens.verify(&token).unwrap();
    assert_eq!(grant.tenant, Tenant { org: org(), only: Some(app) });
    assert_eq!(
        (grant.permissions, grant.flags),
        (Permissions::Application(options.capabilities), options.feature_flags)
    );
    assert_eq!(grant.expires, Some(Time::from_micros(wall.plus(HOUR).seconds() * 1_000_000)));
    assert_eq!(grant.not_before.map(|from| grant.expires.unwrap().since(from)), Some(HOUR));
    let plain = tokens.mint_app(&org(), app, NOW, HOUR).unwrap();
    assert_eq!(tokens.verify(&plain).unwrap().permissions, Permissions::Application(None));

    let ours = header(Algorithm::Hs256);
    let claims = |more: &str| format!(r#"{{"sub":"{app}","org":"org_abc",{more}}}"#);
    let grant = |more: &str| tokens.verify(&signed(b"secret", &ours, &claims(more)));
    let unknown = grant(r#""caps":["Fly"]"#).unwrap();
    assert_eq!(unknown.permissions, Permissions::Application(Some(vec![])), "what is not known grants nothing");
    for bad in [r#""caps":"all""#, r#""flags":{"a":true}"#, r#""flags":[1]"#] {
        assert_eq!(grant(bad).unwrap_err(), TokenError::ClaimType, "{bad}");
    }
    let theirs = signed(b"secret", &ours, r#"{"sub":"org_abc","flags":{"a":true},"caps":7}"#);
    assert_eq!(
        tokens.verify(&theirs).unwrap().permissions,
        Permissions::All,
        "an organization's may say what it likes"
    );
}
