//! Connections, as they come in.
//!
//! Older etcd clients (3.4's `etcdctl endpoint status` and `defrag`) send the endpoint with its scheme as the
//! HTTP/2 authority, `http://127.0.0.1:2379`. etcd does not mind; our HTTP/2 library refuses the whole call. So the
//! scheme is taken out before the library sees it.

mod authority;
mod frames;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use self::frames::Frames;

const READ_BYTES: usize = 16 * 1024;

/// A connection whose header frames are mended on the way in.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    frames: Frames,
    /// Mended bytes that were not read yet.
    pending: Vec<u8>,
    /// How many of them were.
    read: usize,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            frames: Frames::default(),
            pending: Vec::new(),
            read: 0,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.read >= this.pending.len() {
            let mut bytes = [0; READ_BYTES];
            let mut buffer = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.pending.clear();
            this.read = 0;
            this.frames.feed(buffer.filled(), &mut this.pending);
        }
        let left = this.pending.get(this.read..).unwrap_or_default();
        let taken = left.get(..out.remaining()).unwrap_or(left);
        out.put_slice(taken);
        this.read += taken.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}
