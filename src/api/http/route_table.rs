//! Routes: a path, with and without a trailing slash, and the handler of each method.
//!
//! * [`RouteTable`]: all routes, in matching order. The server and the OpenAPI document are built from the same table.
//! * [`ApiRoute`]: one route. Other methods get 405 with `Allow`, in JSON.
//! * [`Op`]: a handler and its OpenAPI description; built by [`op!`](crate::api::http::route_table::op).
//! * [`RequestCounters`]: `sendoff_http_requests_total` by route, method and status. Counters are looked up once per
//!   worker. Methods that the route does not have count as `other`: callers can invent any number of them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::ready;
use std::rc::Rc;

use actix_web::dev::{AppService, HttpServiceFactory, Service, ServiceRequest};
use actix_web::http::Method;
use actix_web::http::header::{CACHE_CONTROL, HeaderMap, HeaderValue, USER_AGENT, X_CONTENT_TYPE_OPTIONS};
use actix_web::{FromRequest, Handler, HttpRequest, Resource, Responder, Scope, web};
use futures_util::future::Either;
use metrics::Counter;
use utoipa::openapi::OpenApi;

use crate::api::ApiState;
use crate::api::http::cors;
use crate::api::http::cors::is_preflight;
use crate::api::http::errors::{ApiError, method_not_allowed};
use crate::api::http::query::check_encoding;
use crate::egress;

/// The route table of the server and of the OpenAPI document.
#[derive(Default)]
pub(in crate::api) struct RouteTable {
    pub routes: Vec<ApiRoute>,
}

impl RouteTable {
    /// Adds a route.
    pub fn service(&mut self, route: ApiRoute) -> &mut RouteTable {
        self.routes.push(route);
        self
    }

    /// Mounts all routes.
    pub fn mount(self, scope: Scope) -> Scope {
        self.routes.into_iter().fold(scope, Scope::service)
    }
}

/// A handler and its `#[utoipa::path]` description.
#[derive(Clone, Copy)]
pub(in crate::api) struct Op<F> {
    pub handler: F,
    pub description: OperationDescription,
}

/// The OpenAPI description of an operation.
#[derive(Clone, Copy)]
pub(in crate::api) struct OperationDescription {
    /// The handler's name, e.g. `application::list`.
    pub name: &'static str,
    /// A document with this operation and the schemas it needs.
    pub read: fn() -> OpenApi,
}

/// A handler with its description: `op!(application::list)`. The handler must have `#[utoipa::path(…)]`.
macro_rules! op {
    ($($part:ident)::+) => {{
        #[derive(utoipa::OpenApi)]
        #[openapi(paths($($part)::+))]
        struct Document;
        let description = $crate::api::http::route_table::OperationDescription {
            name: stringify!($($part)::+),
            read: <Document as utoipa::OpenApi>::openapi,
        };
        $crate::api::http::route_table::Op { handler: $($part)::+, description }
    }};
}
pub(in crate::api) use op;

/// A route's handler for a method: an [`Op`], or a bare handler, which the document lists as not supported yet. The
/// type parameter `Form` tells the two implementations apart.
pub(in crate::api) trait IntoOperation<Args, Form> {
    type Handler: Handler<Args>;
    fn into_parts(self) -> (Self::Handler, Option<OperationDescription>);
}

pub(in crate::api) struct Undocumented;
pub(in crate::api) struct Documented;

impl<F: Handler<Args>, Args> IntoOperation<Args, Undocumented> for F {
    type Handler = F;
    fn into_parts(self) -> (F, Option<OperationDescription>) {
        (self, None)
    }
}

impl<F: Handler<Args>, Args> IntoOperation<Args, Documented> for Op<F> {
    type Handler = F;
    fn into_parts(self) -> (F, Option<OperationDescription>) {
        (self.handler, Some(self.description))
    }
}

pub(in crate::api) struct ApiRoute {
    pub path: &'static str,
    pub methods: Vec<(Method, Option<OperationDescription>)>,
    resource: Resource,
}

/// The route of `path`, written without a trailing slash.
pub(in crate::api) fn at(path: &'static str) -> ApiRoute {
    ApiRoute { path, methods: Vec::new(), resource: web::resource(vec![path.to_owned(), format!("{path}/")]) }
}

macro_rules! methods {
    ($($name:ident $method:ident),*) => {
        $(pub(in crate::api) fn $name<O, Args, Form>(self, operation: O) -> ApiRoute
        where
            O: IntoOperation<Args, Form>,
            Args: FromRequest + 'static,
            <O::Handler as Handler<Args>>::Output: Responder + 'static,
        {
            self.on(Method::$method, operation)
        })*
    };
}

impl ApiRoute {
    methods!(get GET, post POST, put PUT, patch PATCH, delete DELETE);

    fn on<O, Args, Form>(mut self, method: Method, operation: O) -> ApiRoute
    where
        O: IntoOperation<Args, Form>,
        Args: FromRequest + 'static,
        <O::Handler as Handler<Args>>::Output: Responder + 'static,
    {
        let (handler, description) = operation.into_parts();
        if method == Method::GET {
            // HEAD runs the GET handler; the server drops the body.
            self.resource = self.resource.route(web::head().to(handler.clone()));
        }
        self.resource = self.resource.route(web::method(method.clone()).to(handler));
        self.methods.push((method, description));
        self
    }

    /// The value of `Allow`.
    fn allowed(&self) -> String {
        let head = self.methods.iter().any(|(method, _)| method == Method::GET).then_some("HEAD");
        let allowed: Vec<&str> = self.methods.iter().map(|(method, _)| method.as_str()).chain(head).collect();
        allowed.join(", ")
    }
}

impl HttpServiceFactory for ApiRoute {
    fn register(self, config: &mut AppService) {
        let allowed: Rc<str> = self.allowed().into();
        let not_allowed = move |request: HttpRequest| {
            let allowed = Rc::clone(&allowed);
            async move { method_not_allowed(request.method(), &allowed) }
        };
        let methods = self.methods.iter().map(|(method, _)| method.clone());
        let methods = methods.chain([Method::HEAD]).collect();
        let counters = Rc::new(RequestCounters { route: self.path, methods, counters: RefCell::default() });
        let preflight: Rc<str> = self.allowed().into();
        self.resource
            .default_service(web::to(not_allowed))
            .wrap_fn(move |request, service| {
                let (counters, method) = (Rc::clone(&counters), request.method().clone());
                let origins = request.app_data::<web::Data<ApiState>>().map(|state| {
                    let allowed = state.origins.allowed(request.headers());
                    (state.clone(), allowed)
                });
                let response = match check_request(&request) {
                    Ok(()) if is_preflight(&request) => {
                        Either::Right(ready(Ok(request.into_response(cors::preflight(&preflight)))))
                    }
                    Ok(()) => Either::Left(service.call(request)),
                    Err(error) => Either::Right(ready(Ok(request.error_response(error)))),
                };
                async move {
                    let mut response = response.await?;
                    add_security_headers(response.headers_mut());
                    if let Some((state, allowed)) = origins {
                        state.origins.add_headers(response.headers_mut(), allowed);
                    }
                    counters.add(method, response.status().as_u16());
                    Ok(response)
                }
            })
            .register(config);
    }
}

/// Browsers must neither guess the type of a response nor cache a response to a token.
fn add_security_headers(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// Checks a request before its caller is authenticated.
fn check_request(request: &ServiceRequest) -> Result<(), ApiError> {
    if is_webhook(request.headers()) {
        return Err(ApiError::loop_detected());
    }
    check_encoding(request.uri())
}

/// Whether Sendoff sent this request as a webhook. Two endpoints that point at API operations could trigger each other
/// forever.
fn is_webhook(headers: &HeaderMap) -> bool {
    let agent =
        headers.get(USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(egress::AGENT_NAME.as_bytes()));
    agent && (headers.contains_key("webhook-id") || headers.contains_key("svix-id"))
}

struct RequestCounters {
    route: &'static str,
    /// Methods with a label of their own.
    methods: Vec<Method>,
    counters: RefCell<HashMap<(Option<Method>, u16), Counter>>,
}

impl RequestCounters {
    fn add(&self, method: Method, status: u16) {
        // Decided by the route, not by the status: a request can be rejected before its method is checked.
        let method = self.methods.contains(&method).then_some(method);
        let mut counters = self.counters.borrow_mut();
        let counter = counters.entry((method, status)).or_insert_with_key(|(method, status)| {
            let method = method.as_ref().map_or("other", Method::as_str).to_owned();
            metrics::counter!("sendoff_http_requests_total",
                "route" => self.route, "method" => method, "status" => status.to_string())
        });
        counter.increment(1);
    }
}
