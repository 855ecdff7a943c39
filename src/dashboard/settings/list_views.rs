//! Saved views: the filters of a list under a name, per account and organization. Operators without an account, and
//! customers, have none.
//!
//! * [`SavedViews`] – the views above a list. [`save`], [`delete`] – their forms.

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;

use crate::dashboard::components::filters::{FilterParams, OF_DELIVERIES, OF_MESSAGES};
use crate::dashboard::components::format::Line;
use crate::dashboard::http::current_user::{CurrentOperator, CurrentUser};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::handler_input::{FormInput, PageResult};
use crate::dashboard::http::verified_form::{done, own_path};
use crate::domain::access::saved_view::{SavedView, ViewList};
use crate::domain::url_query::UrlQuery;
use crate::store::{Store, StoreError};

/// A view above a list.
pub struct ViewLink {
    pub name: Line,
    pub href: String,
    pub current: bool,
}

/// The views of a list, and the forms that save or delete one.
pub struct SavedViews {
    pub links: Vec<ViewLink>,
    pub list: &'static str,
    /// The filters to save; empty: none are set.
    pub query: String,
    /// The view that is shown, to delete it.
    pub current: Option<Line>,
}

impl SavedViews {
    /// `None`: the user has no account.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn of(
        store: &Store,
        user: &CurrentUser,
        list: ViewList,
        params: &FilterParams,
    ) -> Result<Option<SavedViews>, StoreError> {
        let Some(account) = user.account() else { return Ok(None) };
        let query = params.query();
        let views = store.saved_views(&user.org, account.id).await?;
        let link = |view: SavedView| ViewLink {
            name: Line::new(&view.name),
            href: format!("/{}?{}", list.word(), view.query),
            current: view.query == query,
        };
        let links: Vec<ViewLink> = views.into_iter().filter(|view| view.list == list).map(link).collect();
        let current = links.iter().find(|link| link.current).map(|link| link.name.clone());
        Ok(Some(SavedViews { links, list: list.word(), query, current }))
    }

    /// Whether there is anything to show.
    pub fn any(&self) -> bool {
        !self.links.is_empty() || !self.query.is_empty()
    }
}

/// `POST /views`. Fields: `name`, `list`, `query`.
pub async fn save(FormInput { state, user, submitted, .. }: FormInput<CurrentOperator>) -> PageResult {
    let list = ViewList::from_word(submitted.get("list")).ok_or(PageError::BadRequest("The form has no list."))?;
    let names: &[&'static str] = match list {
        ViewList::Deliveries => &OF_DELIVERIES,
        ViewList::Messages => &OF_MESSAGES,
    };
    let path = format!("/{}", list.word());
    // Only the filters of the list are kept.
    let params = FilterParams::of(path.clone(), names, &UrlQuery::parse(submitted.get("query")).into_owned());
    let back = params.first();
    let account = user.account().ok_or(PageError::NotAllowed)?.id;
    let Ok(view) = SavedView::new(submitted.get("name"), list, params.query()) else {
        return Ok(done(&back, FlashNotice::ViewNotSaved));
    };
    let notice = match state.store.save_view(&user.org, account, &view, state.clock.now()).await {
        Ok(()) => FlashNotice::ViewSaved,
        Err(StoreError::Invalid(_)) => FlashNotice::ViewNotSaved,
        Err(error) => return Err(error.into()),
    };
    Ok(done(&back, notice))
}

/// `POST /views/delete`. Fields: `name`; `back`: the page to return to.
pub async fn delete(FormInput { state, user, submitted, .. }: FormInput<CurrentOperator>) -> PageResult {
    let account = user.account().ok_or(PageError::NotAllowed)?.id;
    let back = own_path(submitted.get("back")).unwrap_or("/deliveries").to_owned();
    let deleted = state.store.delete_view(&user.org, account, submitted.get("name")).await?;
    Ok(match deleted {
        true => done(&back, FlashNotice::ViewDeleted),
        // It was deleted in another tab.
        false => HttpResponse::SeeOther().insert_header((LOCATION, back)).finish(),
    })
}
