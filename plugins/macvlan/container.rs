//! The container's network namespace, as CNI_NETNS names it.

use std::path::Path;

use cni::{Error, Request, code};
use linknet::{Netns, NetnsError};

/// Opens the container's netns, and makes sure that it is not the plugin's own.
///
/// # Errors
/// 3 when there is none at that path, 4 when something else is there, or the host's own netns.
pub(crate) fn open(request: &Request) -> Result<Netns, Error> {
    let path = path(request);
    let netns = Netns::open(path).map_err(|error| not_open(&error))?;
    let own = Netns::current().and_then(|own| own.id().map_err(|error| io(path, error)));
    let id = netns.id().map_err(|error| not_open(&io(path, error)))?;
    if own.map_err(|error| not_open(&error))? == id && !request.netns_override {
        return Err(Error::new(
            code::INVALID_ENVIRONMENT,
            format!("CNI_NETNS={} is the plugin's own network namespace, not a container's", path.display()),
        )
        .details("set CNI_NETNS_OVERRIDE=1 if that is really meant"));
    }
    Ok(netns)
}

/// The same where a container that is gone already is fine: `None` then.
///
/// # Errors
/// As [`open`], but for code 3.
pub(crate) fn open_if_there(request: &Request) -> Result<Option<Netns>, Error> {
    if request.netns.is_none() {
        return Ok(None);
    }
    match open(request) {
        Ok(netns) => Ok(Some(netns)),
        Err(error) if error.code == code::UNKNOWN_CONTAINER => Ok(None),
        Err(error) => Err(error),
    }
}

/// CNI_NETNS; empty where the verb does without.
pub(crate) fn path(request: &Request) -> &Path {
    request.netns.as_deref().unwrap_or(Path::new(""))
}

fn io(path: &Path, error: std::io::Error) -> NetnsError {
    NetnsError::Io { path: path.to_owned(), error }
}

fn not_open(error: &NetnsError) -> Error {
    let code = match error {
        NetnsError::NotFound(_) => code::UNKNOWN_CONTAINER,
        NetnsError::NotNetns(_) => code::INVALID_ENVIRONMENT,
        NetnsError::Io { .. } => code::IO_FAILURE,
    };
    Error::new(code, format!("CNI_NETNS: {error}"))
}
