//! The whole loop on an embedded store and a machine in memory.

use weft_dataplane::{FakeDriver, SeenSegment};
use weft_model::{ContainerSpec, NetworkSpec, PortSpec};
use weft_store::{Embedded, Options, Txn};

use super::*;
use crate::fixtures::{container, network, object, port, subnet};

struct World {
    stores: Stores,
    driver: Arc<FakeDriver>,
    net: Net,
    tasks: Tasks,
    _dir: tempfile::TempDir,
}

fn world(driver: FakeDriver) -> World {
    let dir = tempfile::tempdir().unwrap();
    let stores =
        Stores::single(Arc::new(Embedded::open(dir.path().join("store"), Options::default()).unwrap()));
    let (driver, tasks) = (Arc::new(driver), Tasks::new());
    let net = Net::start(&stores, Arc::clone(&driver) as Arc<dyn Driver>, &tasks, NetConfig::default());
    World { stores, driver, net, tasks, _dir: dir }
}

fn web() -> (NetworkSpec, ContainerSpec, PortSpec) {
    let net = network("web", vec![subnet("10.1.0.0/16")]);
    let c = container("c", &[&net]);
    let mut p = port(&net, &["10.1.0.2"]);
    p.owner = PortOwner::Container(c.id);
    (net, c, p)
}

impl World {
    async fn add(&self, net: &NetworkSpec, c: &ContainerSpec, p: &PortSpec) {
        let (net, c, p): (Network, Container, Port) =
            (object(net.clone()), object(c.clone()), object(p.clone()));
        Txn::new(&self.stores).put(&net).create(&c).create(&p).commit().await.unwrap();
    }

    async fn port(&self, id: PortId) -> Stored<Port> {
        self.net.0.ports.get(&id).await.unwrap().unwrap()
    }

    /// The port once `done` holds of it.
    async fn port_when(&self, id: PortId, done: impl Fn(&Port) -> bool) -> Stored<Port> {
        let mut changes = self.net.0.ports.watch().await.unwrap();
        loop {
            let port = self.port(id).await;
            if done(&port) {
                return port;
            }
            futures_util::StreamExt::next(&mut changes).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_gets_its_sandbox_and_its_port_is_told_ready() {
    let w = world(FakeDriver::default());
    let (net, c, p) = web();
    assert!(matches!(w.net.sandbox_ready(c.id).await, Err(NetError::NoSandbox { .. })));
    w.add(&net, &c, &p).await;
    let path = w.net.sandbox_ready(c.id).await.unwrap();
    assert!(path.ends_with(c.id.to_string()));
    w.net.network_ready(net.id).await.unwrap();
    w.net.ports_ready(&[p.id]).await.unwrap();
    let seen = w.port_when(p.id, |p| p.status.observed == p.meta.generation).await;
    assert_eq!(seen.status.error, "");
    let machine = w.driver.observe().unwrap();
    assert_eq!((machine.sandboxes.len(), machine.segments.len(), machine.ports.len()), (1, 1, 1));

    let gone = Txn::new(&w.stores).delete::<Port>(&p.id).delete::<Container>(&c.id).commit();
    gone.await.unwrap();
    w.net.ports_gone(&[p.id]).await.unwrap();
    let machine = w.driver.observe().unwrap();
    assert_eq!((machine.sandboxes.len(), machine.ports.len()), (0, 0));
    w.tasks.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_sandbox_after_an_end_gets_a_new_one() {
    let w = world(FakeDriver::default());
    let (net, c, p) = web();
    w.add(&net, &c, &p).await;
    w.net.sandbox_ready(c.id).await.unwrap();
    let change = async |change: fn(&mut Container)| {
        let write = w.net.0.containers.update(&c.id, |c| {
            change(c);
            true
        });
        w.driver.take_steps();
        write.await.unwrap();
        w.net.sandbox_ready(c.id).await.unwrap();
        w.driver.take_steps().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let started = change(|c| {
        c.status.answered = 1;
        c.status.state = weft_model::RunState::Running;
    });
    assert_eq!(started.await, [""; 0]);
    let ended = change(|c| {
        c.status.runs = 1;
        c.status.state = weft_model::RunState::Restarting;
    });
    let (id, port) = (c.id.short(), weft_dataplane::link_name('p', &p.id));
    let bridge = weft_dataplane::link_name('b', &net.id);
    let wanted = [
        format!("delete port {port}"),
        format!("delete sandbox {id}"),
        format!("create sandbox {id}"),
        format!("create port {port} on {bridge}"),
    ];
    assert_eq!(ended.await, wanted);
    let again = change(|c| c.status.state = weft_model::RunState::Running);
    assert_eq!(again.await, [""; 0]);
    // Its port is the same one, and was made: nothing waits for it.
    assert_eq!(w.port(p.id).await.status.error, "");
    w.tasks.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_tried_again_at_once_and_then_told_where_it_belongs() {
    let w = world(FakeDriver::default());
    let (net, c, p) = web();
    w.driver.fail_at(0);
    w.add(&net, &c, &p).await;
    // One failed step is made good by looking anew; nobody hears of it.
    w.net.sandbox_ready(c.id).await.unwrap();
    w.port_when(p.id, |p| p.status.observed == 1).await;
    w.tasks.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_cannot_be_tells_why_and_recovers() {
    let w = world(FakeDriver::default());
    let (net, c, mut p) = web();
    let network = p.network;
    p.network = NetworkId::new();
    w.add(&net, &c, &p).await;
    let refused = w.net.sandbox_ready(c.id).await.unwrap_err().to_string();
    assert!(refused.ends_with("not found"), "{refused}");
    let bad = w.port_when(p.id, |p| !p.status.error.is_empty()).await;
    assert_eq!(bad.status.observed, 0);
    let mend = |port: &mut Port| {
        port.spec.network = network;
        port.meta.generation += 1;
        true
    };
    w.net.0.ports.update(&p.id, mend).await.unwrap();
    w.net.sandbox_ready(c.id).await.unwrap();
    w.port_when(p.id, |p| p.status.observed == 2 && p.status.error.is_empty()).await;
    w.tasks.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_remove_comes_back_and_strays_go() {
    let mut machine = weft_dataplane::Observed::default();
    machine.segments.insert("wfbstray".into(), SeenSegment::default());
    let w = world(FakeDriver::with(machine));
    let (net, c, p) = web();
    w.add(&net, &c, &p).await;
    w.net.sandbox_ready(c.id).await.unwrap();
    assert!(!w.driver.observe().unwrap().segments.contains_key("wfbstray"));
    w.driver.meddle(|machine| machine.ports.clear());
    w.net.recheck();
    while w.driver.observe().unwrap().ports.is_empty() {
        tokio::task::yield_now().await;
    }
    w.tasks.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_changed_costs_no_look_at_the_machine() {
    let w = world(FakeDriver::default());
    let (net, c, p) = web();
    w.add(&net, &c, &p).await;
    w.net.sandbox_ready(c.id).await.unwrap();
    let (looks, _) = (w.driver.observations(), w.driver.take_steps());
    for _ in 0..20 {
        w.net
            .0
            .containers
            .update(&c.id, |c| {
                c.status.restart_count += 1;
                true
            })
            .await
            .unwrap();
        w.net.sandbox_ready(c.id).await.unwrap();
    }
    assert_eq!(w.driver.observations(), looks);
    assert!(w.driver.take_steps().is_empty());
    w.tasks.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_machine_lacks_for_policy_is_told_before_it_is_asked_for() {
    let w = world(FakeDriver::default());
    w.net.policy_possible().await.unwrap();
    w.driver.lacks_policy("the module is not loaded");
    let error = w.net.policy_possible().await.unwrap_err();
    assert!(error.to_string().contains("the module is not loaded"), "{error}");
    assert_eq!(error.class(), crate::error::ErrorClass::Unsupported);
    w.tasks.stop().await;
}
