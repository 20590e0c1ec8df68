//! What a client may send beside requests and their bodies: a budget for each kind of frame.
//!
//! In flow the frame headers of both directions; out flows the first [`Budget`] that is exceeded, which ends the connection.
//! Each kind has a bucket that starts full and refills slowly. Useful work refills it too (a finished response, data that
//! flows), so that a busy honest client is never near the end, and one that only makes work soon is: rapid reset
//! (CVE-2023-44487), resets that it makes us send (CVE-2025-8671), CONTINUATION floods (CVE-2024-27316), and floods of PING,
//! SETTINGS, empty DATA, WINDOW_UPDATE and PRIORITY (CVE-2019-9512 to 9518).

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, PING, PRIORITY, PRIORITY_UPDATE, RST_STREAM, SETTINGS,
    WINDOW_UPDATE,
};
use tokio::time::Instant;

macro_rules! budgets {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// What was exceeded. Closed, so that it can be a metric label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Budget {
            $($(#[$doc])* $name,)*
        }

        impl Budget {
            /// Every one there is.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable text for logs and metrics.
            pub(crate) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

budgets! {
    /// RST_STREAM, the client's and ours.
    Reset => "reset",
    /// PING.
    Ping => "ping",
    /// SETTINGS.
    Settings => "settings",
    /// DATA without data that does not end a stream.
    EmptyData => "empty_data",
    /// WINDOW_UPDATE.
    WindowUpdate => "window_update",
    /// PRIORITY and PRIORITY_UPDATE.
    Priority => "priority",
    /// Frames that nobody knows, and GOAWAY.
    Other => "other",
    /// CONTINUATION frames of one header block.
    Continuation => "continuation",
    /// Bytes of one header block.
    HeaderBytes => "header_bytes",
    /// Time from the first byte of a header block, or of the connection, to its last.
    HeaderTimeout => "header_timeout",
    /// Time in which the client took nothing of what we send.
    WriteStalled => "write_stalled",
    /// Time in which the client left no window for a response. Ends the stream, not the connection.
    StreamStalled => "stream_stalled",
}

/// CONTINUATION frames of one header block: with frames of 16 KiB, three would do.
const MAX_CONTINUATIONS: u32 = 16;

/// Frames that may be sent at once, and in each second.
const BUCKETS: [(f32, f32); 7] = [
    // Two hundred cancelled requests: a browser that leaves a page cancels a hundred at most.
    (200.0, 20.0),
    (250.0, 20.0),
    (50.0, 1.0),
    (100.0, 1.0),
    (2000.0, 200.0),
    (500.0, 20.0),
    (250.0, 10.0),
];

struct Bucket {
    left: f32,
    capacity: f32,
    per_second: f32,
    refilled: Instant,
}

impl Bucket {
    /// Whether there was one left.
    fn spend(&mut self, now: Instant) -> bool {
        if self.left < 1.0 {
            let passed = now.saturating_duration_since(self.refilled).as_secs_f32();
            self.left = (self.left + passed * self.per_second).min(self.capacity);
            self.refilled = now;
        }
        self.left -= 1.0;
        self.left >= 0.0
    }

    fn earn(&mut self, frames: f32) {
        self.left = (self.left + frames).min(self.capacity);
    }
}

struct HeaderBlock {
    continuations: u32,
    bytes: u32,
    since: Instant,
}

/// The budgets of one connection.
pub(super) struct Budgets {
    buckets: [Bucket; 7],
    header_block: Option<HeaderBlock>,
    max_header_bytes: u32,
    exceeded: Option<Budget>,
}

impl Budgets {
    /// `max_header_list` is what clients are told (SETTINGS_MAX_HEADER_LIST_SIZE). A block may be twice as large, so that a
    /// client that sends a little more is answered with 431.
    pub(super) fn new(max_header_list: u32, now: Instant) -> Self {
        let bucket = |(capacity, per_second)| Bucket { left: capacity, capacity, per_second, refilled: now };
        let max_header_bytes = max_header_list.saturating_mul(2);
        Self { buckets: BUCKETS.map(bucket), header_block: None, max_header_bytes, exceeded: None }
    }

    /// The first that was exceeded.
    pub(super) fn exceeded(&self) -> Option<Budget> {
        self.exceeded
    }

    /// Since when a header block is incomplete.
    pub(super) fn header_block_since(&self) -> Option<Instant> {
        self.header_block.as_ref().map(|block| block.since)
    }

    /// Counts a frame of the client's.
    pub(super) fn received(&mut self, frame: &Frame, now: Instant) {
        match frame.kind {
            DATA if frame.length > 0 => self.earn_for_data(),
            DATA if frame.has(END_STREAM) => {}
            DATA => self.spend(Budget::EmptyData, now),
            HEADERS => {
                self.earn(Budget::Priority, 2.0);
                if !frame.has(END_HEADERS) {
                    let block = HeaderBlock { continuations: 0, bytes: frame.length, since: now };
                    self.header_block = Some(block);
                }
            }
            CONTINUATION => self.continued(frame),
            RST_STREAM => self.spend(Budget::Reset, now),
            PING => self.spend(Budget::Ping, now),
            SETTINGS => self.spend(Budget::Settings, now),
            WINDOW_UPDATE => self.spend(Budget::WindowUpdate, now),
            PRIORITY | PRIORITY_UPDATE => self.spend(Budget::Priority, now),
            _ => self.spend(Budget::Other, now),
        }
    }

    /// Counts a frame of ours.
    pub(super) fn sent(&mut self, frame: &Frame, now: Instant) {
        match frame.kind {
            RST_STREAM => self.spend(Budget::Reset, now),
            DATA | HEADERS if frame.has(END_STREAM) => {
                self.earn(Budget::Reset, 1.0);
                self.earn_for_data();
            }
            DATA if frame.length > 0 => self.earn_for_data(),
            _ => {}
        }
    }

    fn continued(&mut self, frame: &Frame) {
        // Without a block it is an error of the protocol, which `h2` answers.
        let Some(block) = &mut self.header_block else { return };
        block.continuations += 1;
        block.bytes = block.bytes.saturating_add(frame.length);
        if block.continuations > MAX_CONTINUATIONS {
            self.exceed(Budget::Continuation);
        } else if block.bytes > self.max_header_bytes {
            self.exceed(Budget::HeaderBytes);
        } else if frame.has(END_HEADERS) {
            self.header_block = None;
        }
    }

    /// Clients measure their bandwidth with a PING, and open the window, for data that they get.
    fn earn_for_data(&mut self) {
        self.earn(Budget::Ping, 1.0);
        self.earn(Budget::WindowUpdate, 10.0);
    }

    fn earn(&mut self, budget: Budget, frames: f32) {
        if let Some(bucket) = self.buckets.get_mut(budget as usize) {
            bucket.earn(frames);
        }
    }

    fn spend(&mut self, budget: Budget, now: Instant) {
        if let Some(bucket) = self.buckets.get_mut(budget as usize)
            && !bucket.spend(now)
        {
            self.exceed(budget);
        }
    }

    fn exceed(&mut self, budget: Budget) {
        self.exceeded.get_or_insert(budget);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: u32) -> Frame {
        Frame { length, kind, flags, stream: 1 }
    }

    /// How many frames are taken before the budget is exceeded, and which one it is.
    fn taken(kind: u8, flags: u8, length: u32) -> (u32, Budget) {
        let now = Instant::now();
        let mut budgets = Budgets::new(32 * 1024, now);
        for count in 0..100_000 {
            budgets.received(&frame(kind, flags, length), now);
            if let Some(budget) = budgets.exceeded() {
                return (count, budget);
            }
        }
        panic!("frames of kind {kind} are without limit");
    }

    #[test]
    fn every_kind_has_its_own_budget() {
        for (kind, flags, length, count, budget) in [
            (RST_STREAM, 0, 4, 200, Budget::Reset),
            (PING, 0, 8, 250, Budget::Ping),
            (SETTINGS, 0, 0, 50, Budget::Settings),
            (DATA, 0, 0, 100, Budget::EmptyData),
            (WINDOW_UPDATE, 0, 4, 2000, Budget::WindowUpdate),
            (PRIORITY, 0, 5, 500, Budget::Priority),
            (PRIORITY_UPDATE, 0, 8, 500, Budget::Priority),
            (0x42, 0, 0, 250, Budget::Other),
        ] {
            assert_eq!(taken(kind, flags, length), (count, budget));
        }
    }

    #[test]
    fn header_blocks_end() {
        let now = Instant::now();
        let mut budgets = Budgets::new(32 * 1024, now);
        budgets.received(&frame(HEADERS, 0, 100), now);
        assert!(budgets.header_block_since().is_some());
        for _ in 0..MAX_CONTINUATIONS {
            budgets.received(&frame(CONTINUATION, 0, 0), now);
        }
        assert_eq!(budgets.exceeded(), None);
        budgets.received(&frame(CONTINUATION, 0, 0), now);
        assert_eq!(budgets.exceeded(), Some(Budget::Continuation));

        let mut budgets = Budgets::new(32 * 1024, now);
        budgets.received(&frame(HEADERS, 0, 16_384), now);
        budgets.received(&frame(CONTINUATION, 0, 16_384), now);
        budgets.received(&frame(CONTINUATION, END_HEADERS, 16_384), now);
        assert_eq!((budgets.exceeded(), budgets.header_block_since()), (None, None));
        budgets.received(&frame(HEADERS, 0, 60_000), now);
        budgets.received(&frame(CONTINUATION, END_HEADERS, 6_000), now);
        assert_eq!(budgets.exceeded(), Some(Budget::HeaderBytes));
    }

    #[test]
    fn work_and_time_refill() {
        let now = Instant::now();
        let mut budgets = Budgets::new(32 * 1024, now);
        for _ in 0..10_000 {
            budgets.received(&frame(RST_STREAM, 0, 4), now);
            budgets.sent(&frame(HEADERS, END_STREAM | END_HEADERS, 40), now);
            budgets.received(&frame(PING, 0, 8), now);
            budgets.received(&frame(DATA, 0, 100), now);
        }
        for _ in 0..200 {
            budgets.received(&frame(RST_STREAM, 0, 4), now);
        }
        assert_eq!(budgets.exceeded(), None);
        let now = now + std::time::Duration::from_secs(3);
        for _ in 0..60 {
            budgets.sent(&frame(RST_STREAM, 0, 4), now);
        }
        assert_eq!(budgets.exceeded(), None);
        budgets.sent(&frame(RST_STREAM, 0, 4), now);
        assert_eq!(budgets.exceeded(), Some(Budget::Reset));
    }
}
