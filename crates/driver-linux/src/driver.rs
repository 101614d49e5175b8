//! The driver: each step handed to what makes it real.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    os::fd::AsFd,
    path::PathBuf,
    sync::OnceLock,
};

use ipnet::IpNet;
use parking_lot::Mutex;
use weft_dataplane::{
    Desired, Driver, DriverError, IdRange, Observed, OpenSet, ParentFault, PolicyCounters, Port, Publish,
    PublishMap, SandboxId, Segment, Step, Unsupported, Users,
};
use weft_model::{NetworkId, PublishPolicy};
use weft_sys::{
    netlink::{Channel, Family, NetlinkError, Socket},
    netns::{self, Netns},
    nft::{self, Batch, Names},
    process, sysctl,
};

use crate::{
    LinuxError, TABLE, anchor::Anchor, below::Below, branch, direct, forget, frame, host, left, left::Left,
    limits, links, loopback, mark, observe, policy, publish, reaper::Reaper, rules, runs, sandbox, uplink,
    watch::Watcher,
};

/// The network of the namespace it was made in.
#[derive(Debug)]
pub struct LinuxDriver {
    pub(crate) directory: PathBuf,
    pub(crate) route: Mutex<Socket>,
    pub(crate) netfilter: Mutex<Socket>,
    pub(crate) netns: Netns,
    pub(crate) reaper: Reaper,
    /// Bridges of others that are in use, with what was checked of them. They bear no mark.
    pub(crate) borrowed: Mutex<BTreeMap<String, String>>,
    /// Segments without a bridge, as they were last made.
    pub(crate) uplinks: Mutex<BTreeMap<String, Segment>>,
    anchor: Mutex<Option<Anchor>>,
    /// What they hang on.
    pub(crate) below: Below,
    /// Our links as they were left.
    pub(crate) left: Left,
    /// Chains and sets of others in our table that the user's rules refer to.
    pub(crate) held: Mutex<BTreeSet<String>>,
    pub(crate) forward: bool,
    watcher: Mutex<Option<Watcher>>,
    can_loop: OnceLock<bool>,
}

impl LinuxDriver {
    /// A driver for the calling thread's network namespace, with sandboxes named in `directory` (`RUN/netns`), which
    /// must be this daemon's alone. `forward`: the host is to forward packets. Changes nothing yet.
    ///
    /// # Errors
    /// Sockets or threads cannot be had.
    pub fn new(directory: impl Into<PathBuf>, forward: bool) -> Result<Self, LinuxError> {
        Ok(Self {
            directory: directory.into(),
            route: Mutex::new(Socket::open(Family::Route)?),
            netfilter: Mutex::new(Socket::open(Family::Netfilter)?),
            netns: Netns::new()?,
            reaper: Reaper::start()?,
            borrowed: Mutex::default(),
            uplinks: Mutex::default(),
            below: Below::default(),
            anchor: Mutex::default(),
            left: Left::default(),
            held: Mutex::default(),
            forward,
            watcher: Mutex::default(),
            can_loop: OnceLock::new(),
        })
    }

    /// For sockets inside sandboxes.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Returns when links deleted in the background are gone.
    pub fn settle(&self) {
        self.reaper.settle();
    }

    pub(crate) fn path(&self, id: SandboxId) -> PathBuf {
        self.directory.join(id.to_string())
    }

    fn run(&self, step: &Step) -> Result<(), LinuxError> {
        match step {
            Step::CreateSandbox { id, sandbox } => {
                let path = self.path(*id);
                if netns::is_alive(&path) {
                    if sandbox.is_for(runs::read(self, *id)) {
                        return Ok(());
                    }
                    runs::delete(self, *id, &path)?;
                }
                runs::write(self, *id, sandbox.run.unwrap_or_default())?;
                let users = sandbox.users.as_ref().map(|users| self.users(users)).transpose()?;
                let sandbox = sandbox.clone();
                self.netns.create(&path, users, move || sandbox::setup(&sandbox))?
            }
            Step::DeleteSandbox { id } => runs::delete(self, *id, &self.path(*id)),
            Step::DeleteBrokenSandbox { name } => Ok(netns::delete(&self.directory.join(name))?),
            Step::PutSegment { segment: segment @ Segment { uplink: Some(uplink), .. }, .. } => {
                uplink::put(self, segment, uplink)
            }
            Step::PutSegment { segment, .. } if segment.borrowed => {
                links::borrow_segment(&mut self.route.lock(), segment)?;
                self.let_through(segment)?;
                self.borrowed.lock().insert(segment.link.clone(), segment.tag());
                Ok(())
            }
            Step::PutSegment { segment, .. } => {
                self.let_through(segment)?;
                links::put_segment(&mut self.route.lock(), segment)
            }
            Step::DeleteSegment { link } if mark::is_uplink(link) => uplink::delete(self, link),
            Step::DeleteSegment { link } => match self.borrowed.lock().remove(link) {
                Some(_) => Ok(()),
                None => links::delete_segment(&mut self.route.lock(), link),
            },
            Step::CreatePort { port: port @ Port { parent: Some(parent), .. }, .. } => {
                branch::create(self, port, parent)
            }
            Step::ConfigurePort { port, .. } if port.parent.is_some() => branch::configure(self, port),
            Step::DeletePort { link } if branch::is_noted(self, link) => branch::delete(self, link),
            Step::CreatePort { port, bridge } => {
                self.reaper.wait_for(&self.route, &port.link)?;
                links::create_port(self, port, bridge)
            }
            Step::ConfigurePort { port, bridge } => links::configure_port(self, port, bridge),
            Step::AttachPort { port, bridge } => links::attach_port(self, port, bridge),
            Step::DeletePort { link } => links::delete_port(self, link),
            Step::ReplaceRules { segments, publishes, open, policy, .. } => {
                self.replace_rules(segments, publishes, open, *policy)
            }
            Step::ClearRules => {
                let mut socket = self.netfilter.lock();
                let before = observe::publishes(&mut socket)?;
                let batch = observe::clearing(&mut socket)?;
                socket.transact(&batch.finish())?;
                *self.anchor.lock() = None;
                forget::forget(&mut socket, &before, &PublishMap::new())
            }
            Step::ReplacePolicy { table } => policy::replace(&mut self.netfilter.lock(), table),
            Step::ClearPolicy => policy::clear(&mut self.netfilter.lock()),
            Step::ChangePolicy { remove, add } => policy::change(&mut self.netfilter.lock(), remove, add),
            Step::GuardSegment { link, on } => policy::guard(&mut self.route.lock(), link, *on),
            Step::PutQueue { link, queue } => limits::put_queue(&mut self.route.lock(), link, queue),
            Step::DeleteQueue { link } => limits::delete_queue(&mut self.route.lock(), link),
            Step::LimitPort { link, limit } => limits::limit_port(&mut self.route.lock(), link, limit),
            Step::ChangeLoopbacks { remove, add } => loopback::change(self, remove, add),
            Step::ChangePublishes { remove, add } => self.publish(remove, add),
            Step::ChangeOpen { remove, add } => direct::change(&mut self.netfilter.lock(), remove, add),
        }
    }

    /// One transaction. What the table holds was read before it, so another's change in between is a refusal: then once more.
    fn replace_rules(
        &self,
        segments: &BTreeMap<NetworkId, Segment>,
        publishes: &PublishMap,
        open: &OpenSet,
        policy: PublishPolicy,
    ) -> Result<(), LinuxError> {
        let rules = rules::compile(segments, policy, self.can_loop());
        let mut socket = self.netfilter.lock();
        frame::wake(&mut socket)?;
        let (mut tries, mut old) = (0, rules::Old::default());
        let (before, before_was) = loop {
            let before = observe::publishes(&mut socket)?;
            old.read(&mut socket, &rules)?;
            let last_table = nft::seen::last_table(&mut *socket)?;
            tries += 1;
            match socket.transact(&rules.replace(publishes, open, &old, last_table).finish()) {
                // Once for each name.
                Err(error)
                    if frame::referred(&error, &old.present).is_some_and(|n| !old.referred.contains(&n)) =>
                {
                    old.referred.extend(frame::referred(&error, &old.present));
                    tries = 0;
                }
                Err(error) if tries < REPLACE_TRIES && raced(&error) => old.anew = tries > 1,
                Err(error) if !old.anew => {
                    tracing::debug!(%error, "the table is made anew");
                    old.anew = true;
                }
                other => {
                    other?;
                    break (before, old.ruled && rules::ours(&old.present) != Names::default());
                }
            }
        };
        *self.held.lock() = old.referred.into_iter().filter(|name| !rules.has(name)).collect();
        self.cast_anchor();
        if !before_was {
            // The table was new, or somebody removed or flushed it: what went on meanwhile is known to connection tracking alone.
            return forget::sweep(&mut socket, segments, publishes);
        }
        forget::forget(&mut socket, &without(&before, publishes), &without(publishes, &before))
    }

    /// Whether containers can answer what this host asks of `::1`; asked of the kernel once.
    pub(crate) fn can_loop(&self) -> bool {
        *self.can_loop.get_or_init(|| host::has_ipv6() && loopback::probe())
    }

    fn cast_anchor(&self) {
        let mut anchor = self.anchor.lock();
        if anchor.is_none() {
            *anchor = Anchor::cast();
        }
    }

    fn let_through(&self, segment: &Segment) -> Result<(), LinuxError> {
        if self.forward { Ok(host::forwarding(segment)?) } else { Ok(()) }
    }

    fn users(&self, users: &Users) -> Result<process::Users, LinuxError> {
        let lines = |ranges: &[IdRange]| {
            ranges.iter().map(|r| format!("{} {} {}\n", r.inside, r.outside, r.count)).collect()
        };
        Ok(match users {
            Users::Own(maps) => process::Users::Fresh { uids: lines(&maps.uids), gids: lines(&maps.gids) },
            Users::Of(other) => {
                let path = self.path(*other);
                let owner = process::owner(netns::open(&path)?.as_fd());
                let owner = owner.map_err(|source| LinuxError::Owner { path: path.clone(), source })?;
                process::Users::Of(owner.ok_or(LinuxError::NoOwner { path })?)
            }
        })
    }

    fn publish(&self, remove: &PublishMap, add: &PublishMap) -> Result<(), LinuxError> {
        let mut socket = self.netfilter.lock();
        let quick = socket.transact(&change(remove, add).finish());
        if let Err(error) = quick {
            // Something is not as remembered: look, and do what is left to do.
            tracing::debug!(%error, "published ports differ from what was remembered");
            let have = observe::publishes(&mut socket)?;
            let wrong = |key: &_, target: &_| have.get(key).is_some_and(|seen| seen != target);
            let mut stale: PublishMap =
                remove.iter().filter(|(k, _)| have.contains_key(k)).map(|(k, t)| (*k, *t)).collect();
            stale.extend(add.iter().filter(|(k, t)| wrong(k, t)).map(|(k, t)| (*k, *t)));
            let missing: PublishMap =
                add.iter().filter(|(k, t)| have.get(k) != Some(t)).map(|(k, t)| (*k, *t)).collect();
            socket.transact(&change(&stale, &missing).finish())?;
        }
        forget::forget(&mut socket, remove, add)
    }
}

/// Entries of `left` that `right` does not have just so.
fn without(left: &PublishMap, right: &PublishMap) -> PublishMap {
    left.iter().filter(|(key, target)| right.get(key) != Some(*target)).map(|(k, t)| (*k, *t)).collect()
}

fn change(remove: &PublishMap, add: &PublishMap) -> Batch {
    let mut batch = Batch::new(TABLE);
    for (set, elements) in publish::encode(remove) {
        batch.delete_elements(&set, &elements);
    }
    for (set, elements) in publish::encode(add) {
        batch.add_elements(&set, &elements);
    }
    batch
}

pub(crate) const REPLACE_TRIES: usize = 4;

/// What was read is not so any more: something is gone, or is there or in use again.
pub(crate) fn raced(error: &NetlinkError) -> bool {
    matches!(error.errno(), Some(libc::ENOENT | libc::EBUSY | libc::EEXIST))
}

impl Driver for LinuxDriver {
    fn name(&self) -> &'static str {
        "linux"
    }

    fn sandbox_path(&self, id: SandboxId) -> PathBuf {
        self.path(id)
    }

    fn unsupported(&self, desired: &Desired) -> Vec<Unsupported> {
        let mut lacking = Vec::new();
        let v6 = desired.segments.values().any(|s| s.addresses.iter().any(|a| a.addr().is_ipv6()));
        if v6 && !host::has_ipv6() {
            let why = "the kernel has no IPv6".to_owned();
            lacking.push(Unsupported { feature: "IPv6 subnets".to_owned(), why });
        }
        lacking.extend(desired.publishes.iter().filter_map(|publish| self.refuses(publish)));
        lacking
    }

    fn refuses(&self, publish: &Publish) -> Option<Unsupported> {
        let feature = format!("publishing {} on ::1", publish.host_ports.start);
        let why = "the kernel routes no translated IPv6 connection back to the loopback interface, and nftables cannot lead it \
                   there (CONFIG_NFT_FWD_NETDEV)"
            .to_owned();
        (publish.host_ip == Ipv6Addr::LOCALHOST && !self.can_loop()).then_some(Unsupported { feature, why })
    }

    fn insight(&self) -> Option<&dyn weft_dataplane::insight::Insight> {
        Some(self)
    }

    fn has_parameter(&self, name: &str) -> bool {
        // Every namespace has a loopback interface, and every interface the same parameters.
        sysctl::find(&name.replace("IFNAME", "lo")).is_ok()
    }

    fn refuses_uplink(&self, segment: &Segment) -> Option<ParentFault> {
        // Where the kernel cannot be asked, making it will tell.
        uplink::refuses(&mut self.route.lock(), segment.uplink.as_ref()?).ok().flatten()
    }

    fn watch(&self, changed: Box<dyn Fn() + Send>) -> Result<(), DriverError> {
        let start = || -> Result<Watcher, LinuxError> {
            let own = self.netfilter.lock().port()?;
            Watcher::start(own, self.left.clone(), self.below.clone(), changed)
        };
        let watcher = start().map_err(|error| DriverError::observe("changes by others", error))?;
        *self.watcher.lock() = Some(watcher);
        Ok(())
    }

    fn rules_digest(&self, desired: &Desired) -> String {
        rules::compile(&desired.segments, desired.publish_policy, self.can_loop()).digest()
    }

    fn foreign_bridge(&self, name: &str) -> Result<Option<Vec<IpNet>>, DriverError> {
        let found = links::foreign_bridge(&mut self.route.lock(), name);
        found.map_err(|error| match error {
            LinuxError::NoBridge { name } => DriverError::NoBridge { name },
            error => DriverError::observe(format_args!("bridge {name}"), error),
        })
    }

    fn routes(&self) -> Result<Vec<IpNet>, DriverError> {
        host::routes(&mut self.route.lock()).map_err(|error| DriverError::observe("routes", error))
    }

    fn observe(&self) -> Result<Observed, DriverError> {
        let observed = observe::observe(self)
            .map_err(|error| DriverError::observe("links, rules and sandboxes", error))?;
        if observed.rules.is_some() {
            // An earlier daemon's, perhaps, whose anchor went with it.
            self.cast_anchor();
        }
        Ok(observed)
    }

    fn policy_counters(&self) -> Result<PolicyCounters, DriverError> {
        policy::counters(&mut self.netfilter.lock())
            .map_err(|error| DriverError::observe("the policy's counters", error))
    }

    fn refuses_policy(&self) -> Option<Unsupported> {
        let why = policy::lacks(&mut self.netfilter.lock())?;
        Some(Unsupported { feature: "policy between containers".to_owned(), why })
    }

    fn apply(&self, step: &Step) -> Result<(), DriverError> {
        left::around(self, step, || self.run(step)).map_err(|error| match error {
            LinuxError::Foreign { name } => DriverError::Foreign { name },
            error => DriverError::step(step, error),
        })
    }
}
