//! Views of applications, endpoints, the catalog and keys.

use std::collections::HashMap;

use sendoff::domain::EndpointId;
use sendoff::domain::catalog::event_type::EventType;
use sendoff::store::catalog::endpoint_list::{EndpointHealth, EndpointListFilter, ListedEndpoint};
use sendoff::store::{AppRef, EndpointRef, Tenant};

use super::{bit, walk};
use crate::model::acts::{Look, Who};
use crate::model::run::{Checked, World, said, same, told};
use crate::model::state::{End, orgs};

impl World {
    /// Who looks, and at which application.
    pub(super) fn looking(&self, look: &Look) -> (Tenant, sendoff::domain::AppId) {
        let app = self.model.app(look.app);
        (self.model.tenant(look.who, app), app)
    }

    pub(super) async fn applications(&self, look: &Look) -> Checked {
        let (tenant, _) = self.looking(look);
        let own = self.model.apps.values().filter(|app| self.model.has(&tenant, app.app.id));
        let own: Vec<_> = own.map(|app| (app.app.id, app.app.clone())).collect();
        if tenant.only.is_none() {
            walk(look, own.clone(), |app| app.id, async |page| self.store().applications(&tenant, &page).await).await?;
        }
        let text = if bit(look, 0) { "CUSTOMER" } else { "u1" };
        let begins = |text: &str, whole: &str| whole.to_lowercase().starts_with(&text.to_lowercase());
        let fits = |app: &sendoff::domain::catalog::application::Application| {
            begins(text, &app.name) || app.uid.as_ref().is_some_and(|uid| begins(text, uid.as_str()))
        };
        if tenant.only.is_none() {
            let like: Vec<_> = own.iter().filter(|(_, app)| fits(app)).cloned().collect();
            walk(look, like, |app| app.id, async |page| self.store().applications_like(&tenant, text, &page).await)
                .await?;
        }
        let ids: Vec<_> = self.model.apps.keys().copied().collect();
        let counts: HashMap<_, i64> = own
            .iter()
            .map(|(id, _)| (*id, self.model.ends_of(*id).count() as i64))
            .filter(|(_, count)| *count > 0)
            .collect();
        if tenant.only.is_none() {
            same("endpoints_in", told(self.store().endpoint_counts_by_app(&tenant, &ids).await), Ok(counts))?;
        }
        Ok(())
    }

    pub(super) async fn application(&self, look: &Look) -> Checked {
        let (tenant, app) = self.looking(look);
        let Some(found) = self.model.apps.get(&app) else { return Ok(()) };
        let there = self.model.has(&tenant, app);
        let wanted = there.then(|| found.app.clone());
        same("application", told(self.store().application(&tenant, &AppRef::Id(app)).await), Ok(wanted))?;
        let Some(uid) = found.app.uid.clone() else { return Ok(()) };
        // Another one may have this name in another organization.
        let named = self.model.named(Some(&tenant), &AppRef::Uid(uid.clone())).first().copied();
        let wanted = named.map(|id| self.model.apps[&id].app.clone());
        same(
            "application by uid",
            told(self.store().application(&tenant, &AppRef::Uid(uid.clone())).await),
            Ok(wanted),
        )?;
        same("app_id", told(self.another().app_id(&tenant, &AppRef::Uid(uid)).await), Ok(named))
    }

    pub(super) async fn catalog(&self, look: &Look) -> Checked {
        let (tenant, _) = self.looking(look);
        let own = self.model.event_types.iter().filter(|((org, _), _)| *org == tenant.org);
        let own: Vec<(String, EventType)> = own.map(|((_, name), found)| (name.clone(), found.clone())).collect();
        let (archived, flags) = (bit(look, 0), if bit(look, 1) { vec!["beta".to_owned()] } else { Vec::new() });
        let listed = own.iter().filter(|(_, found)| archived || !found.spec.archived).cloned().collect();
        let name = |found: &EventType| found.spec.name.clone();
        walk(look, listed, name, async |page| self.store().event_types(&tenant, archived, &page).await).await?;
        let offered = own.iter().filter(|(_, found)| found.spec.offered(&flags)).cloned().collect();
        walk(look, offered, name, async |page| self.store().offered_event_types(&tenant, &flags, &page).await).await?;
        for name in crate::model::run::TYPES {
            let wanted = own.iter().find(|(known, _)| known == name).map(|(_, found)| found.clone());
            same("event_type", told(self.store().event_type(&tenant, name).await), Ok(wanted))?;
        }
        Ok(())
    }

    pub(super) async fn keys(&self, look: &Look) -> Checked {
        let tenant = Tenant::org(orgs()[usize::from(look.app % 2)].clone());
        let own = self.model.keys.values().filter(|key| key.key.org == tenant.org);
        let own: Vec<_> = own.map(|key| (key.key.id, key.key.clone())).collect();
        walk(look, own, |key| key.id, async |page| self.store().api_keys(&tenant, &page).await).await?;
        for key in self.model.keys.values().take(2) {
            let wanted = Some(key.key.clone());
            same("api_key_by_hash", told(self.store().api_key_by_hash(&key.hash).await), Ok(wanted.clone()))?;
            let wanted = wanted.filter(|key| key.org == tenant.org);
            same("api_key", told(self.store().api_key(&tenant, key.key.id).await), Ok(wanted))?;
        }
        Ok(())
    }

    pub(super) async fn endpoints(&self, look: &Look) -> Checked {
        let (tenant, app) = self.looking(look);
        let has = self.model.has(&tenant, app);
        let own = self.model.ends_of(app).filter(|_| has).map(|end| (end.endpoint.id, end.endpoint.clone()));
        walk(look, own.collect(), |end| end.id, async |page| self.store().endpoints(&tenant, app, &page).await).await
    }

    pub(super) async fn endpoint(&self, look: &Look) -> Checked {
        let (app, id) = self.model.end(look.thing);
        let tenant = self.model.tenant(look.who, app);
        let Some(end) = self.model.ends.get(&id) else { return Ok(()) };
        let there = self.model.has_end(&tenant, app, id);
        let wanted = there.then(|| end.endpoint.clone());
        same("endpoint", told(self.store().endpoint(&tenant, app, &EndpointRef::Id(id)).await), Ok(wanted.clone()))?;
        if let Some(uid) = end.endpoint.spec.uid.clone() {
            let found = told(self.another().endpoint(&tenant, app, &EndpointRef::Uid(uid)).await);
            same("endpoint by uid", found, Ok(wanted))?;
        }
        // Not of this application, though it is somebody's.
        if let Some(other) = self.model.apps.keys().find(|other| **other != app) {
            let tenant = self.model.tenant(Who::Owner, *other);
            same("endpoint elsewhere", told(self.store().endpoint(&tenant, *other, &id.into()).await), Ok(None))?;
        }
        same("application_of", told(self.store().application_of(&tenant, id).await), Ok(there.then_some(app)))?;
        let line = there.then(|| self.line(end));
        same("endpoint_line", told(self.store().listed_endpoint(&tenant, app, id).await), Ok(line))?;
        let secret =
            said(self.store().endpoint_secret(&tenant, app, id).await)?.map(|secret| secret.text().to_string());
        let current = end.secrets.values().find(|(_, until)| until.is_none()).map(|(text, _)| text.clone());
        same("endpoint_secret", secret, current.filter(|_| there))?;
        for (made_at, (text, _)) in &end.secrets {
            let found = said(self.store().endpoint_secret_of(&tenant, app, id, *made_at).await)?;
            let found = found.map(|secret| secret.text().to_string());
            same("endpoint_secret_of", found, there.then(|| text.clone()))?;
        }
        Ok(())
    }

    fn line(&self, end: &End) -> ListedEndpoint {
        ListedEndpoint {
            endpoint: end.endpoint.clone(),
            app_name: self.model.apps[&end.endpoint.app_id].app.name.clone(),
            disabled_at: end.disabled_at,
            failing_since: end.failing_since,
            warned_at: end.warned_at,
            rests_until: None,
        }
    }

    pub(super) async fn lines(&self, look: &Look) -> Checked {
        let (tenant, app) = self.looking(look);
        let filter = EndpointListFilter {
            app: bit(look, 0).then_some(app),
            health: bit(look, 1).then_some(if bit(look, 2) {
                EndpointHealth::Failing
            } else {
                EndpointHealth::Enabled
            }),
            url: bit(look, 3).then(|| "HOOK/1".to_owned()),
        };
        let fits = |end: &&End| {
            let app = end.endpoint.app_id;
            let line = self.line(end);
            !end.deleted
                && self.model.has(&tenant, app)
                && filter.app.is_none_or(|wanted| wanted == app)
                && filter.health.is_none_or(|health| health == line.health())
                && (filter.url.is_none() || end.endpoint.spec.url.ends_with("Hook/1"))
        };
        let wanted = self.model.ends.values().filter(fits).map(|end| (end.endpoint.id, self.line(end))).collect();
        let id = |line: &ListedEndpoint| line.endpoint.id;
        walk(look, wanted, id, async |page| self.store().list_endpoints(&tenant, &filter, &page).await).await?;
        let ids: Vec<EndpointId> = self.model.ends.keys().copied().collect();
        let waits = |id: &EndpointId| {
            let own = self.model.apps[&self.model.ends[id].endpoint.app_id].app.org == tenant.org;
            let pending = self.model.pending().filter(|((_, endpoint), _)| endpoint == id).count();
            (*id, if own { pending.min(3) as i64 } else { 0 })
        };
        let wanted: HashMap<EndpointId, i64> = ids.iter().map(waits).collect();
        same("backlogs", told(self.store().backlogs(&tenant, &ids, 3).await), Ok(wanted))
    }
}
