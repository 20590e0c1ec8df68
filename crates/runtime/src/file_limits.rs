//! Raising the number of files that this process may open.
//!
//! In flow the limits that the process was started with. Out flows the soft limit raised to the hard one, because every
//! connection is a file and the usual soft limit is 1,024.
#![allow(unsafe_code, reason = "getrlimit and setrlimit have no safe form in std; they are called nowhere else")]

use std::io;

/// The limits on open files after [`raise`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimits {
    /// The soft limit before.
    pub before: u64,
    /// The soft limit now.
    pub now: u64,
}

/// Raises the soft limit to the hard one. Call it once at start.
///
/// # Errors
/// When the operating system refuses; the limit is then what it was.
pub fn raise() -> io::Result<FileLimits> {
    let (soft, hard) = limits()?;
    if soft < hard {
        set(hard, hard)?;
    }
    Ok(FileLimits { before: soft, now: hard })
}

fn limits() -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit that outlives the call, which writes to it and keeps no pointer.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if result == 0 { Ok((limit.rlim_cur, limit.rlim_max)) } else { Err(io::Error::last_os_error()) }
}

fn set(soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` is a valid rlimit that outlives the call, which only reads it.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let (_, hard) = limits().unwrap();
        set(hard - 1, hard).unwrap();
        let raised = raise().unwrap();
        assert_eq!(raised, FileLimits { before: hard - 1, now: hard });
        assert_eq!(limits().unwrap(), (hard, hard));
        assert_eq!(raise().unwrap(), FileLimits { before: hard, now: hard });
    }
}
