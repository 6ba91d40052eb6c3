//! `timeout`: how long an ADD may take, as Go writes durations (`30s`) or as a number of seconds.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};

use crate::duration;

/// The longest `timeout`: kubelet gives up after two minutes, and should hear the answer.
const MAX: Duration = Duration::from_secs(110);

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let timeout = deserializer.deserialize_any(TimeoutVisitor)?;
    if timeout.is_zero() || timeout > MAX {
        return Err(de::Error::custom(format_args!(
            "must be more than 0 and at most {} s",
            MAX.as_secs()
        )));
    }
    Ok(Some(timeout))
}

struct TimeoutVisitor;

impl Visitor<'_> for TimeoutVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"30s\", or a number of seconds")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        duration::parse(text).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Duration, E> {
        Ok(Duration::from_secs(seconds))
    }
}
