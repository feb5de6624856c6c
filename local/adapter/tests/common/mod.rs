//! A server on a free port, and a client that sends bytes.
#![allow(dead_code)] // each test file uses its part

use std::net::SocketAddr;

use axum::Router;
use opshook_adapter::server::{self, Limits, ServeError};
use service::host::Background;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    /// Dropping it stops the server too.
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) ended: JoinHandle<Result<(), ServeError>>,
}

pub(crate) async fn start(limits: Limits, router: Router, background: Option<Background>) -> Running {
    let listener = server::bind("127.0.0.1:0".parse().unwrap(), "LISTEN_ADDR").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = watch::channel(false);
    let ended =
        tokio::spawn(
            async move { server::serve_within(&limits, "receive", listener, router, background, stopping).await },
        );
    Running { address, stop, ended }
}

pub(crate) async fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// Reads until the server closes the connection. A connection that was reset reads as what came before.
pub(crate) async fn read(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8(bytes).unwrap()
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    read(send(address, format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await).await
}
