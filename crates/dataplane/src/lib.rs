//! What ONE host's network must be, as one plain value ([`Desired`]), and the [`Driver`] trait that makes a
//! machine look like it.
//!
//! ```text
//!  model ──net: compile──▶ Desired ─┐
//!                                   ├─ plan (pure) ──▶ [Step] ──apply──▶ kernel
//!  kernel ──driver: observe──▶ Observed ┘
//! ```
//!
//! The value knows sandboxes (network namespaces), segments (layer-2 domains with a gateway), ports (one
//! attachment each) and publishes (ways in from outside). It says nothing of bridges' ioctls, nftables or
//! OpenFlow: that is the drivers' business. What a driver cannot do comes back as [`Unsupported`], typed,
//! before anything is changed.
//!
//! [`Converger`] keeps the last observation, so that one more port on a host with hundreds costs a
//! comparison in memory and a few kernel messages, not a dump of everything.

mod converge;
mod driver;
mod error;
mod fake;
pub mod insight;
mod limits;
mod loopback;
mod observed;
mod open;
mod plan;
mod policy;
mod state;
mod step;
mod types;

pub use converge::{Converger, Outcome};
pub use driver::Driver;
pub use error::{DriverError, Invalid, ParentFault, Unsupported};
pub use fake::FakeDriver;
pub use limits::{Limits, PortLimit, Queue};
pub use loopback::Loopbacks;
pub use observed::{Observed, SeenPort, SeenSegment};
pub use open::{Open, OpenSet, Reach};
pub use plan::plan;
pub use policy::{CLOSED, Count, Flow, HOST, OUTSIDE, PolicyCounters, PolicyTable};
pub use state::{BridgeState, EndState, Parameters};
pub use step::Step;
pub use types::{
    Desired, Gateway, IdMaps, IdRange, Listeners, Origin, Parent, Port, Publish, PublishKey, PublishMap,
    PublishTarget, Sandbox, SandboxId, Segment, Uplink, Users, link_name,
};
