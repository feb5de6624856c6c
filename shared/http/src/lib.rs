//! The HTTP/1.1 client that the store and emit-retry's sender share: one of each of its parts in a function's binary.
//! No proxies, no redirects, no HTTP/2.

mod watch;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
pub use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
pub use hyper_util::client::legacy::Error;
use hyper_util::client::legacy::connect::{Connect, Connection, HttpConnector};
use hyper_util::client::legacy::{Builder, Client as Pool};
use hyper_util::rt::{TokioExecutor, TokioTimer};
pub use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::{ClientConfig, Error as TlsError};
use tower_service::Service;
use watch::Watching;
pub use watch::status_of;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Below the 10 s after which a server like ours closes an idle connection.
const IDLE_LIMIT: Duration = Duration::from_secs(5);

/// How much a tolerant client reads of an answer's head. Past that its status alone counts.
const MAX_HEAD_BYTES: usize = 256 * 1024;
const MAX_HEADERS: usize = 1_024;

type Exchange = Pin<Box<dyn Future<Output = Result<Response<Incoming>, Error>> + Send>>;

/// Sends requests, over connections that are kept for 5 s. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client(Arc<dyn Fn(Request<Full<Bytes>>) -> Exchange + Send + Sync>);

impl Client {
    /// A client that trusts `roots` where a URL is https. A connection has to be there within `connect_limit`, if that is
    /// set.
    ///
    /// # Errors
    /// When TLS can't be used in this build.
    pub fn new(roots: RootCertStore, connect_limit: Option<Duration>) -> Result<Self, TlsError> {
        Ok(Self::by(pool().build(connector(roots, connect_limit)?)))
    }

    /// A client for servers of every kind, which reads what others such as curl read: folded and odd headers, and many of
    /// them, up to 256 KiB. Where it can't read an answer's head, [`status_of`] the error may still say what the answer was.
    ///
    /// # Errors
    /// When TLS can't be used in this build.
    pub fn tolerant(roots: RootCertStore) -> Result<Self, TlsError> {
        Ok(Self::tolerant_over(connector(roots, None)?))
    }

    /// [`Client::tolerant`] over connections that `connector` makes.
    pub fn tolerant_over<C>(connector: C) -> Self
    where
        C: Service<Uri, Response: Read + Write + Connection + Unpin + Send, Error: Into<BoxError>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let mut pool = pool();
        pool.http1_allow_obsolete_multiline_headers_in_responses(true)
            .http1_allow_spaces_after_header_name_in_responses(true)
            .http1_ignore_invalid_headers_in_responses(true)
            .http1_max_headers(MAX_HEADERS)
            .http1_max_buf_size(MAX_HEAD_BYTES);
        Self::by(pool.build(Watching(connector)))
    }

    fn by<C: Connect + Clone + Send + Sync + 'static>(pool: Pool<C, Full<Bytes>>) -> Self {
        Self(Arc::new(move |request| Box::pin(pool.request(request))))
    }

    /// Sends a request and waits for the head of its answer. There is no time limit: that is the caller's.
    ///
    /// # Errors
    /// When there is no connection, or it breaks off.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
        (self.0)(request).await
    }
}

fn pool() -> Builder {
    let mut pool = Pool::builder(TokioExecutor::new());
    pool.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_LIMIT);
    pool
}

fn connector(roots: RootCertStore, connect_limit: Option<Duration>) -> Result<HttpsConnector<HttpConnector>, TlsError> {
    let tls = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(connect_limit);
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
    Ok(connector.wrap_connector(http))
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

/// The certificate authorities of this host; none where it has none. Loading them takes milliseconds, and http needs none.
pub fn native_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}
