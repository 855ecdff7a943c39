//! DNS: from a receiver's host name to the addresses that Sendoff may connect to. Come here to change which names and
//! addresses count, or how a broken name server is distinguished from a broken name.
//!
//! * [`resolver`] looks a name up and passes the addresses to the guard.
//! * [`dns_config`] reads the system's configuration again when it changes; [`hosts_file`] reads the hosts file.
//! * [`dns_health`] distinguishes broken name servers from broken names.
//!
//! Invariants: no address that the guard refuses leaves this module, and no error reveals the address of a name.

mod dns_config;
mod dns_health;
mod hosts_file;
pub mod resolver;
#[cfg(test)]
pub mod test_name_server;
