//! Properties of the normal form of paths.

#[path = "support/support.rs"]
mod support;

use portcullis_decide::path::PathRefusal;
use proptest::prelude::*;
use support::check;

/// Texts in which everything that matters occurs often.
fn raw() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/", "/", ".", ".", "..", "a", "b", "%2e", "%2E", "%2f", "%2F", "%5c", "%5C", "%3b", "%3B", ";", ";x",
        "%25", "%41", "%7e", "%20", "%C3%A9", "%00", "%0a", "%", "%4", "%zz", "\\", " ", "?", "#", "{", "|", "é",
        "\u{7f}", "-", "_", "~", "+", ":", "@", "=", "%2525", "*",
    ]);
    prop_oneof![
        8 => prop::collection::vec(piece, 0..14).prop_map(|pieces| format!("/{}", pieces.concat())),
        1 => any::<String>(),
        1 => "[ -~]{0,20}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8192))]

    #[test]
    fn normal_forms_hold_what_they_promise(raw in raw()) {
        check::normal_form(&raw);
    }
}

#[test]
fn every_refusal_has_its_own_name() {
    let mut names: Vec<_> = PathRefusal::ALL.iter().map(|refusal| refusal.as_str()).collect();
    names.dedup();
    assert_eq!(names.len(), PathRefusal::ALL.len());
}
