//! The dataplane as its caller sees it.

use ipnet::IpNet;
use policy_engine::output::Delta;

use crate::{ApplyReport, Config, Counters, EndpointStatus, Error, FlowEntry, FlowEvents, RuleHits, Sweep};

/// The dataplane of one network namespace.
#[derive(Debug)]
pub struct Dataplane {
    config: Config,
}

impl Dataplane {
    /// Loads the programs, adopts what an earlier process left under the pin directory, and attaches to every
    /// workload interface. What was enforced stays enforced; nothing is removed before
    /// [`Dataplane::end_of_initial_sync`].
    pub fn open(config: Config) -> Result<Self, Error> {
        Ok(Self { config })
    }

    /// Applies a batch as the policy engine gives it: a packet is judged by what was before or by what is after. On
    /// an error nothing has changed.
    pub fn apply(&mut self, _deltas: &[Delta]) -> Result<ApplyReport, Error> {
        Ok(ApplyReport::default())
    }

    /// The batches so far hold everything that is desired: what was adopted and is not among it is removed.
    pub fn end_of_initial_sync(&mut self) -> Result<ApplyReport, Error> {
        Ok(ApplyReport::default())
    }

    /// The blocks that this host owns now: each gets a blackhole route (not those of one address), and blocks that
    /// are not named any more lose theirs. When this returns without errors, they may be announced.
    pub fn set_local_blocks(&mut self, _blocks: &[IpNet]) -> Result<ApplyReport, Error> {
        Ok(ApplyReport::default())
    }

    /// To be called with each event of a [`netlink::Monitor`] of links (the others are ignored): programs are attached
    /// to new interfaces, and endpoints that waited for them are brought up.
    pub fn link_event(&mut self, _event: &netlink::Event) -> Result<ApplyReport, Error> {
        Ok(ApplyReport::default())
    }

    /// Compares attachments, links, sysctls, routes and neighbours with what they should be and repairs them; every
    /// 90 s or so, and after a [`netlink::Event::Resync`].
    pub fn resync(&mut self) -> Result<ApplyReport, Error> {
        Ok(ApplyReport::default())
    }

    /// Every endpoint and its state.
    pub fn statuses(&self) -> Vec<EndpointStatus> {
        Vec::new()
    }

    /// The reading end of the flow events; once.
    pub fn take_flow_events(&mut self) -> Option<FlowEvents> {
        None
    }

    /// Counters of the programs.
    pub fn counters(&self) -> Result<Counters, Error> {
        Ok(Counters::default())
    }

    /// Hits of each rule.
    pub fn rule_hits(&self) -> Result<Vec<RuleHits>, Error> {
        Ok(Vec::new())
    }

    /// Removes expired flows, and what old generations of policies left; every 10 s or so. Verdicts do not depend on
    /// it.
    pub fn sweep(&mut self) -> Result<Sweep, Error> {
        Ok(Sweep::default())
    }

    /// Tracked flows, at most `limit`.
    pub fn flows(&self, _limit: usize) -> Result<Vec<FlowEntry>, Error> {
        Ok(Vec::new())
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }
}
