//! A DNS server on a free loopback port whose answers a test scripts.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

/// Answers each query for IPv4 addresses with what `answer` says of the lower-case name, for a second. Nothing has an
/// IPv6 address. Its thread ends with the test process.
pub fn name_server(answer: impl Fn(&str) -> Vec<Ipv4Addr> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = socket.local_addr().expect("its address");
    std::thread::spawn(move || {
        let mut query = [0; 1_500];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            if let Some(response) = response(&query[..length], &answer) {
                let _ = socket.send_to(&response, from);
            }
        }
    });
    address
}

fn response(query: &[u8], answer: impl Fn(&str) -> Vec<Ipv4Addr>) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    while let Some(length) = query.get(at).map(|length| usize::from(*length)).filter(|length| *length > 0) {
        labels.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?).to_lowercase());
        at += 1 + length;
    }
    // The end of the name, the type and the class.
    let question = query.get(..at + 5)?;
    let addresses = if question[at + 1..at + 3] == [0, 1] { answer(&labels.join(".")) } else { Vec::new() };
    let mut response = question.to_vec();
    response[2] |= 0x80;
    response[3] = 0x80;
    response[6..12].copy_from_slice(&[0, addresses.len() as u8, 0, 0, 0, 0]);
    for address in addresses {
        // The name in the question, type A, class IN, one second, four bytes.
        response.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        response.extend(address.octets());
    }
    Some(response)
}
