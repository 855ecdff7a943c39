//! The tools above and below a list: saved views and exports.

use crate::dashboard::components::filters::FilterParams;
use crate::dashboard::http::current_user::CurrentUser;
use crate::dashboard::settings::list_views::SavedViews;
use crate::domain::access::saved_view::ViewList;
use crate::store::{Store, StoreError};

pub struct ListTools {
    /// `None`: the user has no account, or the list covers one application.
    pub views: Option<SavedViews>,
    /// The paths of the exports, with the list's filters.
    pub csv: String,
    pub json_lines: String,
    /// The list with its filters, to return to.
    pub here: String,
}

impl ListTools {
    /// The tools of a list; `across`: it covers all applications.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn of(
        store: &Store,
        user: &CurrentUser,
        list: ViewList,
        across: bool,
        params: &FilterParams,
    ) -> Result<ListTools, StoreError> {
        let export = |end: &str| params.elsewhere(&format!("{}.{end}", params.bare()), &[]);
        Ok(ListTools {
            views: if across { SavedViews::of(store, user, list, params).await? } else { None },
            csv: export("csv"),
            json_lines: export("jsonl"),
            here: params.first(),
        })
    }
}
