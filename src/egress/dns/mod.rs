//! DNS: from a receiver's host name to the addresses that Sendoff may connect to. Come here to change which names and
//! addresses count, or how a broken name server is told from a broken name.
//!
//! * [`resolver`] looks a name up and passes the addresses to the guard.
//! * [`dns_config`] reads the system's configuration again when it changes; [`hosts_file`] reads the hosts file.
//! * [`dns_health`] tells broken name servers from broken names.
//!
//! Invariants: no address leaves here that the guard refuses, and no error tells a name's address.

mod dns_config;
mod dns_health;
mod hosts_file;
pub mod resolver;
#[cfg(test)]
pub mod test_name_server;
