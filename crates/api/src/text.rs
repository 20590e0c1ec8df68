//! Enumerations and texts of the API, which keep what they do not know: a value from a later release must not make an object unreadable.

use std::fmt::{self, Write as _};

/// An enumeration of texts with a variant for every other text, which is `Unknown` unless `else` names it. Each variant names its text;
/// reading never fails for a text, writing gives the same text back.
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

/// A text from an object or a request, written so that it can neither steer a terminal nor break a line: control, format and line
/// separator characters are escaped, and what is longer than 512 characters is cut, with `…` at its end.
#[derive(Clone, Copy, Debug)]
pub struct Foreign<'a>(pub &'a str);

impl Foreign<'_> {
    const LONGEST: usize = 512;
}

impl fmt::Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, character) in self.0.chars().enumerate() {
            if index == Self::LONGEST {
                return f.write_char('…');
            }
            if is_harmless(character) {
                f.write_char(character)?;
            } else {
                write!(f, "{}", character.escape_unicode())?;
            }
        }
        Ok(())
    }
}

/// Neither a control character (C0, DEL, C1) nor one that reorders, joins or hides its neighbours.
pub(crate) fn is_harmless(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}
