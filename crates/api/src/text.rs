//! Enumerations and texts of the API, which keep what they do not know: a value from a later release must not make an
//! object unreadable.

use std::fmt;

/// An enumeration of texts with a variant for every other text, which is `Unknown` unless `else` names it. Each variant
/// names its text; reading never fails for a text, writing gives the same text back.
macro_rules! text_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }
    ) => {
        $crate::text::text_enum! {
            $(#[$meta])*
            pub enum $name else Unknown { $($(#[$variant_meta])* $variant = $text,)+ }
        }
    };
    (
        $(#[$meta:meta])*
        pub enum $name:ident else $other:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
            /// A text that these types do not know.
            $other(String),
        }

        impl $name {
            /// The texts that these types know.
            pub const KNOWN: &'static [&'static str] = &[$($text),+];

            /// The text, as it stands in the object.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::$other(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)+
                    other => Self::$other(other.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&$crate::text::Foreign(self.as_str()), f)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str($crate::text::TextVisitor(|text| Self::from(text)))
            }
        }
    };
}

/// A text with rules of its own, kept as it was written and parsed where it is used.
macro_rules! text_type {
    ($(#[$meta:meta])* pub struct $name:ident;) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The text, as it stands in the object.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&$crate::text::Foreign(self.as_str()), f)
            }
        }
    };
}

pub(crate) use {text_enum, text_type};

/// Reads a text and turns it into a value.
pub(crate) struct TextVisitor<T>(pub(crate) fn(&str) -> T);

impl<T> serde::de::Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        Ok((self.0)(text))
    }
}

/// A text from an object or a request, written so that it can neither steer a terminal nor break a line: control,
/// format and line separator characters are escaped, and what is longer than 512 characters is cut, with `…` at its
/// end.
#[derive(Clone, Copy, Debug)]
pub struct Foreign<'a>(pub &'a str);

impl Foreign<'_> {
    const LONGEST: usize = 512;
}

impl fmt::Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::diagnostic::escape_foreign_text(self.0, Self::LONGEST))
    }
}

/// Neither a control character (C0, DEL, C1) nor one that reorders, joins or hides its neighbours.
pub(crate) fn is_harmless(character: char) -> bool {
    match character {
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' => false,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => false,
        '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => false,
        _ => !character.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::http_route::{HttpMethodWithWildcard, PathMatchType};
    use crate::meta::ConditionStatus;

    #[test]
    fn known_and_unknown_texts() {
        assert_eq!(PathMatchType::from("PathPrefix"), PathMatchType::PathPrefix);
        assert_eq!(PathMatchType::from("pathprefix"), PathMatchType::Unknown("pathprefix".into()));
        assert_eq!(PathMatchType::KNOWN, ["Exact", "PathPrefix", "RegularExpression"]);
        assert_eq!(HttpMethodWithWildcard::Any.as_str(), "*");
        assert_eq!(ConditionStatus::from("Unknown"), ConditionStatus::Unknown);
        assert_eq!(ConditionStatus::from("Maybe"), ConditionStatus::Other("Maybe".into()));
        assert!(PathMatchType::Exact < PathMatchType::Unknown("A".into()));
    }

    proptest! {
        #[test]
        fn every_text_is_kept(text in ".*") {
            let value = PathMatchType::from(text.as_str());
            prop_assert_eq!(value.as_str(), &text);
            prop_assert_eq!(serde_json::to_value(&value).unwrap(), text);
            prop_assert!(!value.to_string().chars().any(char::is_control));
        }
    }
}
