//! The user of a page that exists across applications and within one.

use std::ops::Deref;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::LocalBoxFuture;

use crate::dashboard::http::app_paths::AppPaths;
use crate::dashboard::http::current_user::{AppContext, CurrentOperator, CurrentUser};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::session::Cookies;
use crate::domain::AppId;

/// The user of a list: an operator who sees all applications, or a user within one.
pub enum ListUser {
    Organization(Box<CurrentOperator>),
    Application(Box<AppContext>),
}

impl ListUser {
    /// The application of the list; `None`: all of them.
    pub fn context(&self) -> Option<&AppContext> {
        match self {
            ListUser::Organization(_) => None,
            ListUser::Application(context) => Some(context),
        }
    }

    /// The paths for a row that belongs to this application.
    pub fn paths(&self, app: AppId) -> AppPaths {
        self.context().map_or_else(|| AppPaths::of_application(app), |context| context.paths.clone())
    }
}

impl Deref for ListUser {
    type Target = CurrentUser;

    fn deref(&self) -> &CurrentUser {
        match self {
            ListUser::Organization(user) => user,
            ListUser::Application(context) => context,
        }
    }
}

impl FromRequest for ListUser {
    type Error = PageError;
    type Future = LocalBoxFuture<'static, Result<ListUser, PageError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let within = request.match_info().get("app").is_some();
        if within || Cookies::at(request.path()) == Cookies::Portal {
            let context = AppContext::from_request(request, payload);
            Box::pin(async move { Ok(ListUser::Application(Box::new(context.await?))) })
        } else {
            let user = CurrentOperator::from_request(request, payload);
            Box::pin(async move { Ok(ListUser::Organization(Box::new(user.await?))) })
        }
    }
}
