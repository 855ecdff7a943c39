//! Who asks, and for what: the organization (and, for a customer's own token, the one application) that a call is bound to, and
//! the ways in which a thing can be named.

use crate::domain::{AppId, EndpointId, Invalid, MessageId, OrgId, PollingEndpointId, Uid};

/// Whom a call is for. Each statement that serves a caller is bound to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tenant {
    pub org: OrgId,
    /// Set for an application's own token: nothing of any other application is seen.
    pub only: Option<AppId>,
}

impl Tenant {
    /// All of an organization.
    pub fn org(org: OrgId) -> Tenant {
        Tenant { org, only: None }
    }

    /// Whether it may see the application.
    pub fn sees(&self, app: AppId) -> bool {
        self.only.is_none_or(|only| only == app)
    }
}

macro_rules! reference {
    ($(#[$doc:meta])* $name:ident, $id:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            Id($id),
            Uid(Uid),
        }

        impl $name {
            /// Reads an id of ours or a name of the caller's own.
            ///
            /// # Errors
            /// The text can be neither.
            pub fn parse(text: &str) -> Result<$name, Invalid> {
                match text.parse::<$id>() {
                    Ok(id) => Ok($name::Id(id)),
                    Err(_) => Uid::parse("id", text, $id::PREFIX).map($name::Uid),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $name::Id(id) => id.fmt(f),
                    $name::Uid(uid) => uid.fmt(f),
                }
            }
        }

        impl From<$id> for $name {
            fn from(id: $id) -> $name {
                $name::Id(id)
            }
        }
    };
}

reference!(
    /// An application by its id or uid.
    AppRef, AppId
);
reference!(
    /// An endpoint by its id or uid.
    EndpointRef, EndpointId
);
reference!(
    /// A polling endpoint by its id or uid.
    PollingEndpointRef, PollingEndpointId
);
reference!(
    /// A message by its id or the caller's event id.
    MessageRef, MessageId
);
