//! Permissions: each operation needs one, and each credential grants some.
//!
//! * [`Permission`]: a permission; [`Permission::required`] is the table of all operations.
//! * [`Permissions`]: the permissions of a caller, by its credential: organization token, API key, application token,
//!   or a token of one polling endpoint or subscription.
//!
//! The boundary of an application token is not checked here: the [`Tenant`](crate::store::Tenant) in every SQL
//! statement enforces it.

use actix_web::http::Method;

use crate::api::http::errors::ApiError;
use crate::domain::access::api_key::{KeyScope, KeyScopes};
use crate::domain::access::portal::Capability;
use crate::domain::{AutoConfigId, PollingEndpointId};

/// A permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Permission {
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
pub(in crate::api) enum Permissions {
    /// An organization token.
    All,
    /// An API key.
    Key(KeyScopes),
    /// An application token; `None`: all capabilities of a customer.
    Application(Option<Vec<Capability>>),
    /// A token of this polling endpoint, valid for nothing else.
    Poller(PollingEndpointId),
    /// A token of this autoconfig subscription, valid for it and the endpoints created with it.
    AutoConfig(AutoConfigId),
}

impl Permission {
    /// The permission that an operation needs, by method and path in the route table.
    pub fn required(method: &Method, path: &str) -> Permission {
        const ENDPOINTS: &str = "/app/{app}/endpoint";
        const POLLER: &str = "/app/{app}/poller/{sink}";
        const AUTOCONFIG: &str = "/app/{app}/autoconfig/{autoconfig}";
        const LEASED: &str = "/app/{app}/polling-endpoint/{sink}";
        let path = path.strip_prefix("/api/v1").unwrap_or(path).trim_end_matches('/');
        // HEAD is GET without a body.
        let method = if method == Method::HEAD { &Method::GET } else { method };
        match (method, path) {
            (&Method::POST, "/auth/logout") => Permission::Nothing,
            (&Method::GET, POLLER | "/app/{app}/poller/{sink}/stream") => Permission::Poll,
            (&Method::GET, path) if path.starts_with(POLLER) || path.starts_with(LEASED) => Permission::Consume,
            (_, path) if path.starts_with(POLLER) || path.starts_with(LEASED) => Permission::Seek,
            (_, "/auth/app/{app}/poller/{sink}/token/rotate") => Permission::RotateSecret,
            (&Method::GET, AUTOCONFIG) => Permission::ReadSubscription,
            (&Method::PUT, path) if path.starts_with(AUTOCONFIG) => Permission::Subscribe,
            (_, "/app/{app}/autoconfig/{autoconfig}/rotate") => Permission::RotateSecret,
            (&Method::POST, "/app/{app}/autoconfig") | (&Method::DELETE, AUTOCONFIG) => Permission::ManageEndpoint,
            (&Method::GET, path) if path.ends_with("/secret") => Permission::ReadSecret,
            (&Method::GET, _) => Permission::Read,
            (&Method::POST, "/app/{app}/msg" | "/app/{app}/msg/precheck/active") => Permission::Send,
            (&Method::POST, "/app/{app}/msg/{msg}/endpoint/{endpoint}/resend") => Permission::Attempt,
            (_, path) if path.starts_with("/app/{app}/destination") => Permission::ManageEndpoint,
            (_, "/app/{app}/development-endpoint/{listener}") => Permission::ManageEndpoint,
            (_, path) => {
                match path.strip_prefix(ENDPOINTS).map(|rest| rest.strip_prefix("/{endpoint}").unwrap_or(rest)) {
                    Some("/secret/rotate") => Permission::RotateSecret,
                    Some("/transformation" | "/transformation/simulate") => Permission::Transform,
                    // With `resend` it also needs `Attempt`, which the handler checks.
                    Some("/reconcile") => Permission::Read,
                    Some("/recover" | "/replay-missing" | "/bulk-replay" | "/send-example") => Permission::Attempt,
                    Some("" | "/headers" | "/auto-config") => Permission::ManageEndpoint,
                    _ => Permission::Write,
                }
            }
        }
    }

    /// The least scope of an API key that grants this permission; `None`: any key has it.
    fn scope(self) -> Option<KeyScope> {
        match self {
            Permission::Nothing => None,
            Permission::Read | Permission::Poll | Permission::Consume | Permission::ReadSubscription => {
                Some(KeyScope::Read)
            }
            Permission::Send => Some(KeyScope::Send),
            _ => Some(KeyScope::Write),
        }
    }

    /// Capabilities that each grant this permission; empty: no customer can have it.
    fn capabilities(self) -> &'static [Capability] {
        match self {
            Permission::Nothing | Permission::Send | Permission::Write => &[],
            Permission::Read | Permission::Poll | Permission::ReadSubscription => &[Capability::ViewBase],
            Permission::ReadSecret => Capability::SEE_SECRET,
            Permission::RotateSecret => Capability::ROTATE_SECRET,
            Permission::Transform => &[Capability::ManageTransformations],
            Permission::Attempt => &[Capability::CreateAttempts],
            Permission::Consume | Permission::Seek | Permission::ManageEndpoint | Permission::Subscribe => {
                &[Capability::ManageEndpoint]
            }
        }
    }
}

impl Permissions {
    /// Checks that `permission` is granted.
    ///
    /// # Errors
    /// 403 that names the missing permission.
    pub fn check(&self, permission: Permission) -> Result<(), ApiError> {
        match self {
            _ if permission == Permission::Nothing => Ok(()),
            Permissions::All => Ok(()),
            Permissions::Poller(_)
                if matches!(permission, Permission::Poll | Permission::Consume | Permission::Seek) =>
            {
                Ok(())
            }
            Permissions::AutoConfig(_)
                if matches!(
                    permission,
                    Permission::Poll
                        | Permission::Consume
                        | Permission::Seek
                        | Permission::ReadSubscription
                        | Permission::Subscribe
                ) =>
            {
                Ok(())
            }
            Permissions::AutoConfig(_) => Err(ApiError::permission_denied(
                "this token can only manage its autoconfig subscription and fetch its messages",
            )),
            Permissions::Poller(_) => {
                Err(ApiError::permission_denied("this token can only fetch messages from its polling endpoint"))
            }
            Permissions::Key(scopes) => match permission.scope() {
                Some(scope) if !scopes.has(scope) => Err(ApiError::permission_denied(format!(
                    "this needs an API key with the scope {}; this one has: {scopes}",
                    scope.word()
                ))),
                _ => Ok(()),
            },
            Permissions::Application(capabilities) => {
                let wanted = permission.capabilities();
                let Some(least) = wanted.first() else { return Err(ApiError::needs_organization()) };
                match capabilities {
                    Some(has) if !wanted.iter().any(|one| has.contains(one)) => Err(ApiError::permission_denied(
                        format!("this needs a token with the capability {}", least.word()),
                    )),
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
    fn each_operation_requires_its_permission() {
        for (method, path, permission) in [
            (Method::GET, "/api/v1/app", Permission::Read),
            (Method::GET, "/api/v1/app/{app}/endpoint/{endpoint}/secret", Permission::ReadSecret),
            (Method::GET, "/api/v1/operational-webhook/endpoint/{endpoint}/secret/", Permission::ReadSecret),
            (Method::POST, "/api/v1/app/{app}/msg/", Permission::Send),
            (Method::HEAD, "/api/v1/app", Permission::Read),
            (Method::HEAD, "/api/v1/app/{app}/endpoint/{endpoint}/secret", Permission::ReadSecret),
            (Method::POST, "/api/v1/app", Permission::Write),
            (Method::POST, "/api/v1/app/{app}/endpoint", Permission::ManageEndpoint),
            (Method::PUT, "/api/v1/app/{app}/endpoint/{endpoint}", Permission::ManageEndpoint),
            (Method::PATCH, "/api/v1/app/{app}/endpoint/{endpoint}/headers", Permission::ManageEndpoint),
            (Method::POST, "/api/v1/app/{app}/endpoint/{endpoint}/secret/rotate", Permission::RotateSecret),
            (Method::PATCH, "/api/v1/app/{app}/endpoint/{endpoint}/transformation", Permission::Transform),
            (Method::POST, "/api/v1/app/{app}/endpoint/{endpoint}/recover", Permission::Attempt),
            (Method::POST, "/api/v1/app/{app}/endpoint/{endpoint}/reconcile", Permission::Read),
            (Method::POST, "/api/v1/app/{app}/msg/{msg}/endpoint/{endpoint}/resend", Permission::Attempt),
            (Method::POST, "/api/v1/operational-webhook/endpoint", Permission::Write),
            (Method::POST, "/api/v1/operational-webhook/endpoint/{endpoint}/secret/rotate", Permission::Write),
            (Method::POST, "/api/v1/auth/app-portal-access/{app}", Permission::Write),
            (Method::DELETE, "/api/v1/app/{app}/msg/{msg}/content", Permission::Write),
            (Method::POST, "/api/v1/app/{app}/endpoint/{endpoint}/something-new", Permission::Write),
            (Method::POST, "", Permission::Write),
            (Method::GET, "/api/v1/app/{app}/poller/{sink}", Permission::Poll),
            (Method::GET, "/api/v1/app/{app}/poller/{sink}/stream", Permission::Poll),
            (Method::GET, "/api/v1/app/{app}/poller/{sink}/consumer/{consumer}/", Permission::Consume),
            (Method::POST, "/api/v1/app/{app}/poller/{sink}/consumer/{consumer}/seek", Permission::Seek),
            (Method::GET, "/api/v1/app/{app}/polling-endpoint/{sink}/consumer/{consumer}", Permission::Consume),
            (Method::POST, "/api/v1/app/{app}/polling-endpoint/{sink}/consumer/{consumer}/commit", Permission::Seek),
            (Method::POST, "/api/v1/auth/app/{app}/poller/{sink}/token/rotate", Permission::RotateSecret),
            (Method::GET, "/api/v1/auth/app/{app}/poller/{sink}/token", Permission::Read),
            (Method::POST, "/api/v1/app/{app}/autoconfig", Permission::ManageEndpoint),
            (Method::GET, "/api/v1/app/{app}/autoconfig/{autoconfig}", Permission::ReadSubscription),
            (Method::DELETE, "/api/v1/app/{app}/autoconfig/{autoconfig}", Permission::ManageEndpoint),
            (Method::POST, "/api/v1/app/{app}/autoconfig/{autoconfig}/rotate", Permission::RotateSecret),
            (Method::PUT, "/api/v1/app/{app}/autoconfig/{autoconfig}/endpoint", Permission::Subscribe),
            (Method::PUT, "/api/v1/app/{app}/autoconfig/{autoconfig}/destination", Permission::Subscribe),
            (Method::POST, "/api/v1/app/{app}/destination", Permission::ManageEndpoint),
            (Method::DELETE, "/api/v1/app/{app}/destination/{sink}", Permission::ManageEndpoint),
            (Method::POST, "/api/v1/auth/logout", Permission::Nothing),
        ] {
            assert_eq!(Permission::required(&method, path), permission, "{method} {path}");
        }
    }

    #[test]
    fn scopes_and_capabilities_grant_their_permissions() {
        use Capability::*;
        let key = |scopes: &[KeyScope]| Permissions::Key(KeyScopes::of(scopes.iter().copied()));
        let visit = |capabilities: &[Capability]| Permissions::Application(Some(capabilities.to_vec()));
        let all = [
            Permission::Nothing,
            Permission::Read,
            Permission::Poll,
            Permission::Consume,
            Permission::Seek,
            Permission::ReadSecret,
            Permission::Send,
            Permission::RotateSecret,
            Permission::Transform,
            Permission::Attempt,
            Permission::ManageEndpoint,
            Permission::ReadSubscription,
            Permission::Subscribe,
            Permission::Write,
        ];
        let customer: Vec<Permission> =
            all.iter().copied().filter(|one| ![Permission::Send, Permission::Write].contains(one)).collect();
        for (permissions, granted) in [
            (Permissions::All, &all[..]),
            (key(&[KeyScope::Write]), &all),
            (
                key(&[KeyScope::Read]),
                &[
                    Permission::Nothing,
                    Permission::Read,
                    Permission::Poll,
                    Permission::Consume,
                    Permission::ReadSubscription,
                ],
            ),
            (
                Permissions::AutoConfig(AutoConfigId(uuid::Uuid::nil())),
                &[
                    Permission::Nothing,
                    Permission::Poll,
                    Permission::Consume,
                    Permission::Seek,
                    Permission::ReadSubscription,
                    Permission::Subscribe,
                ],
            ),
            (
                Permissions::Poller(PollingEndpointId(uuid::Uuid::nil())),
                &[Permission::Nothing, Permission::Poll, Permission::Consume, Permission::Seek],
            ),
            (key(&[KeyScope::Send]), &[Permission::Nothing, Permission::Send]),
            (key(&[]), &[Permission::Nothing]),
            (Permissions::Application(None), &customer),
            (visit(&Capability::ALL), &customer),
            (
                visit(&[ViewBase]),
                &[Permission::Nothing, Permission::Read, Permission::Poll, Permission::ReadSubscription],
            ),
            (
                visit(&[ViewBase, ViewEndpointSecret]),
                &[
                    Permission::Nothing,
                    Permission::Read,
                    Permission::Poll,
                    Permission::ReadSecret,
                    Permission::ReadSubscription,
                ],
            ),
            (
                visit(&[CreateAttempts, ManageTransformations]),
                &[Permission::Nothing, Permission::Transform, Permission::Attempt],
            ),
            (visit(&[ManageEndpointSecret]), &[Permission::Nothing, Permission::ReadSecret, Permission::RotateSecret]),
            (
                visit(&[ManageEndpoint]),
                &[
                    Permission::Nothing,
                    Permission::Consume,
                    Permission::Seek,
                    Permission::ReadSecret,
                    Permission::RotateSecret,
                    Permission::ManageEndpoint,
                    Permission::Subscribe,
                ],
            ),
        ] {
            let has: Vec<Permission> =
                all.iter().copied().filter(|permission| permissions.check(*permission).is_ok()).collect();
            assert_eq!(has, granted, "{permissions:?}");
        }
    }
}
