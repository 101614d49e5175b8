//! Use cases around containers.

mod archive;
mod change;
mod create;
mod draft;
mod files;
mod find;
mod life;
mod links;
mod list;
mod merge;
mod names;
mod references;
mod remove;
mod view;
mod watch;

pub use change::ContainerUpdate;
pub use create::Created;
pub use draft::{ContainerDraft, DraftEndpoint, DraftNetwork};
pub use merge::ImageDefaults;
pub use remove::RemoveOptions;
pub use view::{ContainerPaths, ContainerSize, ContainerView};
pub use watch::{Logs, Usage};
