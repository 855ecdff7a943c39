//! The route table's form: a path, with and without a slash at its end, and what each method does there.
//!
//! * [`Table`] – all lines, in the order in which paths are tried.
//! * [`At`] – one line. What it has no method for is answered with 405 and `Allow`, in JSON.
//! * [`Op`] – a handler and the OpenAPI description that stands above it; [`op!`](crate::api::at::op) makes one.
//! * [`Counts`] – `sendoff_http_requests_total`, by route, method and status; the counters are looked up once per worker. A method that
//!   the line does not have counts as `other`, whatever is answered: callers can invent as many as they like.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::ready;
use std::rc::Rc;

use actix_web::dev::{AppService, HttpServiceFactory, Service, ServiceRequest};
use actix_web::http::Method;
use actix_web::http::header::{HeaderMap, USER_AGENT};
use actix_web::{FromRequest, Handler, HttpRequest, Resource, Responder, Scope, web};
use futures_util::future::Either;
use metrics::Counter;
use utoipa::openapi::OpenApi;

use super::ApiState;
use super::cors::{self, is_preflight};
use super::errors::{ApiError, wrong_method};
use super::query::legible;
use crate::egress;

/// The route table, which both the server and the OpenAPI document are made of.
#[derive(Default)]
pub(super) struct Table {
    pub lines: Vec<At>,
}

impl Table {
    /// Adds a line.
    pub fn service(&mut self, line: At) -> &mut Table {
        self.lines.push(line);
        self
    }

    /// Mounts all lines.
    pub fn mount(self, scope: Scope) -> Scope {
        self.lines.into_iter().fold(scope, Scope::service)
    }
}

/// A handler and what `#[utoipa::path]` above it says.
#[derive(Clone, Copy)]
pub(super) struct Op<F> {
    pub handler: F,
    pub description: Description,
}

/// What the OpenAPI document says of an operation.
#[derive(Clone, Copy)]
pub(super) struct Description {
    /// The handler's name, e.g. `application::list`.
    pub name: &'static str,
    /// A document of this one operation and the schemas that it needs.
    pub read: fn() -> OpenApi,
}

/// A handler with its description: `op!(application::list)`, for a handler with `#[utoipa::path(…)]`.
macro_rules! op {
    ($($part:ident)::+) => {{
        #[derive(utoipa::OpenApi)]
        #[openapi(paths($($part)::+))]
        struct Described;
        let description = $crate::api::at::Description {
            name: stringify!($($part)::+),
            read: <Described as utoipa::OpenApi>::openapi,
        };
        $crate::api::at::Op { handler: $($part)::+, description }
    }};
}
pub(super) use op;

/// What a line takes for a method: an [`Op`], or a bare handler, which the document then lists as not answered yet. `Form` tells the two
/// apart for the compiler.
pub(super) trait Operation<Args, Form> {
    type Handler: Handler<Args>;
    fn apart(self) -> (Self::Handler, Option<Description>);
}

pub(super) struct Bare;
pub(super) struct Told;

impl<F: Handler<Args>, Args> Operation<Args, Bare> for F {
    type Handler = F;
    fn apart(self) -> (F, Option<Description>) {
        (self, None)
    }
}

impl<F: Handler<Args>, Args> Operation<Args, Told> for Op<F> {
    type Handler = F;
    fn apart(self) -> (F, Option<Description>) {
        (self.handler, Some(self.description))
    }
}

pub(super) struct At {
    pub path: &'static str,
    pub methods: Vec<(Method, Option<Description>)>,
    resource: Resource,
}

/// The line of `path`, which has no slash at its end.
pub(super) fn at(path: &'static str) -> At {
    At { path, methods: Vec::new(), resource: web::resource(vec![path.to_owned(), format!("{path}/")]) }
}

macro_rules! methods {
    ($($name:ident $method:ident),*) => {
        $(pub(super) fn $name<O, Args, Form>(self, operation: O) -> At
        where
            O: Operation<Args, Form>,
            Args: FromRequest + 'static,
            <O::Handler as Handler<Args>>::Output: Responder + 'static,
        {
            self.on(Method::$method, operation)
        })*
    };
}

impl At {
    methods!(get GET, post POST, put PUT, patch PATCH, delete DELETE);

    fn on<O, Args, Form>(mut self, method: Method, operation: O) -> At
    where
        O: Operation<Args, Form>,
        Args: FromRequest + 'static,
        <O::Handler as Handler<Args>>::Output: Responder + 'static,
    {
        let (handler, description) = operation.apart();
        if method == Method::GET {
            // The same without its body, which the server leaves out by itself.
            self.resource = self.resource.route(web::head().to(handler.clone()));
        }
        self.resource = self.resource.route(web::method(method.clone()).to(handler));
        self.methods.push((method, description));
        self
    }

    /// What `Allow` says.
    fn allowed(&self) -> String {
        let head = self.methods.iter().any(|(method, _)| method == Method::GET).then_some("HEAD");
        let allowed: Vec<&str> = self.methods.iter().map(|(method, _)| method.as_str()).chain(head).collect();
        allowed.join(", ")
    }
}

impl HttpServiceFactory for At {
    fn register(self, config: &mut AppService) {
        let allowed: Rc<str> = self.allowed().into();
        let elsewise = move |request: HttpRequest| {
            let allowed = Rc::clone(&allowed);
            async move { wrong_method(request.method(), &allowed) }
        };
        let methods = self.methods.iter().map(|(method, _)| method.clone());
        let methods = methods.chain([Method::HEAD]).collect();
        let counts = Rc::new(Counts { route: self.path, methods, known: RefCell::default() });
        let preflight: Rc<str> = self.allowed().into();
        self.resource
            .default_service(web::to(elsewise))
            .wrap_fn(move |request, service| {
                let (counts, method) = (Rc::clone(&counts), request.method().clone());
                let origins = request.app_data::<web::Data<ApiState>>().map(|state| {
                    let allowed = state.origins.allowed(request.headers());
                    (state.clone(), allowed)
                });
                let answer = match admitted(&request) {
                    Ok(()) if is_preflight(&request) => {
                        Either::Right(ready(Ok(request.into_response(cors::preflight(&preflight)))))
                    }
                    Ok(()) => Either::Left(service.call(request)),
                    Err(error) => Either::Right(ready(Ok(request.error_response(error)))),
                };
                async move {
                    let mut answer = answer.await?;
                    if let Some((state, allowed)) = origins {
                        state.origins.dress(answer.headers_mut(), allowed);
                    }
                    counts.add(method, answer.status().as_u16());
                    Ok(answer)
                }
            })
            .register(config);
    }
}

/// Whether a request is looked at, before anybody asks who calls.
fn admitted(request: &ServiceRequest) -> Result<(), ApiError> {
    if is_webhook(request.headers()) {
        return Err(ApiError::loop_detected());
    }
    legible(request.uri())
}

/// Whether a Sendoff sent it to an endpoint. Two endpoints whose URLs are operations of this API could keep each other going for ever.
fn is_webhook(headers: &HeaderMap) -> bool {
    let agent =
        headers.get(USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(egress::AGENT_NAME.as_bytes()));
    agent && (headers.contains_key("webhook-id") || headers.contains_key("svix-id"))
}

struct Counts {
    route: &'static str,
    /// Those that have a label of their own.
    methods: Vec<Method>,
    known: RefCell<HashMap<(Option<Method>, u16), Counter>>,
}

impl Counts {
    fn add(&self, method: Method, status: u16) {
        // Known by the table, never by the answer: a request can be refused before its method is looked at.
        let method = self.methods.contains(&method).then_some(method);
        let mut known = self.known.borrow_mut();
        let counter = known.entry((method, status)).or_insert_with_key(|(method, status)| {
            let method = method.as_ref().map_or("other", Method::as_str).to_owned();
            metrics::counter!("sendoff_http_requests_total",
                "route" => self.route, "method" => method, "status" => status.to_string())
        });
        counter.increment(1);
    }
}
