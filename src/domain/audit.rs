//! The **audit log**: who did what to what. An [`Actor`] is whoever acts; an [`Act`] is one kind of thing that they do.

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
}

impl ActorKind {
    const ALL: [ActorKind; 6] = [
        ActorKind::Operator,
        ActorKind::Link,
        ActorKind::Customer,
        ActorKind::Key,
        ActorKind::Token,
        ActorKind::Command,
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
        }
    }

    /// The kind of such a word.
    pub fn from_word(word: &str) -> Option<ActorKind> {
        ActorKind::ALL.into_iter().find(|kind| kind.word() == word)
    }
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
