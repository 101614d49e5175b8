//! Options of Docker's `macvlan` and `ipvlan` drivers, and ours beside them.

use std::collections::BTreeMap;

use weft_cloud::ParentDraft;

/// What a driver with this name reads; other drivers read none of it.
pub(super) fn draft(driver: &str, options: &BTreeMap<String, String>) -> ParentDraft {
    let (mode, flag) = match driver {
        "macvlan" => ("macvlan_mode", ""),
        "ipvlan" => ("ipvlan_mode", "ipvlan_flag"),
        _ => return ParentDraft::default(),
    };
    let text = |name: &str| options.get(name).cloned().unwrap_or_default();
    // One address of each family, apart by commas.
    let shims = text("weft.host_shim");
    ParentDraft {
        link: text("parent"),
        mode: text(mode),
        flag: text(flag),
        shims: shims.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect(),
    }
}
