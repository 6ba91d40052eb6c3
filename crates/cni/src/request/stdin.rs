//! Reading the JSON object on stdin.

use std::io::Read;

use serde_json::{Map, Value};

use crate::error::{Error, code};

/// The most bytes that are read from stdin. A configuration has a few thousand. GC's list of valid
/// attachments has about 120 for each, so this is enough for over thirty thousand attachments.
pub(crate) const MAX_STDIN: usize = 4 << 20;

/// Reads stdin to its end, or fails if it has more than [`MAX_STDIN`] bytes.
pub(crate) fn read_bounded(stdin: impl Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    stdin
        .take(MAX_STDIN as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::new(code::IO_FAILURE, format!("cannot read stdin: {error}")))?;
    if bytes.len() > MAX_STDIN {
        return Err(Error::new(
            code::IO_FAILURE,
            format!("stdin has more than {MAX_STDIN} bytes"),
        )
        .details("a network configuration usually has a few thousand bytes"));
    }
    Ok(bytes)
}

/// Parses the network configuration.
pub(crate) fn parse_object(stdin: &[u8]) -> Result<Map<String, Value>, Error> {
    let failure = |msg: &str| Error::new(code::DECODING_FAILURE, msg);
    if stdin.trim_ascii().is_empty() {
        return Err(failure("no network configuration on stdin"));
    }
    match serde_json::from_slice(stdin) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(failure(
            "the network configuration on stdin is not a JSON object",
        )),
        // serde_json's text ends in "at line 3 column 14".
        Err(error) => Err(failure(&format!(
            "the network configuration on stdin is not valid JSON: {error}"
        ))),
    }
}
