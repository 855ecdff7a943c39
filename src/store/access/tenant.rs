//! The tenant of a request, and references by id or by the caller's own name.

use crate::domain::{AppId, EndpointId, Invalid, MessageId, OrgId, PollingEndpointId, Uid};

/// The organization, and possibly the one application, that a request is restricted to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tenant {
    pub org: OrgId,
    /// Set for a customer's token: only this application is visible.
    pub only: Option<AppId>,
}

impl Tenant {
    /// A tenant with access to a whole organization.
    pub fn org(org: OrgId) -> Tenant {
        Tenant { org, only: None }
    }

    /// Whether the application is visible, if it belongs to the organization.
    pub fn sees(&self, app: AppId) -> bool {
        self.only.is_none_or(|only| only == app)
    }

    /// The organization to look for the application in; `None`: it is not visible.
    pub fn org_of(&self, app: AppId) -> Option<&OrgId> {
        self.sees(app).then_some(&self.org)
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
            /// Parses an id or the caller's own name.
            ///
            /// # Errors
            /// The text is neither.
            pub fn parse(text: &str) -> Result<$name, Invalid> {
                match text.parse::<$id>() {
                    Ok(id) => Ok($name::Id(id)),
                    Err(_) => Uid::parse("id", text, $id::PREFIX).map($name::Uid),
                }
            }

            /// The caller's own name, unless this is an id.
            pub fn uid(&self) -> Option<&Uid> {
                match self {
                    $name::Id(_) => None,
                    $name::Uid(uid) => Some(uid),
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
