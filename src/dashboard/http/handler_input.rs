//! The input of page handlers: the state, the request, its user and the submitted form in one argument.

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use futures_util::future::LocalBoxFuture;

use crate::dashboard::DashboardState;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::verified_form::VerifiedForm;

/// The result of a page handler.
pub type PageResult = Result<HttpResponse, PageError>;

/// The input of a handler that shows a page. `U` is the required kind of user.
pub struct PageInput<U> {
    pub state: web::Data<DashboardState>,
    pub request: HttpRequest,
    pub user: U,
}

/// The input of a handler that receives a form.
pub struct FormInput<U> {
    pub state: web::Data<DashboardState>,
    pub request: HttpRequest,
    pub user: U,
    pub submitted: VerifiedForm,
}

impl<U: FromRequest<Error = PageError, Future: 'static> + 'static> FromRequest for PageInput<U> {
    type Error = PageError;
    type Future = LocalBoxFuture<'static, Result<PageInput<U>, PageError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let state = request.app_data::<web::Data<DashboardState>>().cloned();
        let (user, request) = (U::from_request(request, payload), request.clone());
        Box::pin(async move {
            let user = user.await?;
            Ok(PageInput { state: state.ok_or(PageError::NotSignedIn)?, request, user })
        })
    }
}

impl<U: FromRequest<Error = PageError, Future: 'static> + 'static> FromRequest for FormInput<U> {
    type Error = PageError;
    type Future = LocalBoxFuture<'static, Result<FormInput<U>, PageError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let page = PageInput::from_request(request, payload);
        let submitted = VerifiedForm::from_request(request, payload);
        Box::pin(async move {
            // Check the CSRF token first: without it, a request must not learn which objects exist.
            let submitted = submitted.await?;
            let PageInput { state, request, user } = page.await?;
            Ok(FormInput { state, request, user, submitted })
        })
    }
}
