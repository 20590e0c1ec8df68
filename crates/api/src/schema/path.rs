//! The path of a field inside an object, printed as kubectl prints it: `spec.listeners[0].port`.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::diagnostic::escape_foreign_text;

/// The longest segment that is printed, in characters.
const MAX_SEGMENT: usize = 100;

/// One step into an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// A declared field: `.spec`.
    Field(Box<str>),
    /// An element of a list, from 0: `[2]`.
    Index(usize),
    /// A key that the user chose, in a map: `[app.kubernetes.io/name]`.
    Key(Box<str>),
}

/// A field's place in an object, from the root; empty for the object itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FieldPath(Vec<Segment>);

impl FieldPath {
    /// The object itself.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// The steps from the root.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The path of a declared field below this one.
    #[must_use]
    pub fn field(mut self, name: &str) -> Self {
        self.0.push(Segment::Field(name.into()));
        self
    }

    /// The path of a list element below this one.
    #[must_use]
    pub fn index(mut self, index: usize) -> Self {
        self.0.push(Segment::Index(index));
        self
    }

    /// The path of an entry of a map below this one.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.0.push(Segment::Key(key.into()));
        self
    }

    /// This path and then `below`.
    #[must_use]
    pub fn join(mut self, below: &Self) -> Self {
        self.0.extend_from_slice(&below.0);
        self
    }

    /// Whether the field is `ancestor` or stands below it.
    pub fn is_within(&self, ancestor: &Self) -> bool {
        self.0.starts_with(&ancestor.0)
    }

    /// The field's value in `object`, if it has one.
    pub fn find<'v>(&self, object: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(object, |value, segment| match segment {
            Segment::Field(name) | Segment::Key(name) => value.get(&**name),
            Segment::Index(index) => value.get(index),
        })
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Field(name) => {
                    let dot = if position == 0 { "" } else { "." };
                    write!(f, "{dot}{}", escape_foreign_text(name, MAX_SEGMENT))?;
                }
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => write!(f, "[{}]", escape_foreign_text(key, MAX_SEGMENT))?,
            }
        }
        Ok(())
    }
}

/// Reads what [`Display`](fmt::Display) writes: `a.b[0].c[some.key/name]`. Whatever is not a number between
/// brackets is a key.
impl FromStr for FieldPath {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let mut path = Self::root();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(bracket) = rest.strip_prefix('[') {
                let end = bracket.find(']').unwrap_or(bracket.len());
                let inner = &bracket[..end];
                path = match inner.parse() {
                    Ok(index) => path.index(index),
                    Err(_) => path.key(inner),
                };
                rest = bracket.get(end + 1..).unwrap_or("");
            } else {
                let name = rest.strip_prefix('.').unwrap_or(rest);
                let end = name.find(['.', '[']).unwrap_or(name.len());
                if end > 0 {
                    path = path.field(&name[..end]);
                }
                rest = &name[end..];
            }
        }
        Ok(path)
    }
}

/// A path that is being walked: links on the stack, so that walking allocates nothing.
#[derive(Clone, Copy)]
pub(super) struct Trail<'a> {
    parent: Option<&'a Trail<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Trail<'a> {
    pub(super) const ROOT: Trail<'static> = Trail { parent: None, step: Step::Root };

    pub(super) fn field(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Field(name) }
    }

    pub(super) fn index(&'a self, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Index(index) }
    }

    pub(super) fn key(&'a self, key: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Key(key) }
    }

    pub(super) fn to_path(self) -> FieldPath {
        let mut segments = Vec::new();
        let mut at = Some(&self);
        while let Some(trail) = at {
            match trail.step {
                Step::Root => {}
                Step::Field(name) => segments.push(Segment::Field(name.into())),
                Step::Index(index) => segments.push(Segment::Index(index)),
                Step::Key(key) => segments.push(Segment::Key(key.into())),
            }
            at = trail.parent;
        }
        segments.reverse();
        FieldPath(segments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_prints_as_kubectl_prints_it_and_reads_back() {
        let path = FieldPath::root().field("spec").field("listeners").index(0).field("port");
        assert_eq!(path.to_string(), "spec.listeners[0].port");
        let labels = FieldPath::root().field("metadata").field("labels").key("app.kubernetes.io/name");
        assert_eq!(labels.to_string(), "metadata.labels[app.kubernetes.io/name]");
        for path in [FieldPath::root(), path, labels] {
            assert_eq!(path.to_string().parse(), Ok(path));
        }
    }

    #[test]
    fn foreign_keys_are_escaped() {
        let path = FieldPath::root().field("data").key("a\x1b[2J");
        assert_eq!(path.to_string(), "data[a\\u{1b}[2J]");
    }
}
