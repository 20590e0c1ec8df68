//! Files of objects: parsing, validation and compiling end without a panic, whatever the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_api::manifest::{Limits, load};
use portcullis_api::schema::Schemas;
use portcullis_compile::{Options, compile};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let loaded = load("fuzz.yaml", text, &Limits::default(), &Schemas::v1_7_0(), "default");
    for diagnostic in &loaded.diagnostics {
        let _ = diagnostic.render(text, portcullis_api::diagnostic::Style::Plain);
    }
    let objects = loaded.objects.into_iter().map(|(object, _)| object);
    compile(objects, Options { standalone: true, shared_machine: true, ..Options::default() });
});
