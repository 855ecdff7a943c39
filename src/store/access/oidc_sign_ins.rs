//! Sign-in through an identity provider: finds or creates the account of issuer and subject, and opens a session.

use crate::domain::Time;
use crate::domain::access::audit::action;
use crate::domain::access::oidc::OidcIdentity;
use crate::domain::access::operator::Operator;
use crate::store::access::audit::NewAuditEntry;
use crate::store::access::operator_sessions::NewSession;
use crate::store::access::operators::access;
use crate::store::{Store, StoreError, on};

impl Store {
    /// Opens a session for an identity that the provider confirmed, and sets the account's role to the identity's. A
    /// new account sees all organizations.
    ///
    /// # Errors
    /// The name of a new account is taken ([`StoreError::Taken`]), there are already 500 accounts, or the store is
    /// unavailable.
    pub async fn sign_in_by_oidc(
        &self,
        identity: &OidcIdentity,
        new: NewSession<'_>,
        now: Time,
    ) -> Result<(), StoreError> {
        self.retry_conflicts(|| async {
            const SEE: &str = "UPDATE operator SET role = $2, seen_at = $3 WHERE id = $1";
            let mut tx = self.begin().await?;
            let found = self.operator_of(&mut tx, &identity.issuer, &identity.subject).await?;
            let operator = match found {
                Some(found) => {
                    let operator = Operator { role: identity.role, ..found.clone() };
                    if operator.role != found.role {
                        let (org, access) = (operator.home(), access(&operator));
                        let changed = NewAuditEntry::of(&org, action::OPERATOR_CHANGED, &operator.name).with(&access);
                        self.audit(&mut tx, changed, now).await?;
                    }
                    operator
                }
                None => {
                    let operator = Operator::new(&identity.name, identity.role, None, now);
                    let operator = operator.map_err(StoreError::Invalid)?;
                    let operator = Operator { has_password: false, ..operator };
                    self.insert_operator(&mut tx, &operator.home(), &operator, None, Some(identity), now).await?;
                    operator
                }
            };
            let role = identity.role.word();
            on!(tx, db => sqlx::query(SEE).bind(operator.id).bind(role).bind(now).execute(db).await.map(drop))?;
            self.insert_session(&mut tx, &operator.home(), Some(operator.id), new, "by OIDC", now).await?;
            tx.commit().await
        })
        .await
    }
}
