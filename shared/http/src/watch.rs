//! Watches a connection for the status of an answer whose head the HTTP library can't read: a header's name with a bracket,
//! two lengths, more headers than anyone needs. The status is read by then, and says what became of the request.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::{Extensions, StatusCode, Uri};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::client::legacy::Error;
use hyper_util::client::legacy::connect::{Connected, Connection};
use tower_service::Service;

/// What a status line begins with, up to the byte after the status: `HTTP/1.1 200 `.
const STATUS_BYTES: usize = 13;

/// The status of the answer that `error` says can't be read, where its status line could be. That an answer broke off or
/// never came is another error, and has none.
pub fn status_of(error: &Error) -> Option<StatusCode> {
    let cause: &(dyn std::error::Error + 'static) = std::error::Error::source(error)?;
    if !cause.downcast_ref::<hyper::Error>()?.is_parse() {
        return None;
    }
    let mut extensions = Extensions::new();
    error.connect_info()?.get_extras(&mut extensions);
    extensions.get::<Watch>()?.status()
}

/// What was seen of the answer to the latest request on a connection.
#[derive(Clone, Default)]
struct Watch(Arc<Mutex<Seen>>);

impl Watch {
    fn status(&self) -> Option<StatusCode> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).status
    }

    fn wrote(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).wrote();
    }

    fn read(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(bytes);
    }
}

/// Reads the status line of an answer and nothing else of it.
#[derive(Default)]
struct Seen {
    status: Option<StatusCode>,
    /// The line that is being read, as far as it matters, without its end.
    line: Vec<u8>,
    place: Place,
}

#[derive(Default, PartialEq, Eq)]
enum Place {
    /// Nothing has come since the request.
    #[default]
    Start,
    StatusLine,
    Headers,
    /// Past the head, or in what is no answer.
    Past,
}

impl Seen {
    /// A request is being written: an answer that came before is not its own.
    fn wrote(&mut self) {
        if self.place != Place::Start {
            *self = Self::default();
        }
    }

    fn read(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.place == Place::Past {
                return;
            }
            self.read_byte(*byte);
        }
    }

    fn read_byte(&mut self, byte: u8) {
        let ends = byte == b'\n';
        if !ends && byte != b'\r' && self.line.len() < STATUS_BYTES {
            self.line.push(byte);
        }
        match self.place {
            Place::Start | Place::StatusLine if ends || self.line.len() == STATUS_BYTES => {
                // Empty lines before an answer are passed over (RFC 9112 §2.2).
                let is_empty = self.line.is_empty();
                self.status = status_in(&self.line);
                self.place = match self.status {
                    Some(_) => Place::Headers,
                    None if is_empty => Place::StatusLine,
                    None => Place::Past,
                };
            }
            Place::Start => self.place = Place::StatusLine,
            // After an interim answer comes another.
            Place::Headers if ends && self.line.is_empty() => match self.status {
                Some(status) if status.is_informational() => {
                    (self.status, self.place) = (None, Place::StatusLine);
                }
                _ => self.place = Place::Past,
            },
            Place::StatusLine | Place::Headers | Place::Past => {}
        }
        if ends {
            self.line.clear();
        }
    }
}

fn status_in(line: &[u8]) -> Option<StatusCode> {
    let (version, rest) = line.split_at_checked(9)?;
    let is_http = version[..5].eq_ignore_ascii_case(b"HTTP/") && version[6] == b'.' && version[8] == b' ';
    let (code, end) = rest.split_at_checked(3)?;
    if is_http && matches!(end, [] | [b' ']) { StatusCode::from_bytes(code).ok() } else { None }
}

/// A connector whose connections are watched.
#[derive(Clone)]
pub(crate) struct Watching<C>(pub(crate) C);

type Connecting<S, E> = Pin<Box<dyn Future<Output = Result<Watched<S>, E>> + Send>>;

impl<C: Service<Uri, Future: Send + 'static>> Service<Uri> for Watching<C> {
    type Response = Watched<C::Response>;
    type Error = C::Error;
    type Future = Connecting<C::Response, C::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move { Ok(Watched { stream: connecting.await?, watch: Watch::default() }) })
    }
}

/// A connection that is watched.
pub(crate) struct Watched<S> {
    stream: S,
    watch: Watch,
}

impl<S: Connection> Connection for Watched<S> {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.watch.clone())
    }
}

impl<S: Read + Unpin> Read for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // The bytes are looked at in a buffer of our own: the cursor's can't be without `unsafe`.
        let mut bytes = [0; 8 * 1024];
        let most = cursor.remaining().min(bytes.len());
        let mut buffer = ReadBuf::new(&mut bytes[..most]);
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer.unfilled());
        self.watch.read(buffer.filled());
        cursor.put_slice(buffer.filled());
        polled
    }
}

impl<S: Write + Unpin> Write for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.watch.wrote();
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.watch.wrote();
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(seen: &Seen) -> Option<u16> {
        seen.status.map(|status| status.as_u16())
    }

    #[test]
    fn the_status_is_read_however_the_bytes_come() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\nX(1): a\r\n\r\n", Some(200)),
            ("HTTP/1.0 503\n\n", Some(503)),
            ("\r\n\r\nHTTP/1.1 200 \r\n", Some(200)),
            ("http/1.1 410 Gone\r\n\r\nHTTP/1.1 200 OK\r\n", Some(410)),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: <x>\r\n\r\nHTTP/1.1 401 No\r\n", Some(401)),
            ("HTTP/1.1 100 Continue\r\n\r\n", None),
            ("HTTP/1.1 20", None),
            ("HTTP/1.1 2000 OK\r\n\r\n", None),
            ("HTTP/1.1 099 No\r\n\r\n", None),
            ("SSH-2.0-OpenSSH_9.2\r\nHTTP/1.1 200 OK\r\n", None),
        ] {
            let mut at_once = Seen::default();
            at_once.read(answer.as_bytes());
            let mut by_bytes = Seen::default();
            answer.as_bytes().chunks(1).for_each(|byte| by_bytes.read(byte));
            assert_eq!((status(&at_once), status(&by_bytes)), (expected, expected), "{answer:?}");
        }
    }

    #[test]
    fn an_answer_that_came_before_a_request_is_not_its_own() {
        let mut seen = Seen::default();
        seen.wrote();
        seen.read(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 201 Created\r\n");
        assert_eq!(status(&seen), Some(200));
        seen.wrote();
        assert_eq!(status(&seen), None);
        seen.read(b"HTTP/1.1 500 Broken\r\n");
        assert_eq!(status(&seen), Some(500));
        // An interim answer may come while the request is being written.
        seen.wrote();
        seen.wrote();
        seen.read(b"HTTP/1.1 404 Not Found\r\n");
        assert_eq!(status(&seen), Some(404));
    }
}
