//! Permissions: each operation needs one, and each credential grants some.
//!
//! * [`Right`]: a permission; [`Right::needed`] is the table of all operations.
//! * [`Rights`]: the permissions of a caller: all of them, those of an API key's scopes, or those of an application
//!   token.
//!
//! The boundary of an application token is not checked here: the [`Tenant`](crate::store::Tenant) in every SQL
//! statement enforces it.

use actix_web::http::Method;

use crate::api::http::errors::ApiError;
use crate::domain::access::api_key::{Scope, Scopes};
use crate::domain::access::portal::Capability;
use crate::domain::{AutoConfigId, PollingEndpointId};

/// A permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Right {
    /// Any valid credential.
    Nothing,
    Read,
    /// Fetch messages from a polling endpoint.
    Poll,
    /// Fetch messages as a consumer, which moves its position.
    Consume,
    /// Move a consumer, or commit its messages.
    Seek,
    ReadSecret,
    /// Create messages.
    Send,
    RotateSecret,
    Transform,
    /// Resend messages, or send an example.
    Attempt,
    ManageEndpoint,
    /// Read an autoconfig subscription.
    ReadSubscription,
    /// Create or change the endpoint of an autoconfig subscription.
    Subscribe,
    /// Everything else.
    Write,
}

/// The permissions of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api) enum Rights {
    /// An organization token.
    All,
    /// An API key.
    Key(Scopes),
    /// An application token; `None`: all capabilities of a customer.
    Visit(Option<Vec<Capability>>),
    /// A token of this polling endpoint, valid for nothing else.
    Poller(PollingEndpointId),
    /// A token of this autoconfig subscription, valid for it and the endpoints created with it.
    AutoConfig(AutoConfigId),
}

impl Right {
    /// The permission of the operation at a path of the route table.
    pub fn needed(method: &Method, path: &str) -> Right {
        const ENDPOINTS: &str = "/app/{app}/endpoint";
        const POLLER: &str = "/app/{app}/poller/{sink}";
        const AUTOCONFIG: &str = "/app/{app}/autoconfig/{autoconfig}";
        const LEASED: &str = "/app/{app}/polling-endpoint/{sink}";
        let path = path.strip_prefix("/api/v1").unwrap_or(path).trim_end_matches('/');
        // HEAD is GET without a body.
        let method = if method == Method::HEAD { &Method::GET } else { method };
        match (method, path) {
            (&Method::POST, "/auth/logout") => Right::Nothing,
            (&Method::GET, POLLER | "/app/{app}/poller/{sink}/stream") => Right::Poll,
            (&Method::GET, path) if path.starts_with(POLLER) || path.starts_with(LEASED) => Right::Consume,
            (_, path) if path.starts_with(POLLER) || path.starts_with(LEASED) => Right::Seek,
            (_, "/auth/app/{app}/poller/{sink}/token/rotate") => Right::RotateSecret,
            (&Method::GET, AUTOCONFIG) => Right::ReadSubscription,
            (&Method::PUT, path) if path.starts_with(AUTOCONFIG) => Right::Subscribe,
            (_, "/app/{app}/autoconfig/{autoconfig}/rotate") => Right::RotateSecret,
            (&Method::POST, "/app/{app}/autoconfig") | (&Method::DELETE, AUTOCONFIG) => Right::ManageEndpoint,
            (&Method::GET, path) if path.ends_with("/secret") => Right::ReadSecret,
            (&Method::GET, _) => Right::Read,
            (&Method::POST, "/app/{app}/msg" | "/app/{app}/msg/precheck/active") => Right::Send,
            (&Method::POST, "/app/{app}/msg/{msg}/endpoint/{endpoint}/resend") => Right::Attempt,
            (_, path) if path.starts_with("/app/{app}/destination") => Right::ManageEndpoint,
            (_, path) => {
                match path.strip_prefix(ENDPOINTS).map(|rest| rest.strip_prefix("/{endpoint}").unwrap_or(rest)) {
                    Some("/secret/rotate") => Right::RotateSecret,
                    Some("/transformation" | "/transformation/simulate") => Right::Transform,
                    // With `resend` it also needs `Attempt`, which the handler checks.
                    Some("/reconcile") => Right::Read,
                    Some("/recover" | "/replay-missing" | "/bulk-replay" | "/send-example") => Right::Attempt,
                    Some("" | "/headers" | "/auto-config") => Right::ManageEndpoint,
                    _ => Right::Write,
                }
            }
        }
    }

    /// The smallest scope of an API key that grants it; `None`: any key.
    fn scope(self) -> Option<Scope> {
        match self {
            Right::Nothing => None,
            Right::Read | Right::Poll | Right::Consume | Right::ReadSubscription => Some(Scope::Read),
            Right::Send => Some(Scope::Send),
            _ => Some(Scope::Write),
        }
    }

    /// The capabilities that grant it, any one of them; empty if no customer may.
    fn capabilities(self) -> &'static [Capability] {
        match self {
            Right::Nothing | Right::Send | Right::Write => &[],
            Right::Read | Right::Poll | Right::ReadSubscription => &[Capability::ViewBase],
            Right::ReadSecret => Capability::SEE_SECRET,
            Right::RotateSecret => Capability::ROTATE_SECRET,
            Right::Transform => &[Capability::ManageTransformations],
            Right::Attempt => &[Capability::CreateAttempts],
            Right::Consume | Right::Seek | Right::ManageEndpoint | Right::Subscribe => &[Capability::ManageEndpoint],
        }
    }
}

impl Rights {
    /// Checks that `right` is granted.
    ///
    /// # Errors
    /// 403 that names the missing permission.
    pub fn check(&self, right: Right) -> Result<(), ApiError> {
        match self {
            _ if right == Right::Nothing => Ok(()),
            Rights::All => Ok(()),
            Rights::Poller(_) if matches!(right, Right::Poll | Right::Consume | Right::Seek) => Ok(()),
            Rights::AutoConfig(_)
                if matches!(
                    right,
                    Right::Poll | Right::Consume | Right::Seek | Right::ReadSubscription | Right::Subscribe
                ) =>
            {
                Ok(())
            }
            Rights::AutoConfig(_) => {
                Err(ApiError::lacks("this token can only manage its autoconfig subscription and fetch its messages"))
            }
            Rights::Poller(_) => Err(ApiError::lacks("this token can only fetch messages from its polling endpoint")),
            Rights::Key(scopes) => match right.scope() {
                Some(scope) if !scopes.has(scope) => Err(ApiError::lacks(format!(
                    "this needs an API key with the scope {}; this one has: {scopes}",
                    scope.word()
                ))),
                _ => Ok(()),
            },
            Rights::Visit(capabilities) => {
                let wanted = right.capabilities();
                let Some(least) = wanted.first() else { return Err(ApiError::forbidden()) };
                match capabilities {
                    Some(has) if !wanted.iter().any(|one| has.contains(one)) => {
                        Err(ApiError::lacks(format!("this needs a token with the capability {}", least.word())))
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::api::authn::permissions::*;

    #[test]
    fn what_each_kind_of_operation_needs() {
        for (method, path, right) in [
            (Method::GET, "/api/v1/app", Right::Read),
            (Method::GET, "/api/v1/app/{app}/endpoint/{endpoint}/secret", Right::ReadSecret),
            (Method::GET, "/api/v1/operational-webhook/endpoint/{endpoint}/secret/", Right::ReadSecret),
            (Method::POST, "/api/v1/app/{app}/msg/", Right::Send),
            (Method::HEAD, "/api/v1/app", Right::Read),
            (Method::HEAD, "/api/v1/app/{app}/endpoint/{endpoint}/secret", Right::ReadSecret),
            (Method::POST, "/api/v1/app", Right::Write),
            (Method::POST, "/api/v1/app/{app}/endpoint", Right::ManageEndpoint),
            (Method::PUT, "/api/v1/app/{app}/endpoint/{endpoint}", Right::ManageEndpoint),
            (Method::PATCH, "/api/v1/app/{app}/endpoint/{endpoint}/headers", Right::ManageEndpoint),
            (Method::POST, "/api/v1/app/{app}/endpoint/{endpoint}/secret/rotate", Right::RotateSecret),
            (Method::PATCH, "/api/v1/app/{app}/endpoint/{endpoint}/transformation", Right::Transform),
            (Method::POST, "/api/v1/app/{app}/endpoint/{endpoint}/recover", Right::Attempt),
            (Method::POST, "/api/v1/app/{app}/endpoint/{endpoint}/reconcile", Right::Read),
            (Method::POST, "/api/v1/app/{app}/msg/{msg}/endpoint/{endpoint}/resend", Right::Attempt),
            (Method::POST, "/api/v1/operational-webhook/endpoint", Right::Write),
            (Method::POST, "/api/v1/operational-webhook/endpoint/{endpoint}/secret/rotate", Right::Write),
            (Method::POST, "/api/v1/auth/app-portal-access/{app}", Right::Write),
            (Method::DELETE, "/api/v1/app/{app}/msg/{msg}/content", Right::Write),
            (Method::POST, "/api/v1/app/{app}/endpoint/{endpoint}/something-new", Right::Write),
            (Method::POST, "", Right::Write),
            (Method::GET, "/api/v1/app/{app}/poller/{sink}", Right::Poll),
            (Method::GET, "/api/v1/app/{app}/poller/{sink}/stream", Right::Poll),
            (Method::GET, "/api/v1/app/{app}/poller/{sink}/consumer/{consumer}/", Right::Consume),
            (Method::POST, "/api/v1/app/{app}/poller/{sink}/consumer/{consumer}/seek", Right::Seek),
            (Method::GET, "/api/v1/app/{app}/polling-endpoint/{sink}/consumer/{consumer}", Right::Consume),
            (Method::POST, "/api/v1/app/{app}/polling-endpoint/{sink}/consumer/{consumer}/commit", Right::Seek),
            (Method::POST, "/api/v1/auth/app/{app}/poller/{sink}/token/rotate", Right::RotateSecret),
            (Method::GET, "/api/v1/auth/app/{app}/poller/{sink}/token", Right::Read),
            (Method::POST, "/api/v1/app/{app}/autoconfig", Right::ManageEndpoint),
            (Method::GET, "/api/v1/app/{app}/autoconfig/{autoconfig}", Right::ReadSubscription),
            (Method::DELETE, "/api/v1/app/{app}/autoconfig/{autoconfig}", Right::ManageEndpoint),
            (Method::POST, "/api/v1/app/{app}/autoconfig/{autoconfig}/rotate", Right::RotateSecret),
            (Method::PUT, "/api/v1/app/{app}/autoconfig/{autoconfig}/endpoint", Right::Subscribe),
            (Method::PUT, "/api/v1/app/{app}/autoconfig/{autoconfig}/destination", Right::Subscribe),
            (Method::POST, "/api/v1/app/{app}/destination", Right::ManageEndpoint),
            (Method::DELETE, "/api/v1/app/{app}/destination/{sink}", Right::ManageEndpoint),
            (Method::POST, "/api/v1/auth/logout", Right::Nothing),
        ] {
            assert_eq!(Right::needed(&method, path), right, "{method} {path}");
        }
    }

    #[test]
    fn scopes_and_capabilities_grant_what_they_say() {
        use Capability::*;
        let key = |scopes: &[Scope]| Rights::Key(Scopes::of(scopes.iter().copied()));
        let visit = |capabilities: &[Capability]| Rights::Visit(Some(capabilities.to_vec()));
        let all = [
            Right::Nothing,
            Right::Read,
            Right::Poll,
            Right::Consume,
            Right::Seek,
            Right::ReadSecret,
            Right::Send,
            Right::RotateSecret,
            Right::Transform,
            Right::Attempt,
            Right::ManageEndpoint,
            Right::ReadSubscription,
            Right::Subscribe,
            Right::Write,
        ];
        let customer: Vec<Right> =
            all.iter().copied().filter(|one| ![Right::Send, Right::Write].contains(one)).collect();
        for (rights, granted) in [
            (Rights::All, &all[..]),
            (key(&[Scope::Write]), &all),
            (key(&[Scope::Read]), &[Right::Nothing, Right::Read, Right::Poll, Right::Consume, Right::ReadSubscription]),
            (
                Rights::AutoConfig(AutoConfigId(uuid::Uuid::nil())),
                &[Right::Nothing, Right::Poll, Right::Consume, Right::Seek, Right::ReadSubscription, Right::Subscribe],
            ),
            (
                Rights::Poller(PollingEndpointId(uuid::Uuid::nil())),
                &[Right::Nothing, Right::Poll, Right::Consume, Right::Seek],
            ),
            (key(&[Scope::Send]), &[Right::Nothing, Right::Send]),
            (key(&[]), &[Right::Nothing]),
            (Rights::Visit(None), &customer),
            (visit(&Capability::ALL), &customer),
            (visit(&[ViewBase]), &[Right::Nothing, Right::Read, Right::Poll, Right::ReadSubscription]),
            (
                visit(&[ViewBase, ViewEndpointSecret]),
                &[Right::Nothing, Right::Read, Right::Poll, Right::ReadSecret, Right::ReadSubscription],
            ),
            (visit(&[CreateAttempts, ManageTransformations]), &[Right::Nothing, Right::Transform, Right::Attempt]),
            (visit(&[ManageEndpointSecret]), &[Right::Nothing, Right::ReadSecret, Right::RotateSecret]),
            (
                visit(&[ManageEndpoint]),
                &[
                    Right::Nothing,
                    Right::Consume,
                    Right::Seek,
                    Right::ReadSecret,
                    Right::RotateSecret,
                    Right::ManageEndpoint,
                    Right::Subscribe,
                ],
            ),
        ] {
            let has: Vec<Right> = all.iter().copied().filter(|right| rights.check(*right).is_ok()).collect();
            assert_eq!(has, granted, "{rights:?}");
        }
    }
}
