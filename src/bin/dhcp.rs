//! The CNI plugin `dhcp`, its daemon and its commands. Everything they do is in the library of the
//! same name.

#[path = "../mark.rs"]
mod mark;

use std::process::ExitCode;

use mark::MARK;

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// An ELF note. Linkers put them behind the headers of the file.
#[repr(C)]
struct Note {
    name_size: u32,
    content_size: u32,
    kind: u32,
    mark: [u8; MARK.len()],
}

#[used]
#[expect(
    unsafe_code,
    reason = "it adds a section of its own, and changes no other"
)]
#[unsafe(link_section = ".note.leasehold")]
static NOTE: Note = Note {
    name_size: "leasehold\0".len() as u32,
    content_size: env!("LEASEHOLD_BUILD").len() as u32,
    kind: 1,
    mark: *MARK.as_bytes().first_chunk().expect("all of it"),
};

fn main() -> ExitCode {
    leasehold_dhcp::main()
}
