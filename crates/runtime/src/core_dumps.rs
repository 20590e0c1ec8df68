//! No core dumps: a crash must not write private keys to a disk.
//!
//! In flow nothing, out flows nothing but a mark on this process. Linux writes no core of a process that is not dumpable, whatever
//! `RLIMIT_CORE` and `kernel.core_pattern` say (a limit of 0 does not hold for a pattern that is a pipe), and lets no other process of
//! the same user trace it or read its memory.
#![allow(unsafe_code, reason = "prctl has no safe form in std; it is called nowhere else")]

use std::io;

/// Forbids core dumps. Call it before the first secret is read.
///
/// # Errors
/// When the operating system refuses; a crash may then leave a core.
pub fn forbid() -> io::Result<()> {
    let no: libc::c_ulong = 0;
    // SAFETY: PR_SET_DUMPABLE takes one number and no pointer; it changes no memory of this process.
    let result = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, no) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
