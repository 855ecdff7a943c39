//! The listening sockets of the HTTP server.

use std::io;
use std::net::{SocketAddr, TcpListener};

use tokio::net::TcpSocket;

use crate::app::AppError;
use crate::config::HttpConfig;

/// Connections that the kernel queues while all workers are busy.
const BACKLOG: u32 = 2_048;
/// Maximum response bytes in the kernel per connection, sent or not.
const SEND_BUFFER: u32 = 256 * 1024;
/// Response bytes in the kernel beyond those that the peer's window and the network take. Without it, a peer that does
/// not read costs half a megabyte of the kernel's memory, and the time to copy it.
const MAX_UNSENT: u32 = 32 * 1024;

#[derive(Debug)]
pub struct Listeners {
    pub(super) main: TcpListener,
    /// A separate socket for the probes. `None`: `main` serves them.
    pub(super) admin: Option<TcpListener>,
    /// A separate socket for the dashboard. `None`: `main` serves it.
    pub(super) dashboard: Option<TcpListener>,
    /// A separate socket for the portal. `None`: `main` serves it.
    pub(super) portal: Option<TcpListener>,
}

impl Listeners {
    /// Opens the configured ports.
    ///
    /// # Errors
    /// Two settings name the same port, or a port is in use or may not be opened.
    pub fn open(http: &HttpConfig) -> Result<Listeners, AppError> {
        http.check_listeners()?;
        let main = listen(http.listen, "SENDOFF_LISTEN")?;
        let admin = http.admin_listen.map(|address| listen(address, "SENDOFF_ADMIN_LISTEN")).transpose()?;
        let dashboard = http.dashboard_listen.map(|address| listen(address, "SENDOFF_DASHBOARD_LISTEN")).transpose()?;
        let portal = http.portal_listen.map(|address| listen(address, "SENDOFF_PORTAL_LISTEN")).transpose()?;
        Ok(Listeners { main, admin, dashboard, portal })
    }

    /// Opens a single port for everything.
    ///
    /// # Errors
    /// The port is in use or may not be opened.
    pub fn single(address: SocketAddr) -> Result<Listeners, AppError> {
        Ok(Listeners { main: listen(address, "SENDOFF_LISTEN")?, admin: None, dashboard: None, portal: None })
    }

    /// The bound addresses.
    pub(in crate::app) fn addresses(&self) -> io::Result<ListenAddresses> {
        let of = |listener: &Option<TcpListener>| listener.as_ref().map(TcpListener::local_addr).transpose();
        Ok(ListenAddresses {
            main: self.main.local_addr()?,
            admin: of(&self.admin)?,
            dashboard: of(&self.dashboard)?,
            portal: of(&self.portal)?,
        })
    }
}

/// Bound addresses; `None` where `main` serves.
#[derive(Clone, Copy, Debug)]
pub(in crate::app) struct ListenAddresses {
    pub main: SocketAddr,
    pub admin: Option<SocketAddr>,
    pub dashboard: Option<SocketAddr>,
    pub portal: Option<SocketAddr>,
}

fn listen(address: SocketAddr, setting: &str) -> Result<TcpListener, AppError> {
    let open = || -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // Connections of the previous process in TIME_WAIT do not block the port.
        socket.set_reuseaddr(true)?;
        // Accepted connections inherit both.
        socket.set_send_buffer_size(SEND_BUFFER)?;
        #[cfg(target_os = "linux")]
        socket2::SockRef::from(&socket).set_tcp_notsent_lowat(MAX_UNSENT)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)?.into_std()
    };
    open().map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            AppError::Start(format!("{address} is in use by another process: stop it or set {setting} to another port"))
        }
        _ => AppError::Start(format!("can't listen on {address} ({setting}): {error}")),
    })
}
