//! Whether a program needs anything beside itself: the image has no dynamic linker and no libraries.

/// Refuses a program that is not a static x86-64 ELF file.
///
/// Source: ELF-64 Object File Format, "File header" and "Program header table".
pub(crate) fn require_static(program: &[u8]) -> Result<(), String> {
    const X86_64: u16 = 62;
    const INTERPRETER: u32 = 3;
    let broken = || "the program is not a 64-bit little-endian ELF file".to_owned();
    if program.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err(broken());
    }
    if u16_at(program, 18) != Some(X86_64) {
        return Err("the program is not for x86-64".to_owned());
    }
    let table = u64_at(program, 32).and_then(|offset| usize::try_from(offset).ok()).ok_or_else(broken)?;
    let size = usize::from(u16_at(program, 54).ok_or_else(broken)?);
    let count = usize::from(u16_at(program, 56).ok_or_else(broken)?);
    for index in 0..count {
        let header = size.checked_mul(index).and_then(|offset| table.checked_add(offset)).ok_or_else(broken)?;
        if u32_at(program, header).ok_or_else(broken)? == INTERPRETER {
            return Err("the program asks for a dynamic linker: it is not static".to_owned());
        }
    }
    Ok(())
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(offset..)?.first_chunk().copied()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(offset..)?.first_chunk().copied()?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(offset..)?.first_chunk().copied()?))
}

/// A file with program headers of these types, for tests.
#[cfg(test)]
pub(crate) fn sample(machine: u16, types: &[u32]) -> Vec<u8> {
    let mut file = vec![0; 64];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[18..20].copy_from_slice(&machine.to_le_bytes());
    file[32..40].copy_from_slice(&64_u64.to_le_bytes());
    file[54..56].copy_from_slice(&56_u16.to_le_bytes());
    file[56..58].copy_from_slice(&u16::try_from(types.len()).unwrap().to_le_bytes());
    for kind in types {
        file.extend(kind.to_le_bytes());
        file.extend([0; 52]);
    }
    file
}

#[cfg(test)]
mod tests {
    use super::{require_static, sample};

    #[test]
    fn only_a_static_program_is_taken() {
        for (program, taken) in [
            (sample(62, &[1, 2, 6]), true),
            (sample(62, &[6, 3, 1]), false),
            (sample(183, &[1]), false),
            (sample(62, &[1])[..70].to_vec(), true),
            (sample(62, &[1, 1])[..100].to_vec(), false),
            (b"\x7fELF\x01\x01".to_vec(), false),
            (b"#!/bin/sh".to_vec(), false),
            (Vec::new(), false),
        ] {
            assert_eq!(require_static(&program).is_ok(), taken, "{:?}", require_static(&program));
        }
    }
}
