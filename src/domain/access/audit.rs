//! The **audit log**: an entry records an **act**, one of [`ACTIONS`], and its [`Actor`].

/// The kind of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorKind {
    /// A dashboard user with an account.
    Operator,
    /// A dashboard user who signed in with a one-time link.
    Link,
    /// A portal user.
    Customer,
    /// A REST caller with an API key.
    Key,
    /// A REST caller with a token.
    Token,
    /// A user of the command line.
    Command,
    /// Sendoff itself, e.g. when it disables a failing endpoint.
    Engine,
}

/// The engine's name in the log.
pub const ENGINE: &str = "Sendoff";

impl ActorKind {
    const ALL: [ActorKind; 7] = [
        ActorKind::Operator,
        ActorKind::Link,
        ActorKind::Customer,
        ActorKind::Key,
        ActorKind::Token,
        ActorKind::Command,
        ActorKind::Engine,
    ];

    /// The stored word.
    pub const fn word(self) -> &'static str {
        match self {
            ActorKind::Operator => "operator",
            ActorKind::Link => "link",
            ActorKind::Customer => "customer",
            ActorKind::Key => "key",
            ActorKind::Token => "token",
            ActorKind::Command => "command",
            ActorKind::Engine => "engine",
        }
    }

    /// Parses the stored word.
    pub fn from_word(word: &str) -> Option<ActorKind> {
        ActorKind::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// All acts, in the order of the dashboard's filter. The words are stored.
pub const ACTIONS: [&str; 50] = [
    action::SIGNED_IN,
    action::SIGN_IN_FAILED,
    action::SIGNED_OUT,
    action::SECRET_REVEALED,
    action::SECRET_ROTATED,
    action::DELIVERY_RESENT,
    action::DELIVERY_CANCELED,
    action::RESEND_BEGUN,
    action::RESEND_CANCELED,
    action::MESSAGE_SENT,
    action::TEST_EVENT_SENT,
    action::CONTENT_DELETED,
    action::APPLICATION_CREATED,
    action::APPLICATION_CHANGED,
    action::APPLICATION_DELETED,
    action::ENDPOINT_CREATED,
    action::ENDPOINT_CHANGED,
    action::ENDPOINT_ENABLED,
    action::ENDPOINT_DISABLED,
    action::ENDPOINT_DELETED,
    action::POLLING_ENDPOINT_CREATED,
    action::POLLING_ENDPOINT_CHANGED,
    action::POLLING_ENDPOINT_DELETED,
    action::POLLING_TOKEN_ROTATED,
    action::AUTOCONFIG_CREATED,
    action::AUTOCONFIG_ROTATED,
    action::AUTOCONFIG_SUBSCRIBED,
    action::AUTOCONFIG_DELETED,
    action::EVENT_TYPE_CHANGED,
    action::EVENT_TYPE_DELETED,
    action::KEY_CREATED,
    action::KEY_REVOKED,
    action::PORTAL_LINK_MADE,
    action::PORTAL_EXPIRED,
    action::PORTAL_SESSION_ENDED,
    action::ORGANIZATION_CREATED,
    action::ORGANIZATION_CHANGED,
    action::OPERATOR_CREATED,
    action::OPERATOR_CHANGED,
    action::OPERATOR_REMOVED,
    action::PASSWORD_CHANGED,
    action::RESET_LINK_MADE,
    action::PASSWORD_RESET,
    action::SECOND_FACTOR_ADDED,
    action::SECOND_FACTOR_REMOVED,
    action::RECOVERY_CODES_REPLACED,
    action::SESSION_ENDED,
    action::OUTBOX_ROW_RETRIED,
    action::OUTBOX_ROW_CHANGED,
    action::OUTBOX_ROW_DISCARDED,
];

/// The acts by name.
pub mod action {
    pub const SIGNED_IN: &str = "signed in";
    pub const SIGN_IN_FAILED: &str = "sign-in failed";
    pub const SIGNED_OUT: &str = "signed out";
    pub const SECRET_REVEALED: &str = "secret revealed";
    pub const SECRET_ROTATED: &str = "secret rotated";
    pub const DELIVERY_RESENT: &str = "delivery resent";
    pub const DELIVERY_CANCELED: &str = "delivery canceled";
    /// A resend of many deliveries, as a background task.
    pub const RESEND_BEGUN: &str = "resend begun";
    pub const RESEND_CANCELED: &str = "resend canceled";
    /// From a dashboard page. Messages sent over REST are not audited.
    pub const MESSAGE_SENT: &str = "message sent by hand";
    pub const TEST_EVENT_SENT: &str = "test event sent";
    pub const CONTENT_DELETED: &str = "content deleted";
    pub const APPLICATION_CREATED: &str = "application created";
    pub const APPLICATION_CHANGED: &str = "application changed";
    pub const APPLICATION_DELETED: &str = "application deleted";
    pub const ENDPOINT_CREATED: &str = "endpoint created";
    pub const ENDPOINT_CHANGED: &str = "endpoint changed";
    pub const ENDPOINT_ENABLED: &str = "endpoint enabled";
    pub const ENDPOINT_DISABLED: &str = "endpoint disabled";
    pub const ENDPOINT_DELETED: &str = "endpoint deleted";
    pub const POLLING_ENDPOINT_CREATED: &str = "polling endpoint created";
    pub const POLLING_ENDPOINT_CHANGED: &str = "polling endpoint changed";
    pub const POLLING_ENDPOINT_DELETED: &str = "polling endpoint deleted";
    pub const POLLING_TOKEN_ROTATED: &str = "polling token rotated";
    pub const AUTOCONFIG_CREATED: &str = "autoconfig created";
    pub const AUTOCONFIG_ROTATED: &str = "autoconfig rotated";
    /// A receiver's program created or updated its endpoint or polling endpoint.
    pub const AUTOCONFIG_SUBSCRIBED: &str = "autoconfig subscribed";
    pub const AUTOCONFIG_DELETED: &str = "autoconfig deleted";
    /// Created, changed or archived; the detail says which.
    pub const EVENT_TYPE_CHANGED: &str = "event type changed";
    pub const EVENT_TYPE_DELETED: &str = "event type deleted";
    pub const KEY_CREATED: &str = "key created";
    pub const KEY_REVOKED: &str = "key revoked";
    pub const PORTAL_LINK_MADE: &str = "portal link made";
    pub const PORTAL_EXPIRED: &str = "portal access expired";
    pub const PORTAL_SESSION_ENDED: &str = "portal session ended";
    pub const ORGANIZATION_CREATED: &str = "organization created";
    pub const ORGANIZATION_CHANGED: &str = "organization changed";
    pub const OPERATOR_CREATED: &str = "operator created";
    /// Role or organizations; the detail says which.
    pub const OPERATOR_CHANGED: &str = "operator changed";
    pub const OPERATOR_REMOVED: &str = "operator removed";
    pub const PASSWORD_CHANGED: &str = "password changed";
    /// An admin created a link to set a new password.
    pub const RESET_LINK_MADE: &str = "password reset link made";
    pub const PASSWORD_RESET: &str = "password reset";
    pub const SECOND_FACTOR_ADDED: &str = "second factor added";
    pub const SECOND_FACTOR_REMOVED: &str = "second factor removed";
    pub const RECOVERY_CODES_REPLACED: &str = "recovery codes replaced";
    /// An operator's session, by its operator or an admin.
    pub const SESSION_ENDED: &str = "operator session ended";
    pub const OUTBOX_ROW_RETRIED: &str = "outbox row retried";
    pub const OUTBOX_ROW_CHANGED: &str = "outbox row changed";
    pub const OUTBOX_ROW_DISCARDED: &str = "outbox row discarded";
}

/// The author of an act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    pub kind: ActorKind,
    /// Display name: an operator's name, a key's name and last characters, a portal session's id. Never a secret.
    pub who: String,
}

impl Actor {
    pub fn new(kind: ActorKind, who: impl Into<String>) -> Actor {
        Actor { kind, who: who.into() }
    }
}
