//! Who calls, and what it may request.

use cni::Attachment;
use linknet::Netns;

use crate::protocol::Verb;

/// A process that may use the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// Root, or the user that the daemon runs as.
    Owner,
    /// A process of the group that `-group` admits, and its user.
    Member(u32),
}

/// Why a caller may not make a request.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    /// It is neither the owner nor a member of the group.
    #[error("only root may use the dhcp daemon, not uid {0}")]
    Stranger(u32),
    /// The request concerns attachments of others, or the daemon itself.
    #[error("only root may request {0}, not a member of the group that -group admits")]
    OwnersVerb(&'static str),
    /// The daemon would look a path up with its own privileges.
    #[error(
        "a member of the group that -group admits must pass the network namespace as a descriptor"
    )]
    NoDescriptor,
    /// The network namespace is the host's, or another user's container's.
    #[error("the network namespace does not belong to uid {0}, which -group admits")]
    NotOwnNetns(u32),
    /// The host's routes are at stake.
    #[error("only root may use hostAccess, not a member of the group that -group admits")]
    HostAccess,
    /// The attachment has a lease that another user requested.
    #[error("the lease of {0} is not one that uid {1} requested")]
    NotOwnLease(Attachment, u32),
    /// Members have all the places that they may have.
    #[error("too many ADDs of members of the group that -group admits are in progress")]
    Crowded,
}

impl Caller {
    /// The caller with this user and these groups, to a daemon that runs as `own` and admits
    /// `group`.
    ///
    /// # Errors
    /// If it may not use the socket.
    pub(super) fn of(
        uid: u32,
        groups: &[u32],
        own: u32,
        group: Option<u32>,
    ) -> Result<Caller, Denied> {
        match group {
            _ if uid == 0 || uid == own => Ok(Caller::Owner),
            Some(group) if groups.contains(&group) => Ok(Caller::Member(uid)),
            _ => Err(Denied::Stranger(uid)),
        }
    }

    /// The user, if it is a member of the group.
    pub(super) fn member(self) -> Option<u32> {
        match self {
            Caller::Owner => None,
            Caller::Member(uid) => Some(uid),
        }
    }

    /// Whether the caller may make this request, about an attachment whose lease `holder`
    /// requested, if it has one: `None` for the owner. The listening socket and GC are the owner's.
    /// A member must bring the netns of an ADD as a descriptor, so that it cannot learn which paths
    /// exist.
    ///
    /// # Errors
    /// Why it may not.
    pub(super) fn ensure_may(
        self,
        verb: &Verb,
        has_descriptor: bool,
        holder: impl FnOnce(&Attachment) -> Option<Option<u32>>,
    ) -> Result<(), Denied> {
        let Caller::Member(uid) = self else {
            return Ok(());
        };
        match verb {
            Verb::Takeover => return Err(Denied::OwnersVerb("a takeover")),
            Verb::Gc { .. } => return Err(Denied::OwnersVerb("GC")),
            Verb::Add { .. } if !has_descriptor => return self.ensure_may_name_paths(),
            Verb::Add { params, .. } if !params.host_access.is_off() => {
                return Err(Denied::HostAccess);
            }
            Verb::Add { .. }
            | Verb::Check { .. }
            | Verb::Del { .. }
            | Verb::Status
            | Verb::Describe
            | Verb::Renew { .. }
            | Verb::Lease { .. }
            | Verb::Leases { .. } => {}
        }
        let Some(attachment) = verb.attachment() else {
            return Ok(());
        };
        match holder(attachment) {
            Some(holder) if holder != Some(uid) => {
                Err(Denied::NotOwnLease(attachment.clone(), uid))
            }
            _ => Ok(()),
        }
    }

    /// Whether the caller may name a netns by its path alone, as netavark does in each of its calls.
    ///
    /// # Errors
    /// If it is a member of the group.
    pub(super) fn ensure_may_name_paths(self) -> Result<(), Denied> {
        match self {
            Caller::Owner => Ok(()),
            Caller::Member(_) => Err(Denied::NoDescriptor),
        }
    }

    /// Whether the caller may request a lease for this netns. A member may if it is a container of
    /// its own.
    ///
    /// # Errors
    /// If it is the host's, or another user's.
    pub(super) fn ensure_owns(self, netns: &Netns) -> Result<(), Denied> {
        match self {
            Caller::Member(uid) if netns.owner().ok() != Some(uid) => Err(Denied::NotOwnNetns(uid)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::record;

    #[test]
    fn root_the_daemons_own_user_and_its_group_may_call() {
        let of = |uid, own, group| Caller::of(uid, &[49, 50], own, group);
        for (uid, own) in [(0, 0), (0, 1000), (1000, 1000)] {
            assert_eq!(of(uid, own, None), Ok(Caller::Owner));
            assert_eq!(of(uid, own, Some(50)), Ok(Caller::Owner));
        }
        assert_eq!(of(1000, 0, Some(50)), Ok(Caller::Member(1000)));
        for (uid, own, group) in [(1000, 0, None), (65534, 1000, Some(51))] {
            assert_eq!(of(uid, own, group), Err(Denied::Stranger(uid)));
        }
        assert!(Denied::Stranger(7).to_string().contains("only root"));
    }

    #[test]
    fn a_member_of_the_group_neither_takes_over_nor_collects_garbage_nor_names_paths() {
        let attachment: Attachment = record().attachment;
        let add = Verb::Add {
            attachment: attachment.clone(),
            netns: "/run/netns/c1".into(),
            params: Box::new(record().params),
            waited: None,
            id: None,
        };
        let check = Verb::Check {
            attachment: attachment.clone(),
            addresses: Vec::new(),
        };
        let renew = Verb::Renew {
            attachment: attachment.clone(),
        };
        let lease = Verb::Lease {
            attachment: attachment.clone(),
        };
        let del = Verb::Del {
            attachment,
            only: None,
        };
        let gc = Verb::Gc {
            network: "lan".to_owned(),
            keep: Vec::new(),
        };
        let member = Caller::Member(1000);
        let may =
            |verb, has_descriptor, holder| member.ensure_may(verb, has_descriptor, |_| holder);
        let leases = Verb::Leases { after: None };
        for verb in [&check, &del, &add, &Verb::Status, &Verb::Describe, &leases] {
            for holder in [None, Some(Some(1000))] {
                assert_eq!(may(verb, true, holder), Ok(()));
            }
        }
        for verb in [&check, &del, &add, &renew, &lease] {
            for holder in [Some(None), Some(Some(1001))] {
                let denied = may(verb, true, holder);
                assert!(matches!(denied, Err(Denied::NotOwnLease(..))), "{verb:?}");
            }
        }
        assert_eq!(may(&add, false, None), Err(Denied::NoDescriptor));
        for verb in [&gc, &Verb::Takeover] {
            let denied = may(verb, true, None);
            assert!(matches!(denied, Err(Denied::OwnersVerb(_))), "{verb:?}");
        }
        let mut params = record().params;
        params.host_access = serde_json::from_value(serde_json::json!(true)).unwrap();
        let add_access = Verb::Add {
            attachment: record().attachment,
            netns: "/run/netns/c1".into(),
            params: Box::new(params),
            waited: None,
            id: None,
        };
        assert_eq!(may(&add_access, true, None), Err(Denied::HostAccess));
        for verb in [
            &add,
            &add_access,
            &check,
            &del,
            &gc,
            &Verb::Status,
            &Verb::Takeover,
        ] {
            let owner = Caller::Owner.ensure_may(verb, false, |_| Some(Some(1000)));
            assert_eq!(owner, Ok(()));
        }
    }

    #[test]
    fn a_member_of_the_group_owns_the_namespaces_that_its_user_created() {
        let here = Netns::current().unwrap();
        let owner = here.owner().unwrap_or_default();
        assert_eq!(Caller::Owner.ensure_owns(&here), Ok(()));
        let stranger = Caller::Member(owner + 1);
        assert_eq!(
            stranger.ensure_owns(&here),
            Err(Denied::NotOwnNetns(owner + 1))
        );
    }
}
