//! One line of the route table: a path, with and without a slash at its end, and what each method does there.
//!
//! * [`At`] – the line. What it has no method for is answered with 405 and `Allow`, in JSON.
//! * [`Counts`] – `sendoff_http_requests_total`, by route, method and status; the counters are looked up once per worker.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use actix_web::dev::{AppService, HttpServiceFactory, Service};
use actix_web::http::Method;
use actix_web::{FromRequest, Handler, HttpRequest, Resource, Responder, web};
use metrics::Counter;

use super::errors::wrong_method;

pub(super) struct At {
    path: &'static str,
    resource: Resource,
    allowed: Vec<Method>,
}

/// The line of `path`, which has no slash at its end.
pub(super) fn at(path: &'static str) -> At {
    At { path, resource: web::resource(vec![path.to_owned(), format!("{path}/")]), allowed: Vec::new() }
}

macro_rules! methods {
    ($($name:ident $method:ident),*) => {
        $(pub(super) fn $name<F, Args>(self, handler: F) -> At
        where
            F: Handler<Args>,
            Args: FromRequest + 'static,
            F::Output: Responder + 'static,
        {
            self.on(Method::$method, handler)
        })*
    };
}

impl At {
    methods!(get GET, post POST, put PUT, patch PATCH, delete DELETE);

    fn on<F, Args>(mut self, method: Method, handler: F) -> At
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.resource = self.resource.route(web::method(method.clone()).to(handler));
        self.allowed.push(method);
        self
    }
}

impl HttpServiceFactory for At {
    fn register(self, config: &mut AppService) {
        let allowed: Vec<&str> = self.allowed.iter().map(Method::as_str).collect();
        let allowed: Rc<str> = allowed.join(", ").into();
        let elsewise = move |request: HttpRequest| {
            let allowed = Rc::clone(&allowed);
            async move { wrong_method(request.method(), &allowed) }
        };
        let counts = Rc::new(Counts { route: self.path, known: RefCell::default() });
        self.resource
            .default_service(web::to(elsewise))
            .wrap_fn(move |request, service| {
                let (counts, method) = (Rc::clone(&counts), request.method().clone());
                let answer = service.call(request);
                async move {
                    let answer = answer.await?;
                    counts.add(method, answer.status().as_u16());
                    Ok(answer)
                }
            })
            .register(config);
    }
}

struct Counts {
    route: &'static str,
    known: RefCell<HashMap<(Option<Method>, u16), Counter>>,
}

impl Counts {
    fn add(&self, method: Method, status: u16) {
        // A method that the path does not have can be any word: all of them count as one.
        let method = (status != 405).then_some(method);
        let mut known = self.known.borrow_mut();
        let counter = known.entry((method, status)).or_insert_with_key(|(method, status)| {
            let method = method.as_ref().map_or("other", Method::as_str).to_owned();
            metrics::counter!("sendoff_http_requests_total",
                "route" => self.route, "method" => method, "status" => status.to_string())
        });
        counter.increment(1);
    }
}
