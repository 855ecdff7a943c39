//! The identity provider: its metadata and keys, the exchange of a code, and the verification of ID tokens.
//!
//! Metadata and keys are fetched when first needed, so startup does not depend on the provider. They are fetched again
//! after an hour, and when a token is signed by an unknown key, but at most once per [`REFETCH_INTERVAL`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::BoxFuture;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreClientAuthMethod, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreProviderMetadata, CoreResponseType,
    CoreRevocableToken, CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AdditionalClaims, AuthType, AuthenticationFlow, AuthorizationCode, ClaimsVerificationError, Client, ClientId,
    ClientSecret, CsrfToken, EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, IdTokenClaims,
    IdTokenFields, IssuerUrl, Nonce, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope,
    SignatureVerificationError, StandardErrorResponse, StandardTokenResponse, TokenResponse as _,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use url::Url;

use crate::domain::access::oidc::{OidcIdentity, OidcOptions, account_name, is_allowed_domain};
use crate::egress::EgressError;
use crate::egress::provider_client::{ProviderClient, ProviderRequestError};

/// Maximum age of metadata and keys.
const LIFE: Duration = Duration::from_secs(3_600);
/// Minimum time between two fetches, for all sign-ins together.
const REFETCH_INTERVAL: Duration = Duration::from_secs(5);
/// Tolerated difference between the provider's clock and ours.
const SKEW: Duration = Duration::from_secs(60);
/// Maximum bytes of a code or an ID token.
const LONGEST: usize = 64 * 1024;

/// The reason that a sign-in failed, for the log. The page says less.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    #[error("the provider is not available: {0}")]
    Unavailable(String),
    /// The provider refuses the code, or this client.
    #[error("the provider refused: {0}")]
    Refused(String),
    /// The ID token is not valid.
    #[error("invalid ID token: {0}")]
    Invalid(String),
    /// No group has a role, or the address is in no allowed domain.
    #[error("not allowed: {0}")]
    NotAllowed(&'static str),
}

/// The secrets of one sign-in, kept by the browser until the response.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignInSecrets {
    pub state: String,
    pub nonce: String,
    pub verifier: String,
}

/// All other claims: the name of the groups' claim is a setting.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct OtherClaims {
    #[serde(flatten)]
    all: HashMap<String, serde_json::Value>,
}

impl AdditionalClaims for OtherClaims {}

type ProviderAnswer = BoxFuture<'static, Result<http::Response<Vec<u8>>, ProviderRequestError>>;
type PersonClaims = IdTokenClaims<OtherClaims, CoreGenderClaim>;
type AnswerFields = IdTokenFields<
    OtherClaims,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;
type TokenAnswer = StandardTokenResponse<AnswerFields, CoreTokenType>;
type OidcClient = Client<
    OtherClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    TokenAnswer,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// The last known metadata and keys.
#[derive(Debug, Default)]
struct Known {
    metadata: Option<(Instant, Arc<CoreProviderMetadata>)>,
    /// The last attempt to fetch it.
    tried: Option<Instant>,
}

/// The identity provider. Shared by all workers of the process.
#[derive(Debug)]
pub struct OidcProvider {
    pub options: OidcOptions,
    http: ProviderClient,
    known: Mutex<Known>,
}

impl OidcProvider {
    /// # Errors
    /// TLS cannot be set up on this machine.
    pub fn new(options: OidcOptions) -> Result<OidcProvider, EgressError> {
        Ok(OidcProvider { options, http: ProviderClient::new()?, known: Mutex::default() })
    }

    /// Metadata and keys. `anew` fetches them again, unless they were just fetched.
    async fn metadata(&self, anew: bool) -> Result<Arc<CoreProviderMetadata>, OidcError> {
        let mut known = self.known.lock().await;
        let fresh = known.metadata.as_ref().filter(|(at, _)| at.elapsed() < LIFE).map(|(_, found)| found.clone());
        if let (Some(found), false) = (&fresh, anew) {
            return Ok(found.clone());
        }
        if known.tried.is_some_and(|at| at.elapsed() < REFETCH_INTERVAL) {
            return fresh.ok_or_else(|| OidcError::Unavailable("the last request failed a moment ago".to_owned()));
        }
        known.tried = Some(Instant::now());
        let issuer =
            IssuerUrl::new(self.options.issuer.clone()).map_err(|error| OidcError::Unavailable(error.to_string()))?;
        match CoreProviderMetadata::discover_async(issuer, &self.http_client()).await {
            Ok(found) => {
                let found = Arc::new(found);
                known.metadata = Some((Instant::now(), found.clone()));
                Ok(found)
            }
            Err(error) => Err(OidcError::Unavailable(chain(&error))),
        }
    }

    /// Our HTTP client, for the library.
    fn http_client(&self) -> impl Fn(http::Request<Vec<u8>>) -> ProviderAnswer + use<> {
        let http = self.http.clone();
        move |request| {
            let http = http.clone();
            Box::pin(async move { http.call(request).await })
        }
    }

    fn client(&self, metadata: &CoreProviderMetadata) -> OidcClient {
        let (id, secret) =
            (ClientId::new(self.options.client_id.clone()), ClientSecret::new(self.options.client_secret.to_string()));
        let client = OidcClient::from_provider_metadata(metadata.clone(), id, Some(secret));
        let methods = metadata.token_endpoint_auth_methods_supported();
        let basic = methods.is_none_or(|methods| methods.contains(&CoreClientAuthMethod::ClientSecretBasic));
        client.set_auth_type(if basic { AuthType::BasicAuth } else { AuthType::RequestBody })
    }

    /// The URL that begins a sign-in, and its secrets. `redirect` is the redirect URI.
    ///
    /// # Errors
    /// The provider is not available.
    pub async fn begin(&self, redirect: &Url) -> Result<(Url, SignInSecrets), OidcError> {
        let metadata = self.metadata(false).await?;
        let redirect = RedirectUrl::from_url(redirect.clone());
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let client = self.client(&metadata).set_redirect_uri(redirect);
        let flow = AuthenticationFlow::<CoreResponseType>::AuthorizationCode;
        let mut request = client.authorize_url(flow, CsrfToken::new_random, Nonce::new_random);
        for scope in self.options.scopes.iter().filter(|scope| *scope != "openid") {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        let (url, state, nonce) = request.set_pkce_challenge(challenge).url();
        let secrets = SignInSecrets {
            state: state.into_secret(),
            nonce: nonce.secret().clone(),
            verifier: verifier.into_secret(),
        };
        Ok((url, secrets))
    }

    /// Exchanges a code and verifies the ID token.
    ///
    /// # Errors
    /// The provider is not available or refuses the code, the token is not valid, or the person has no access.
    pub async fn finish(&self, code: &str, secrets: SignInSecrets, redirect: &Url) -> Result<OidcIdentity, OidcError> {
        if code.len() > LONGEST {
            return Err(OidcError::Refused("the code is too long".to_owned()));
        }
        let metadata = self.metadata(false).await?;
        let client = self.client(&metadata).set_redirect_uri(RedirectUrl::from_url(redirect.clone()));
        let request = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|error| OidcError::Unavailable(error.to_string()))?
            .set_pkce_verifier(PkceCodeVerifier::new(secrets.verifier));
        let answer: TokenAnswer = request.request_async(&self.http_client()).await.map_err(exchange_error)?;
        let token = answer.id_token().ok_or_else(|| OidcError::Invalid("the response has none".to_owned()))?;
        let nonce = Nonce::new(secrets.nonce);
        let verify = |client: &OidcClient| -> Result<PersonClaims, ClaimsVerificationError> {
            let verifier = client
                .id_token_verifier()
                .set_allowed_algs(ALGORITHMS)
                .set_time_fn(|| (SystemTime::now() - SKEW).into())
                .set_issue_time_verifier_fn(|at| match SystemTime::from(at) > SystemTime::now() + SKEW {
                    true => Err("it was issued in the future".to_owned()),
                    false => Ok(()),
                });
            token.claims(&verifier, &nonce).cloned()
        };
        let claims = match verify(&self.client(&metadata)) {
            Err(ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey)) => {
                let metadata = self.metadata(true).await?;
                verify(&self.client(&metadata))
            }
            result => result,
        };
        self.identity(&claims.map_err(|error| OidcError::Invalid(chain(&error)))?)
    }

    /// The person in verified claims.
    fn identity(&self, claims: &PersonClaims) -> Result<OidcIdentity, OidcError> {
        // The library leaves this check to its callers.
        if claims.authorized_party().is_some_and(|party| party.as_str() != self.options.client_id) {
            return Err(OidcError::Invalid("it was issued to another client".to_owned()));
        }
        let groups = claims.additional_claims().all.get(&self.options.groups_claim).map(words).unwrap_or_default();
        let role = self.options.roles.role(&groups).ok_or(OidcError::NotAllowed("no group has a role"))?;
        let email = claims.email().filter(|_| claims.email_verified() == Some(true)).map(|email| email.as_str());
        if !is_allowed_domain(&self.options.domains, email) {
            return Err(OidcError::NotAllowed("no verified address in an allowed domain"));
        }
        let subject = claims.subject().as_str();
        let preferred = claims.preferred_username().map(|name| name.as_str());
        let name = account_name(email, preferred, subject).ok_or(OidcError::NotAllowed("no usable name"))?;
        Ok(OidcIdentity { issuer: claims.issuer().as_str().to_owned(), subject: subject.to_owned(), name, role })
    }
}

/// Signature algorithms with a public key. With a symmetric one, anyone with the client secret could sign tokens.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// A claim with one word or a list of words.
fn words(claim: &serde_json::Value) -> Vec<String> {
    match claim {
        serde_json::Value::String(word) => vec![word.clone()],
        serde_json::Value::Array(list) => list.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

fn exchange_error(
    error: RequestTokenError<ProviderRequestError, StandardErrorResponse<CoreErrorResponseType>>,
) -> OidcError {
    match error {
        RequestTokenError::ServerResponse(answer) => OidcError::Refused(answer.error().to_string()),
        // Without the response, which may hold tokens.
        RequestTokenError::Parse(error, _) => OidcError::Unavailable(chain(&error)),
        RequestTokenError::Request(error) => OidcError::Unavailable(chain(&error)),
        RequestTokenError::Other(what) => OidcError::Unavailable(what),
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        next = cause.source();
    }
    line
}
