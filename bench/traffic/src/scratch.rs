//! One buffer to read into for all connections of the thread: 2,000 connections with buffers of their own would not fit the caches.
//!
//! What flows in: a stream. What flows out: what one read gave, lent to a closure.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

const SIZE: usize = 128 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SIZE]);
}

/// Reads once. At the end of the stream the bytes are empty.
pub(crate) async fn read<S, T>(stream: &mut S, mut take: impl FnMut(&[u8]) -> T) -> io::Result<T>
where
    S: AsyncRead + Unpin,
{
    poll_fn(|context| {
        BUFFER.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut read))?;
            Poll::Ready(Ok(take(read.filled())))
        })
    })
    .await
}
