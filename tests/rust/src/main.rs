//! Walks through the API with the official `svix` client of crates.io as its users do, version 1 or 2 as the one argument says, with a receiver
//! of its own at the other end; says "all is well" at the end.

mod receiver;
mod walk;

use walk::walk;

// What the two call by different names.
walk!(one, svix_1, js_option_1, filter_types, update, update_headers, EndpointUpdate, EventTypeUpdate);
walk!(two, svix_2, js_option_2, event_types, upsert, set_headers, EndpointUpsertIn, EventTypeUpsertIn);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("1") => one::walk().await,
        _ => two::walk().await,
    }
    println!("all is well");
}
