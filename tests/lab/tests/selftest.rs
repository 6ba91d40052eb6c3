//! The lab tests itself.
fn main() {}
