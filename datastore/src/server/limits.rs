//! Every limit of the store, with its unit in its name.

use std::time::Duration;

/// A write may be this large once wrapped as etcd wraps it for its log (etcd's `--max-request-bytes`).
pub const REQUEST_BYTES_MAX: usize = 1536 * 1024;
/// What etcd's log wrapping adds to a request: two tags, a length, a request id.
pub const REQUEST_WRAPPING_BYTES: usize = 19;
/// A message above this is refused before it is decoded (etcd: the request limit and 512 KiB).
pub const MESSAGE_BYTES_MAX: usize = REQUEST_BYTES_MAX + 512 * 1024;
/// Compares, success operations or failure operations of one transaction (etcd's `--max-txn-ops`).
pub const TXN_OPERATIONS_MAX: usize = 128;
/// A watch response of a watch that asked for fragments is cut at this size.
pub const FRAGMENT_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

/// Write commands waiting for the writer; past it, callers wait.
pub const COMMANDS_QUEUED_MAX: usize = 1024;
/// Write commands that share one commit.
pub const COMMIT_COMMANDS_MAX: usize = 256;
/// Records that one commit removes after a compaction.
pub const COMPACTION_RECORDS_PER_COMMIT_MAX: usize = 10_000;
/// Revisions of history that are kept unless told otherwise.
pub const KEPT_REVISIONS_DEFAULT: u32 = 50_000;
/// The longest that writes stay unsynced with `Durability::Relaxed`.
pub const RELAXED_SYNC_INTERVAL: Duration = Duration::from_millis(100);

/// Committed revisions kept in memory for watches that keep up.
pub const RECENT_REVISIONS_MAX: usize = 10_000;
/// Bytes of events kept in memory for watches that keep up.
pub const RECENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Revisions that a watch which fell behind reads from the file in one step.
pub const CATCH_UP_REVISIONS_MAX: usize = 1000;
/// Bytes of keys and values that such a step stops after.
pub const CATCH_UP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Responses queued for one watch stream; a client that does not read holds no more than this.
pub const WATCH_RESPONSES_QUEUED_MAX: usize = 16;
/// Watches of one stream.
pub const WATCHES_PER_STREAM_MAX: usize = 10_000;
/// How often an idle watch that asked for progress notices gets one (etcd's default).
pub const PROGRESS_NOTIFY_INTERVAL: Duration = Duration::from_secs(600);

/// The shortest lease that is granted (etcd's with its default election timeout).
pub const LEASE_TTL_SECONDS_MIN: i64 = 2;
/// The longest lease that is granted.
pub const LEASE_TTL_SECONDS_MAX: i64 = 9_000_000_000;
/// How often the remaining time of long leases is written down.
pub const LEASE_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(300);
/// Expired leases that are revoked in one step.
pub const LEASES_REVOKED_PER_STEP_MAX: usize = 1000;

/// HTTP/2 streams of one connection; each watch stream and call in flight is one.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 4096;
/// How often a connection without traffic is asked for a sign of life, so that clients that vanished are let go.
pub const CONNECTION_PROBE_INTERVAL: Duration = Duration::from_secs(60);
/// How long the sign of life may take.
pub const CONNECTION_PROBE_TIMEOUT: Duration = Duration::from_secs(20);
/// Memory that the file's page cache may take.
pub const PAGE_CACHE_BYTES: usize = 64 * 1024 * 1024;
/// How long a shutdown waits for open calls before it drops them.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
