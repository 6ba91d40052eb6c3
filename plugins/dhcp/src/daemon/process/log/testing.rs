//! What tests log.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tracing::Subscriber;
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, fmt, registry};

/// Runs `f`, and returns what it has logged on this thread.
pub(crate) fn logged(f: impl FnOnce()) -> String {
    logged_through(None::<fmt::Layer<_>>, f)
}

/// Like [`logged`], through this layer.
pub(super) fn logged_through<S>(layer: S, f: impl FnOnce()) -> String
where
    S: Layer<registry::Registry> + Send + Sync,
{
    let log = Log::default();
    let subscriber = registry().with(layer).with(lines(log.clone()));
    tracing::subscriber::with_default(subscriber, f);
    let text = log.0.lock().expect("no panic");
    String::from_utf8_lossy(&text).into_owned()
}

fn lines<S: Subscriber + for<'a> LookupSpan<'a>>(log: Log) -> impl Layer<S> {
    fmt::layer()
        .with_ansi(false)
        .without_time()
        .with_writer(move || log.clone())
}

/// A log in memory.
#[derive(Debug, Default, Clone)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
