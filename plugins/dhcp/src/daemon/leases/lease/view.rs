//! A lease as an operator sees it.

use std::time::Duration;

use dhcp4::{Lease, RawOption, StateName};

use super::ManagedLease;
use crate::config::{FQDN, HOST_NAME};
use crate::daemon::exchange::now;
use crate::protocol::{Granted, LeaseView};

impl ManagedLease {
    /// The lease as it is now.
    pub(in crate::daemon::leases) fn view(&self) -> LeaseView {
        let state = self.client.borrow().state();
        LeaseView {
            attachment: self.attachment.clone(),
            name: self.params.provide.iter().find_map(name),
            mac: self.mac.get(),
            state: state.to_string(),
            netns: self.interface.path.display().to_string(),
            granted: self.client.borrow().lease().map(granted),
            problem: (state != StateName::Bound).then(|| self.report()),
        }
    }
}

fn granted(lease: &Lease) -> Granted {
    let now = now();
    let since = now.since(lease.requested_at);
    let left = |time: Option<Duration>| time.and_then(|time| time.checked_sub(since));
    Granted {
        address: lease.net(),
        gateway: lease.options.routers.first().copied(),
        server: lease.server_id,
        since: Some(since), // in full: `dhcp renew` compares it
        renews_in: left(lease.t1).map(whole_seconds),
        expires_in: lease.remaining(now).map(whole_seconds),
    }
}

/// Nobody wants to read parts of seconds.
pub(in crate::daemon::leases) fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs())
}

/// The name in an option.
fn name(option: &RawOption) -> Option<String> {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    match option.code {
        HOST_NAME => Some(text(&option.data)),
        FQDN => {
            // Behind the flags and two octets are the labels (RFC 4702 section 2).
            let mut rest = option.data.get(3..)?;
            let mut labels = Vec::new();
            while let Some((&length, after)) = rest.split_first().filter(|(length, _)| **length > 0)
            {
                let (label, after) = after.split_at_checked(length.into())?;
                labels.push(text(label));
                rest = after;
            }
            Some(labels.join("."))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lease_of, lost_lease_of};
    use super::*;
    use crate::state::tests::record;

    #[test]
    fn the_name_is_what_the_server_was_told() {
        let name = |code, data: &[u8]| name(&RawOption::new(code, data));
        assert_eq!(name(HOST_NAME, b"web-0").as_deref(), Some("web-0"));
        let fqdn = dhcp4::fqdn("web-0.lan.example").expect("a name");
        assert_eq!(name(FQDN, &fqdn).as_deref(), Some("web-0.lan.example"));
        assert_eq!(
            name(FQDN, &dhcp4::fqdn("web").unwrap()).as_deref(),
            Some("web")
        );
        assert_eq!(name(FQDN, &[5, 0, 0, 9, b'w']), None, "cut");
        assert_eq!(name(6, b"web-0"), None);
    }

    #[test]
    fn a_bound_lease_has_an_address_and_times_and_one_that_was_lost_has_a_problem() {
        let mut record = record();
        record.lease.lifetime = Some(Duration::from_secs(120));
        record.lease.t1 = Some(Duration::from_secs(60));
        record.params.provide = vec![RawOption::new(HOST_NAME, *b"web-0")];
        let bound = lease_of(record.clone()).view();
        let granted = bound.granted.expect("an address");
        assert_eq!((bound.state.as_str(), bound.problem), ("BOUND", None));
        assert_eq!(bound.name.as_deref(), Some("web-0"));
        assert_eq!(granted.address, record.lease.net());
        assert!(granted.renews_in < granted.expires_in, "{granted:?}");
        let lost = lost_lease_of(record).view();
        assert!(lost.granted.is_none() && lost.problem.is_some(), "{lost:?}");
    }

    #[test]
    fn an_infinite_lease_has_no_end() {
        let mut record = record();
        let lease = &mut record.lease;
        (lease.lifetime, lease.t1, lease.t2) = (None, None, None);
        let granted = lease_of(record).view().granted.expect("an address");
        assert_eq!((granted.renews_in, granted.expires_in), (None, None));
    }
}
