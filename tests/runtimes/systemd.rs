pub(crate) const TESTS: &[lab::Test] = &[];
