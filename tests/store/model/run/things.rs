//! Acts on applications, endpoints, the catalog and keys.

use std::collections::BTreeMap;
use std::time::Duration;

use sendoff::domain::access::api_key::{ApiKey, KeyScope, KeyScopes, KeySpec, hash};
use sendoff::domain::catalog::application::{Application, ApplicationSpec};
use sendoff::domain::catalog::endpoint::{DisabledReason, Endpoint, EndpointSpec, HeaderChange};
use sendoff::domain::catalog::event_type::EventTypeSpec;
use sendoff::domain::signing::secret::{Secret, SignatureType};
use sendoff::domain::{KeyId, OrgId, Uid};
use sendoff::store::Tenant;
use sendoff::store::catalog::applications::Upserted;
use sendoff::store::catalog::change::UpdateResult;
use sendoff::store::catalog::endpoint_update::OptimisticUpdate;
use sendoff::store::ingest::idempotency::IdempotencyKey;

use super::{Checked, World, agree, said, same, told};
use crate::model::acts::{Act, Ends, Pick, Who};
use crate::model::state::{App, Key, one_of, orgs};
use crate::model::things::Change;

pub const TYPES: [&str; 4] = ["invoice.paid", "invoice.sent", "user.made", "user.gone"];
pub const CHANNELS: [&str; 2] = ["red", "blue"];

/// The names whose bits are set.
pub fn names(of: &[&str], bits: u8) -> Vec<String> {
    of.iter().enumerate().filter(|(n, _)| bits >> n & 1 == 1).map(|(_, name)| (*name).to_owned()).collect()
}

pub fn uid(number: Option<u8>) -> Option<Uid> {
    number.map(|number| Uid::parse("uid", &format!("u{number}"), "app_").expect("a uid"))
}

fn app_spec(number: Option<u8>, rate: Option<u16>) -> ApplicationSpec {
    let name = format!("customer {}", number.map_or(9, u16::from) + rate.unwrap_or(0));
    let metadata = rate.map(|rate| ("rate".to_owned(), rate.to_string())).into_iter().collect();
    ApplicationSpec { uid: uid(number), name, throttle_rate: rate, metadata, contact_email: None }
}

fn end_spec(ends: &Ends) -> EndpointSpec {
    EndpointSpec {
        uid: uid(ends.uid),
        url: format!("https://example.com/Hook/{}", ends.url),
        description: format!("number {}", ends.url),
        disabled: ends.disabled,
        // Where its deliveries stand is the same as anywhere; only who reads them goes by their numbers.
        ordered: ends.url == 3,
        event_types: ends.types.map(|bits| names(&TYPES, bits)),
        channels: ends.channels.map(|bits| names(&CHANNELS, bits)),
        throttle_rate: ends.rate,
        timeout: ends.rate.map(|rate| Duration::from_secs(u64::from(rate) % 30 + 1)),
        headers: ends.rate.map(|rate| ("x-rate".to_owned(), rate.to_string())).into_iter().collect(),
        ..EndpointSpec::default()
    }
}

fn event_type(name: u8, flag: bool) -> EventTypeSpec {
    EventTypeSpec {
        name: TYPES[usize::from(name)].to_owned(),
        description: if flag { "for some" } else { "for all" }.to_owned(),
        feature_flags: if flag { vec!["beta".to_owned()] } else { Vec::new() },
        schemas: serde_json::json!({"1": {"type": "object", "properties": {"n": {"type": "integer"}}}})
            .as_object()
            .cloned(),
        ..EventTypeSpec::default()
    }
}

impl World {
    /// `None`: the act is another's.
    pub(super) async fn act_on_things(&mut self, act: &Act) -> Option<Checked> {
        Some(match act {
            Act::CreateApp { other, uid, rate, once } => self.create_app(*other, app_spec(*uid, *rate), *once).await,
            Act::UpdateApp { who, app, uid, rate } => self.update_app(*who, *app, app_spec(*uid, *rate)).await,
            Act::DeleteApp { who, app } => {
                let app = self.model.app(*app);
                let tenant = self.model.tenant(*who, app);
                let found = told(self.store().delete_application(&tenant, app, self.now).await);
                same("delete_application", found, Ok(self.model.delete_app(&tenant, app)))
            }
            Act::CreateEndpoint { who, app, ends, once } => self.create_end(*who, *app, end_spec(ends), *once).await,
            Act::UpdateEndpoint { who, endpoint, ends, stale } => {
                self.update_end(*who, *endpoint, end_spec(ends), *stale).await
            }
            Act::Toggle { endpoint } => {
                let id = self.model.end(*endpoint).1;
                let Some(end) = self.model.ends.get(&id) else { return Some(Ok(())) };
                let spec = EndpointSpec { disabled: !end.endpoint.spec.disabled, ..end.endpoint.spec.clone() };
                self.update_end(Who::Owner, *endpoint, spec, false).await
            }
            Act::DeleteEndpoint { who, endpoint } => {
                let (app, id) = self.model.end(*endpoint);
                let tenant = self.model.tenant(*who, app);
                let found = told(self.store().delete_endpoint(&tenant, app, id, self.now).await);
                same("delete_endpoint", found, Ok(self.model.delete_end(&tenant, app, id)))
            }
            Act::RotateSecret { who, endpoint, grace } => {
                let (secret, grace) =
                    (Secret::generate(SignatureType::Hmac256), Duration::from_secs(u64::from(*grace)));
                let (app, id) = self.model.end(*endpoint);
                let tenant = self.model.tenant(*who, app);
                let found = told(self.store().rotate_secret(&tenant, app, id, &secret, grace, self.now).await);
                same("rotate_secret", found, self.model.rotate(&tenant, (app, id), &secret, grace, self.now))
            }
            Act::ChangeHeaders { who, endpoint, value } => self.change_headers(*who, *endpoint, *value).await,
            Act::CreateEventType { .. } | Act::PutEventType { .. } | Act::DeleteEventType { .. } => {
                self.act_on_catalog(act).await
            }
            Act::AddKey { other } => self.add_key(orgs()[usize::from(*other)].clone()).await,
            Act::RevokeKey { who, key } => self.revoke_key(*who, *key).await,
            Act::KeysUsed { keys, back } => self.keys_used(keys, *back).await,
            _ => return None,
        })
    }

    /// Whether a call under this key may do what it may do without.
    pub(super) fn may_once<E>(&self, once: Option<&IdempotencyKey>, may: Result<(), E>, repeated: E) -> Result<(), E> {
        if self.model.is_repeat(once, self.now) { Err(repeated) } else { may }
    }

    async fn create_app(&mut self, other: bool, spec: ApplicationSpec, key: Option<u8>) -> Checked {
        let (org, once, now) = (orgs()[usize::from(other)].clone(), self.once(key), self.now);
        let may = self.may_once(once.as_ref(), self.model.may_create_app(&org, &spec), "repeated");
        let store = self.acting(once.as_ref());
        let found = store.create_application(&Tenant::org(org.clone()), spec.clone(), now).await;
        let Some(app) = agree("create_application", found, may)? else { return Ok(()) };
        let ApplicationSpec { uid, name, throttle_rate, metadata, contact_email } = spec;
        let (id, created_at, updated_at) = (app.id, now, now);
        let wanted = Application { id, org, uid, name, throttle_rate, metadata, contact_email, created_at, updated_at };
        self.model.enter_once(once, id.to_string());
        self.model.retry_stuck_rows(&wanted);
        self.model.apps.insert(id, App { app: wanted.clone(), deleted: false });
        same("create_application", app, wanted)
    }

    async fn update_app(&mut self, who: Who, app: Pick, spec: ApplicationSpec) -> Checked {
        let app = self.model.app(app);
        let tenant = self.model.tenant(who, app);
        let work = |_: &Application| Ok::<_, ()>(spec.clone());
        let found = self.store().update_application(&tenant, app, work, self.now).await;
        let found = told(found.map(|changed| match changed {
            UpdateResult::Updated(app) => Some(app),
            _ => None,
        }));
        same("update_application", found, self.model.update_app(&tenant, app, spec, self.now))
    }

    async fn create_end(&mut self, who: Who, app: Pick, spec: EndpointSpec, key: Option<u8>) -> Checked {
        let (app, once, now) = (self.model.app(app), self.once(key), self.now);
        let (tenant, secret) = (self.model.tenant(who, app), Secret::generate(SignatureType::Hmac256));
        let may = self.may_once(once.as_ref(), self.model.may_create_end(&tenant, app, &spec), "repeated");
        let store = self.acting(once.as_ref());
        let found = store.create_endpoint(&tenant, app, spec.clone(), &secret, now).await;
        let Some(endpoint) = agree("create_endpoint", found, may)? else { return Ok(()) };
        let disabled_reason = spec.disabled.then_some(DisabledReason::Manual);
        let wanted = Endpoint { id: endpoint.id, app_id: app, spec, disabled_reason, created_at: now, updated_at: now };
        self.model.enter_once(once, endpoint.id.to_string());
        self.model.create_end(wanted.clone(), &secret);
        same("create_endpoint", endpoint, wanted)
    }

    async fn update_end(&mut self, who: Who, endpoint: Pick, spec: EndpointSpec, stale: bool) -> Checked {
        let (app, id) = self.model.end(endpoint);
        let Some(end) = self.model.ends.get(&id) else { return Ok(()) };
        let mut before = end.endpoint.clone();
        if stale {
            before.spec.description.push('!');
        }
        let tenant = self.model.tenant(who, app);
        let found = self.store().update_endpoint(&tenant, &before, spec.clone(), self.now).await;
        let found = told(found.map(|updated| match updated {
            OptimisticUpdate::Updated(endpoint) => Change::Done(endpoint),
            OptimisticUpdate::Stale => Change::Stale,
            OptimisticUpdate::NotFound => Change::Gone,
        }));
        same("update_endpoint", found, self.model.update_end(&tenant, &before, spec, self.now))
    }

    async fn change_headers(&mut self, who: Who, endpoint: Pick, value: u8) -> Checked {
        let (app, id) = self.model.end(endpoint);
        let tenant = self.model.tenant(who, app);
        let headers: BTreeMap<String, String> = [("X-Rate".to_owned(), format!("v{value}"))].into();
        let change = match value {
            0 => HeaderChange::Merge { set: BTreeMap::new(), delete: vec!["X-RATE".to_owned()] },
            1 => HeaderChange::Replace([("webhook-id".to_owned(), "not allowed".to_owned())].into()),
            2 => HeaderChange::Replace(headers),
            _ => HeaderChange::Merge { set: headers, delete: Vec::new() },
        };
        let found = told(self.store().change_headers(&tenant, app, id, &change, self.now).await);
        let wanted = match (self.model.has_end(&tenant, app, id), value) {
            (false, _) => Ok(false),
            (true, 1) => Err("invalid"),
            (true, _) => Ok(true),
        };
        if let (Ok(true), Some(end)) = (&wanted, self.model.ends.get_mut(&id)) {
            end.endpoint.spec.headers = change.apply(&end.endpoint.spec.headers);
            end.endpoint.updated_at = self.now;
        }
        same("change_headers", found, wanted)
    }

    async fn act_on_catalog(&mut self, act: &Act) -> Checked {
        let (now, [ours, theirs]) = (self.now, orgs());
        let org = |other: bool| if other { theirs.clone() } else { ours.clone() };
        match act {
            Act::CreateEventType { other, name } => {
                let (org, spec) = (org(*other), event_type(*name, false));
                let found = told(self.store().create_event_type(&Tenant::org(org.clone()), spec.clone(), now).await);
                same("create_event_type", found, self.model.create_event_type(&org, spec, now))
            }
            Act::PutEventType { other, name, flag } => {
                let (org, spec) = (org(*other), event_type(*name, *flag));
                let new = !self.model.event_types.contains_key(&(org.clone(), spec.name.clone()));
                let found = told(self.store().put_event_type(&Tenant::org(org.clone()), spec.clone(), now).await);
                let put = self.model.put_event_type(&org, spec, now);
                same("put_event_type", found, Ok(if new { Upserted::Created(put) } else { Upserted::Replaced(put) }))
            }
            Act::DeleteEventType { other, name, expunge } => {
                let (org, name) = (org(*other), TYPES[usize::from(*name)]);
                let tenant = Tenant::org(org.clone());
                let found = told(self.store().delete_event_type(&tenant, name, *expunge, now).await);
                same("delete_event_type", found, Ok(self.model.delete_event_type(&org, name, *expunge, now)))
            }
            _ => Ok(()),
        }
    }

    async fn add_key(&mut self, org: OrgId) -> Checked {
        let scopes = if self.rows.is_multiple_of(2) { KeyScopes::EVERYTHING } else { KeyScopes::of([KeyScope::Read]) };
        let expires_at = Some(self.now.plus(Duration::from_secs(3_600)));
        let spec = KeySpec { name: "billing".to_owned(), scopes, expires_at };
        let (key, text) = ApiKey::make(org, spec, self.now).map_err(|wrong| format!("{wrong:?}"))?;
        let hash = hash(&text);
        said(self.store().add_api_key(&key, &hash).await)?;
        self.model.keys.insert(key.id, Key { key, hash });
        Ok(())
    }

    async fn revoke_key(&mut self, who: Who, key: Pick) -> Checked {
        let all: Vec<KeyId> = self.model.keys.keys().copied().collect();
        let Some(id) = one_of(key, &all) else { return Ok(()) };
        let own = self.model.keys[&id].key.org.clone();
        let [first, second] = orgs();
        let other = if own == first { second } else { first };
        let tenant = Tenant::org(if who == Who::Stranger { other } else { own.clone() });
        let found = told(self.store().revoke_api_key(&tenant, id, self.now).await);
        let now = self.now;
        let there = tenant.org == own;
        if there {
            self.model.keys.entry(id).and_modify(|key| key.key.revoked_at = key.key.revoked_at.or(Some(now)));
        }
        same("revoke_api_key", found, Ok(there))
    }

    async fn keys_used(&mut self, keys: &[Pick], back: u32) -> Checked {
        let all: Vec<KeyId> = self.model.keys.keys().copied().collect();
        let at = self.now.minus(Duration::from_secs(u64::from(back)));
        let uses: Vec<_> = keys.iter().filter_map(|pick| one_of(*pick, &all)).map(|id| (id, at)).collect();
        said(self.store().api_keys_used(&uses).await)?;
        for (id, at) in uses {
            self.model.keys.entry(id).and_modify(|key| key.key.last_used_at = key.key.last_used_at.max(Some(at)));
        }
        Ok(())
    }
}
