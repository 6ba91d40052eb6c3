//! The codec against replies written octet by octet.

mod header;
mod layout;
mod sending;
mod values;

use super::header::HEADER_LEN;
use super::raw_options::write_option;
use super::*;
use crate::options::Options;

const XID: u32 = 0x1234_5678;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A reply with these options, given as code, length and value. No end mark is added.
fn reply(options: &[u8]) -> Vec<u8> {
    let mut payload = vec![0; HEADER_LEN];
    payload[..4].copy_from_slice(&[2, 1, 6, 0]);
    payload[4..8].copy_from_slice(&XID.to_be_bytes());
    payload[16..20].copy_from_slice(&[10, 0, 0, 5]);
    payload[28..34].copy_from_slice(&MAC);
    payload[236..].copy_from_slice(&[99, 130, 83, 99]);
    payload.extend(options);
    payload
}

/// What an ACK with these options is read as.
fn options(options: &[u8]) -> Options {
    Reply::decode(&ack(options)).unwrap().into_options()
}

fn ack(options: &[u8]) -> Vec<u8> {
    reply(&[&[53, 1, 5], options].concat())
}

fn option(code: u8, data: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    write_option(&mut field, code, data);
    field
}
