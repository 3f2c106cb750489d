//! Where a source's requests may go.

use std::collections::VecDeque;

use crate::net::{HostPolicy, Hosts};
use crate::session::Session;

/// Sessions whose hosts count: the present one, the next one, and one that is still being read.
const SESSIONS: usize = 3;

/// The option of the source, else what its sessions say.
#[derive(Debug)]
pub(super) struct Reach {
    option: Option<HostPolicy>,
    session: HostPolicy,
    hosts: VecDeque<String>,
}

impl Reach {
    pub(super) fn new(option: Option<HostPolicy>) -> Self {
        Self { option, session: HostPolicy::Any, hosts: VecDeque::new() }
    }

    pub(super) fn opened(&mut self, session: &Session) {
        self.session = session.hosts.clone();
        let host = session.url.expose().host_str().unwrap_or_default().to_owned();
        if !self.hosts.contains(&host) {
            self.hosts.push_back(host);
        }
        if self.hosts.len() > SESSIONS {
            self.hosts.pop_front();
        }
    }

    pub(super) fn hosts(&self) -> Hosts {
        match self.option.as_ref().unwrap_or(&self.session) {
            HostPolicy::Any => Hosts::default(),
            HostPolicy::Session => Hosts::only(self.hosts.iter().cloned()),
            HostPolicy::Only(hosts) => Hosts::only(hosts.iter().cloned()),
        }
    }
}
