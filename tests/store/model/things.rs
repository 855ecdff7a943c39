//! What acts make of the model: applications, endpoints, the catalog. Errors are compared by their kind.

use std::time::Duration;

use sendoff::domain::catalog::application::{Application, ApplicationSpec};
use sendoff::domain::catalog::endpoint::{DisabledReason, Endpoint, EndpointSpec};
use sendoff::domain::catalog::event_type::{EventType, EventTypeSpec};
use sendoff::domain::signing::secret::Secret;
use sendoff::domain::{AppId, EndpointId, OrgId, Time, Uid, limits};
use sendoff::store::{StoreError, Tenant};

use super::state::{App, End, Model};

/// The kind of an error.
pub type Word = &'static str;

pub fn word(error: &StoreError) -> Word {
    match error {
        StoreError::Unavailable(_) => "unavailable",
        StoreError::Conflict(_) => "conflict",
        StoreError::Overloaded => "overloaded",
        StoreError::Crowded { .. } => "crowded",
        StoreError::Taken(_) => "taken",
        StoreError::Repeated => "repeated",
        StoreError::Invalid(_) => "invalid",
        StoreError::Refused(_) => "refused",
        StoreError::Damaged(_) => "damaged",
        StoreError::Sealed(_) => "sealed",
        StoreError::Unusable(_) => "unusable",
    }
}

/// What became of changing an endpoint.
#[derive(Debug, PartialEq)]
pub enum Change {
    Done(Box<Endpoint>),
    Stale,
    Gone,
}

impl Model {
    fn app_uid_taken(&self, org: &OrgId, uid: Option<&Uid>, by_other_than: Option<AppId>) -> bool {
        let same = |app: &App| app.app.org == *org && app.app.uid.as_ref() == uid && Some(app.app.id) != by_other_than;
        uid.is_some() && self.apps.values().any(|app| !app.deleted && same(app))
    }

    /// Whether an application can be made, but for its key.
    pub fn may_create_app(&self, org: &OrgId, spec: &ApplicationSpec) -> Result<(), Word> {
        if self.app_uid_taken(org, spec.uid.as_ref(), None) { Err("taken") } else { Ok(()) }
    }

    pub fn update_app(
        &mut self,
        tenant: &Tenant,
        id: AppId,
        spec: ApplicationSpec,
        now: Time,
    ) -> Result<Option<Application>, Word> {
        if !self.has(tenant, id) {
            return Ok(None);
        }
        if self.app_uid_taken(&tenant.org, spec.uid.as_ref(), Some(id)) {
            return Err("taken");
        }
        let Some(found) = self.apps.get_mut(&id) else { return Ok(None) };
        let ApplicationSpec { uid, name, throttle_rate, metadata, contact_email } = spec;
        let app =
            Application { uid, name, throttle_rate, metadata, contact_email, updated_at: now, ..found.app.clone() };
        found.app = app.clone();
        self.retry_stuck_rows(&app);
        Ok(Some(app))
    }

    pub fn delete_app(&mut self, tenant: &Tenant, id: AppId) -> bool {
        if !self.has(tenant, id) {
            return false;
        }
        for end in self.ends.values_mut().filter(|end| end.endpoint.app_id == id) {
            end.deleted = true;
            end.endpoint.spec.uid = None;
        }
        if let Some(app) = self.apps.get_mut(&id) {
            app.deleted = true;
            app.app.uid = None;
        }
        true
    }

    /// Whether a filter names only what is in the catalog, archived or not, and the uid is free in its application.
    fn spec_fits(&self, tenant: &Tenant, app: AppId, spec: &EndpointSpec, own: Option<EndpointId>) -> Result<(), Word> {
        let known = |name: &String| self.event_types.contains_key(&(tenant.org.clone(), name.clone()));
        if !spec.event_types.iter().flatten().all(known) {
            return Err("invalid");
        }
        let same = |end: &End| end.endpoint.spec.uid == spec.uid && Some(end.endpoint.id) != own;
        if spec.uid.is_some() && self.ends_of(app).any(same) { Err("taken") } else { Ok(()) }
    }

    /// Whether an endpoint can be made, but for its key.
    pub fn may_create_end(&self, tenant: &Tenant, app: AppId, spec: &EndpointSpec) -> Result<(), Word> {
        if !self.has(tenant, app) {
            return Err("invalid");
        }
        self.spec_fits(tenant, app, spec, None)
    }

    pub fn create_end(&mut self, endpoint: Endpoint, secret: &Secret) {
        let made_at = endpoint.created_at;
        let end = End {
            deleted: false,
            disabled_at: endpoint.spec.disabled.then_some(made_at),
            failing_since: None,
            warned: 0,
            warned_at: None,
            secrets: [(made_at, (secret.text().to_string(), None))].into(),
            endpoint,
        };
        self.ends.insert(end.endpoint.id, end);
    }

    pub fn update_end(
        &mut self,
        tenant: &Tenant,
        before: &Endpoint,
        spec: EndpointSpec,
        now: Time,
    ) -> Result<Change, Word> {
        if !self.has_end(tenant, before.app_id, before.id) {
            return Ok(Change::Gone);
        }
        if self.ends.get(&before.id).is_none_or(|end| end.endpoint != *before) {
            return Ok(Change::Stale);
        }
        self.spec_fits(tenant, before.app_id, &spec, Some(before.id))?;
        let Some(end) = self.ends.get_mut(&before.id) else { return Ok(Change::Gone) };
        let was_disabled = end.endpoint.spec.disabled;
        match (was_disabled, spec.disabled) {
            (true, false) => {
                (end.disabled_at, end.failing_since, end.endpoint.disabled_reason) = (None, None, None);
                (end.warned, end.warned_at) = (0, None);
            }
            (false, true) => {
                (end.disabled_at, end.endpoint.disabled_reason) = (Some(now), Some(DisabledReason::Manual));
            }
            _ => {}
        }
        (end.endpoint.spec, end.endpoint.updated_at) = (spec, now);
        Ok(Change::Done(Box::new(end.endpoint.clone())))
    }

    pub fn delete_end(&mut self, tenant: &Tenant, app: AppId, id: EndpointId) -> bool {
        if !self.has_end(tenant, app, id) {
            return false;
        }
        if let Some(end) = self.ends.get_mut(&id) {
            end.deleted = true;
            end.endpoint.spec.uid = None;
        }
        true
    }

    pub fn rotate(
        &mut self,
        tenant: &Tenant,
        (app, id): (AppId, EndpointId),
        secret: &Secret,
        grace: Duration,
        now: Time,
    ) -> Result<bool, Word> {
        if !self.has_end(tenant, app, id) {
            return Ok(false);
        }
        if let Some(end) = self.ends.get_mut(&id) {
            let mut secrets = end.secrets.clone();
            let current = secrets.values_mut().filter(|(_, until)| until.is_none());
            current.for_each(|(_, until)| *until = Some(now.plus(grace)));
            secrets.retain(|_, (_, until)| until.is_none_or(|until| until > now));
            if secrets.len() > limits::OLD_SECRETS {
                return Err("invalid");
            }
            secrets.insert(now, (secret.text().to_string(), None));
            end.secrets = secrets;
            end.endpoint.spec.signature_type = secret.kind();
        }
        Ok(true)
    }

    /// A name is taken by what is not archived; what is comes back to life.
    pub fn create_event_type(&mut self, org: &OrgId, spec: EventTypeSpec, now: Time) -> Result<EventType, Word> {
        match self.event_types.get(&(org.clone(), spec.name.clone())) {
            Some(found) if !found.spec.archived => Err("taken"),
            _ => Ok(self.put_event_type(org, spec, now)),
        }
    }

    pub fn put_event_type(&mut self, org: &OrgId, spec: EventTypeSpec, now: Time) -> EventType {
        let key = (org.clone(), spec.name.clone());
        let created_at = self.event_types.get(&key).map_or(now, |found| found.created_at);
        let event_type = EventType { org: org.clone(), spec, created_at, updated_at: now };
        self.event_types.insert(key, event_type.clone());
        event_type
    }

    pub fn delete_event_type(&mut self, org: &OrgId, name: &str, expunge: bool, now: Time) -> bool {
        let key = (org.clone(), name.to_owned());
        if expunge {
            return self.event_types.remove(&key).is_some();
        }
        let Some(found) = self.event_types.get_mut(&key) else { return false };
        found.spec.archived = true;
        found.updated_at = now;
        true
    }
}
