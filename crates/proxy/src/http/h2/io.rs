//! The connection's bytes on their way to and from hyper, with the frames counted.

use super::budget::{Budget, Budgets};
use super::frames::{FrameScanner, go_away};
use crate::connection::Io;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;

/// Most bytes that are still read from a client that was told to go away, so that it can read why.
const LINGER_BYTES: usize = 256 * 1024;
const LINGER: Duration = Duration::from_secs(1);

/// A connection with its counters, shared by hyper and by whoever watches over it.
pub(super) struct Counted<I> {
    io: I,
    inbound: FrameScanner,
    outbound: FrameScanner,
    budgets: Budgets,
    last_stream: u32,
    began: Instant,
    blocked_since: Option<Instant>,
}

impl<I: Io> Counted<I> {
    pub(super) fn new(io: I, max_header_list: u32) -> Self {
        let began = Instant::now();
        Self {
            io,
            inbound: FrameScanner::of_client(),
            outbound: FrameScanner::of_server(),
            budgets: Budgets::new(max_header_list, began),
            last_stream: 0,
            began,
            blocked_since: None,
        }
    }

    /// What the client exceeded, if anything.
    pub(super) fn exceeded(&self, header_timeout: Duration, write_stall: Duration) -> Option<Budget> {
        let first = (!self.inbound.has_begun()).then_some(self.began);
        let header = self.budgets.header_block_since().or(first);
        let is_over = |since: Option<Instant>, limit| since.is_some_and(|since| since.elapsed() >= limit);
        match self.budgets.exceeded() {
            None if is_over(header, header_timeout) => Some(Budget::HeaderTimeout),
            None if is_over(self.blocked_since, write_stall) => Some(Budget::WriteStalled),
            exceeded => exceeded,
        }
    }

    fn received(&mut self, bytes: &[u8]) {
        let Self { inbound, budgets, last_stream, .. } = self;
        let now = Instant::now();
        inbound.scan(bytes, |frame| {
            *last_stream = frame.stream.max(*last_stream);
            budgets.received(&frame, now);
        });
    }

    fn sent(&mut self, slices: &[IoSlice<'_>], mut length: usize) {
        let now = Instant::now();
        for slice in slices {
            let sent = length.min(slice.len());
            length -= sent;
            let Self { outbound, budgets, .. } = self;
            outbound.scan(&slice[..sent], |frame| budgets.sent(&frame, now));
        }
    }

    /// Notes what became of a write.
    fn wrote(&mut self, slices: &[IoSlice<'_>], result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match result {
            Poll::Pending => {
                self.blocked_since.get_or_insert_with(Instant::now);
            }
            Poll::Ready(Ok(length)) => {
                self.blocked_since = None;
                self.sent(slices, length);
            }
            Poll::Ready(Err(_)) => {}
        }
        result
    }

    fn check(&self) -> io::Result<()> {
        match self.budgets.exceeded() {
            Some(budget) => Err(io::Error::other(budget.as_str())),
            None => Ok(()),
        }
    }
}

/// Tells a client that exceeded a budget to calm down, and closes. Whatever hyper had not written yet is lost.
pub(super) async fn end<I: Io>(counted: Rc<RefCell<Counted<I>>>) {
    // Everything else that had it is gone.
    let Some(counted) = Rc::into_inner(counted) else { return };
    let Counted { mut io, outbound, last_stream, .. } = counted.into_inner();
    if !outbound.is_at_boundary() {
        return;
    }
    let told = async {
        io.write_all(&go_away(last_stream)).await?;
        io.flush().await?;
        io.shutdown().await?;
        let (mut rest, mut left) = ([0; 4096], LINGER_BYTES);
        while left > 0 {
            match io.read(&mut rest).await? {
                0 => break,
                length => left = left.saturating_sub(length),
            }
        }
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(LINGER, told).await;
}

/// The connection as hyper reads and writes it.
pub(super) struct Guarded<I>(pub(super) Rc<RefCell<Counted<I>>>);

impl<I: Io> AsyncRead for Guarded<I> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut counted = self.0.borrow_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut counted.io).poll_read(context, buffer))?;
        counted.received(&buffer.filled()[before..]);
        Poll::Ready(counted.check())
    }
}

impl<I: Io> AsyncWrite for Guarded<I> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut counted = self.0.borrow_mut();
        counted.check()?;
        let result = Pin::new(&mut counted.io).poll_write(context, bytes);
        counted.wrote(&[IoSlice::new(bytes)], result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut counted = self.0.borrow_mut();
        counted.check()?;
        let result = Pin::new(&mut counted.io).poll_write_vectored(context, slices);
        counted.wrote(slices, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_shutdown(context)
    }
}
