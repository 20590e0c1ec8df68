//! What a watch tells.

use std::sync::Arc;

use portcullis_api::object::ObjectError;
use portcullis_api::{Change, ObjectKey};

use crate::error::ReadError;
use crate::kinds::KindId;
use crate::owned::Owned;
use crate::served::ServedSchema;

/// What has become known. The order for one object, and for one kind, is the order in which it became known.
#[derive(Debug)]
pub enum Event {
    /// Objects that are new, changed or gone; as many as were there at once. An object comes once for each of its
    /// versions. Secrets and ConfigMaps come only while they are wanted, with a `Delete` when they no longer are.
    Changes(Vec<Change>),
    /// An object that is new or changed, but cannot be read. What was last read of it stays valid for whoever had it;
    /// a `Change` of the same key ends this.
    Unparsable {
        /// The object.
        key: ObjectKey,
        /// The field, and what is wrong with it.
        error: ObjectError,
    },
    /// What data planes' own objects say; only if the selection asks for them.
    Owned(Vec<Owned>),
    /// The kind is served, and is going to be listed in this version. Comes again when the version changes.
    KindServed {
        /// The kind.
        kind: KindId,
        /// As in `v1`.
        version: Arc<str>,
    },
    /// Every object of the kind has been told, in every place where it is looked for. Comes again when a kind is
    /// readable again after it was not, or after it was absent.
    KindListed(KindId),
    /// The kind cannot be read now; it is tried again on and on. What was last read of it stays valid.
    KindUnreadable {
        /// The kind.
        kind: KindId,
        /// Where; none for the whole cluster.
        namespace: Option<Arc<str>>,
        /// Why, and what to do.
        error: ReadError,
    },
    /// The API server does not serve the kind, certainly. `Delete`s for all its objects came before.
    KindAbsent(KindId),
    /// The object is wanted, but lies where it may not be read, and so is to be treated as absent. A `Change` of the
    /// same key ends this, and so does not wanting it any more.
    NotPermitted {
        /// The Secret or ConfigMap.
        key: ObjectKey,
        /// Why, and what to do.
        error: ReadError,
    },
    /// What the API server serves of the Gateway API and of our own kinds. The first comes before [`Event::AllListed`];
    /// then again when it changed.
    ServedSchema(ServedSchema),
    /// Every kind that is served has been listed: nothing may be published before. Comes once. Deployments and Pods are
    /// not waited for; see [`Event::KindListed`] of them.
    AllListed,
    /// Everything that was wanted at the call of [`Watch::want`](crate::Watch::want) that returned this number, or
    /// earlier, has been told, or is absent, or cannot be read. What is wanted at first has to be waited for in this way, lest a first
    /// configuration lack what is there.
    WantedRead(u64),
}
