//! The hosts file. Its names count only for addresses that the operator allowed: see `resolver`.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use hickory_resolver::Hosts;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};

/// Bytes of the file that are read.
const MAX_BYTES: u64 = 4 << 20;

/// Reads a hosts file. Without one, or with one that cannot be read, there are no names.
pub fn read(path: Option<&Path>) -> Arc<Hosts> {
    let mut hosts = Hosts::default();
    let read = path.map_or(Ok(()), |path| hosts.read_hosts_conf(File::open(path)?.take(MAX_BYTES)));
    match read {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "the hosts file can't be read; its names don't count");
        }
        _ => {}
    }
    Arc::new(hosts)
}

/// The addresses of a name, IPv4 first.
pub fn addresses(hosts: &Hosts, name: &Name) -> Vec<IpAddr> {
    let of = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
    let found = [RecordType::A, RecordType::AAAA].into_iter().filter_map(of);
    found
        .flat_map(|lookup| lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>())
        .collect()
}
