//! VLANs that the plugin makes on demand.

use lab::Test;

pub(super) const TESTS: &[Test] = &[];
