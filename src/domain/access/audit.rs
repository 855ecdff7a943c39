//! The **audit log**: who did what to what. An [`Actor`] is whoever acts; an **act** is one kind of thing that they do,
//! by its word.

/// What kind of somebody acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorKind {
    /// Signed in to the dashboard with an account.
    Operator,
    /// Signed in to the dashboard by a one-time link.
    Link,
    /// In the portal.
    Customer,
    /// Over the REST API, with an API key.
    Key,
    /// Over the REST API, with a token.
    Token,
    /// On the command line.
    Command,
    /// Sendoff itself: what it did because of how an endpoint answered.
    Engine,
}

/// How the engine is called in the log.
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

    /// The word under which it is stored.
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

    /// The kind of such a word.
    pub fn from_word(word: &str) -> Option<ActorKind> {
        ActorKind::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// What is done, in the words of the log: a thing, and what became of it. Grouped as they are shown to choose from.
pub const ACTS: [&str; 41] = [
    act::SIGNED_IN,
    act::SIGN_IN_FAILED,
    act::SIGNED_OUT,
    act::SECRET_REVEALED,
    act::SECRET_ROTATED,
    act::DELIVERY_RESENT,
    act::DELIVERY_CANCELED,
    act::RESEND_BEGUN,
    act::RESEND_CANCELED,
    act::MESSAGE_SENT,
    act::TEST_EVENT_SENT,
    act::CONTENT_DELETED,
    act::APPLICATION_CREATED,
    act::APPLICATION_CHANGED,
    act::APPLICATION_DELETED,
    act::ENDPOINT_CREATED,
    act::ENDPOINT_CHANGED,
    act::ENDPOINT_ENABLED,
    act::ENDPOINT_DISABLED,
    act::ENDPOINT_DELETED,
    act::POLLING_ENDPOINT_CREATED,
    act::POLLING_ENDPOINT_CHANGED,
    act::POLLING_ENDPOINT_DELETED,
    act::POLLING_TOKEN_ROTATED,
    act::AUTOCONFIG_CREATED,
    act::AUTOCONFIG_ROTATED,
    act::AUTOCONFIG_SUBSCRIBED,
    act::AUTOCONFIG_DELETED,
    act::EVENT_TYPE_CHANGED,
    act::EVENT_TYPE_DELETED,
    act::KEY_CREATED,
    act::KEY_REVOKED,
    act::PORTAL_LINK_MADE,
    act::PORTAL_EXPIRED,
    act::PORTAL_SESSION_ENDED,
    act::OPERATOR_CREATED,
    act::OPERATOR_REMOVED,
    act::PASSWORD_CHANGED,
    act::OUTBOX_ROW_RETRIED,
    act::OUTBOX_ROW_CHANGED,
    act::OUTBOX_ROW_DISCARDED,
];

/// The acts by name.
pub mod act {
    pub const SIGNED_IN: &str = "signed in";
    pub const SIGN_IN_FAILED: &str = "sign-in failed";
    pub const SIGNED_OUT: &str = "signed out";
    pub const SECRET_REVEALED: &str = "secret revealed";
    pub const SECRET_ROTATED: &str = "secret rotated";
    pub const DELIVERY_RESENT: &str = "delivery resent";
    pub const DELIVERY_CANCELED: &str = "delivery canceled";
    /// Of many deliveries, in the background.
    pub const RESEND_BEGUN: &str = "resend begun";
    pub const RESEND_CANCELED: &str = "resend canceled";
    /// From a page. What programs send is in the list of messages.
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
    /// A receiver's program made its endpoint or polling endpoint, or changed it.
    pub const AUTOCONFIG_SUBSCRIBED: &str = "autoconfig subscribed";
    pub const AUTOCONFIG_DELETED: &str = "autoconfig deleted";
    /// Made, changed or archived: the detail says which.
    pub const EVENT_TYPE_CHANGED: &str = "event type changed";
    pub const EVENT_TYPE_DELETED: &str = "event type deleted";
    pub const KEY_CREATED: &str = "key created";
    pub const KEY_REVOKED: &str = "key revoked";
    pub const PORTAL_LINK_MADE: &str = "portal link made";
    pub const PORTAL_EXPIRED: &str = "portal access expired";
    pub const PORTAL_SESSION_ENDED: &str = "portal session ended";
    pub const OPERATOR_CREATED: &str = "operator created";
    pub const OPERATOR_REMOVED: &str = "operator removed";
    pub const PASSWORD_CHANGED: &str = "password changed";
    pub const OUTBOX_ROW_RETRIED: &str = "outbox row retried";
    pub const OUTBOX_ROW_CHANGED: &str = "outbox row changed";
    pub const OUTBOX_ROW_DISCARDED: &str = "outbox row discarded";
}

/// Whoever acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    pub kind: ActorKind,
    /// As people know them: an operator's name, a key's name and its last characters, a visit's name. Never a secret.
    pub who: String,
}

impl Actor {
    pub fn new(kind: ActorKind, who: impl Into<String>) -> Actor {
        Actor { kind, who: who.into() }
    }
}
