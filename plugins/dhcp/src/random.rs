//! Randomness, from the kernel.

/// Random octets.
pub(crate) fn random_octets<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut octets = [0; N];
    rustix::rand::getrandom(&mut octets, rustix::rand::GetRandomFlags::empty())?;
    Ok(octets)
}
