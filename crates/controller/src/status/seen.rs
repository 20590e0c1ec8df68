//! What is kept of an object whose status may be written: little, since there are many.

use portcullis_api::Object;
use serde_json::Value;

/// An object as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The version in which it was served.
    pub(crate) api_version: Box<str>,
    /// Its uid.
    pub(crate) uid: Option<Box<str>>,
    /// Its generation.
    pub(crate) generation: Option<i64>,
    resource_version: Option<Box<str>>,
    /// As JSON text; nothing if it has none.
    status: Option<Box<str>>,
    /// Whether the status is as it is stored, to the byte. What a watch told has been through types, which leave out empty lists.
    pub(crate) is_as_stored: bool,
}

impl Seen {
    /// As a watch told it.
    pub(crate) fn told(object: &Object) -> Self {
        let metadata = object.metadata();
        let boxed = |text: &Option<String>| text.as_deref().map(Box::from);
        Self {
            api_version: object.api_version().into(),
            uid: boxed(&metadata.uid),
            generation: metadata.generation,
            resource_version: boxed(&metadata.resource_version),
            status: object.to_value().get("status").map(|status| status.to_string().into()),
            is_as_stored: false,
        }
    }

    /// As the API server answered.
    pub(crate) fn answered(answer: &Value) -> Self {
        let metadata = &answer["metadata"];
        let boxed = |text: &Value| text.as_str().map(Box::from);
        Self {
            api_version: answer["apiVersion"].as_str().unwrap_or_default().into(),
            uid: boxed(&metadata["uid"]),
            generation: metadata["generation"].as_i64(),
            resource_version: boxed(&metadata["resourceVersion"]),
            status: answer.get("status").map(|status| status.to_string().into()),
            is_as_stored: true,
        }
    }

    /// The status.
    pub(crate) fn status(&self) -> Option<Value> {
        // What was written as JSON reads as JSON.
        self.status.as_deref().and_then(|status| serde_json::from_str(status).ok())
    }

    /// The precondition of a write.
    pub(crate) fn resource_version(&self) -> Option<&str> {
        self.resource_version.as_deref()
    }

    /// Whether this is another object than what is known, or a later version of it.
    pub(crate) fn is_newer_than(&self, known: &Self) -> bool {
        if self.uid != known.uid {
            return true;
        }
        let number = |seen: &Self| seen.resource_version()?.parse::<u128>().ok();
        match (number(self), number(known)) {
            (Some(this), Some(known)) => this > known,
            _ => self.resource_version != known.resource_version,
        }
    }
}
