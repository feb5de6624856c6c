//! What a service manager hands over and wants to hear: systemd's protocols `sd_listen_fds(3)` and `sd_notify(3)`.
//!
//! A socket that systemd holds stays open while the service restarts: what connects meanwhile waits in its queue, and is
//! answered by the new process. So an upgrade refuses no connection.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use service::host::Environment;
use service::settings::SettingsError;
use socket2::SockRef;

const COUNT: &str = "LISTEN_FDS";

/// A listening socket that this process was started with.
#[derive(Debug)]
pub(crate) struct Inherited {
    listener: TcpListener,
    address: SocketAddr,
}

impl Inherited {
    /// Takes the socket that this process was handed as file descriptor 3; none where `LISTEN_PID` is not this process.
    /// Must be called before there are threads, for it takes the names out of the environment.
    ///
    /// # Errors
    /// When there is more than one, or it is no listening TCP socket.
    pub(crate) fn take() -> Result<Option<Self>, SettingsError> {
        let text = |name| std::env::var(name).unwrap_or_default();
        if text("LISTEN_PID") != std::process::id().to_string() {
            return Ok(None);
        }
        match text(COUNT).as_str() {
            "" | "0" => return Ok(None),
            "1" => {}
            _ => return Err(SettingsError::of(COUNT, "must be 1: a function listens on one socket")),
        }
        let listener = ListenFd::from_env().take_tcp_listener(0).ok().flatten();
        // A connection would be one, too: systemd hands those over with Accept=yes.
        let listener = listener.filter(|listener| SockRef::from(listener).is_listener().unwrap_or(false));
        let inherited = listener.and_then(|listener| {
            let address = listener.local_addr().ok()?;
            Some(Self { listener, address })
        });
        let wrong =
            "file descriptor 3 is no listening TCP socket: a socket unit's ListenStream=ADDRESS:PORT with Accept=no is";
        inherited.map(Some).ok_or_else(|| SettingsError::of(COUNT, wrong))
    }

    /// The settings, with the address that the socket really has for `LISTEN_ADDR`: what is allowed on loopback alone is
    /// allowed by that.
    pub(crate) fn settings(&self, environment: Environment) -> Environment {
        let address = self.address.to_string();
        Environment::from_fn(
            move |name| {
                if name == "LISTEN_ADDR" { Some(address.clone()) } else { environment.get(name) }
            },
        )
    }

    /// The socket as the server takes it. Must be called within a runtime.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn into_listener(self) -> io::Result<tokio::net::TcpListener> {
        self.listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(self.listener)
    }
}

/// Tells systemd that the service serves (`Type=notify`); does nothing where nobody asked.
pub(crate) fn tell_ready() {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = notify(&socket, b"READY=1") {
        tracing::warn!(%error, "NOTIFY_SOCKET: systemd can't be told that the service is ready");
    }
}

#[cfg(target_os = "linux")]
fn notify(socket: &std::ffi::OsStr, state: &[u8]) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state, &address).map(|_| ())
}

#[cfg(not(target_os = "linux"))]
fn notify(_: &std::ffi::OsStr, _: &[u8]) -> io::Result<()> {
    Ok(())
}
