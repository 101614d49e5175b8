//! Our mark on links: the name says that a link is ours, the alias (`ifalias`) what it was last configured as.
//!
//! ```text
//! weft segment <tag>              a bridge; a tag of `-` while it is being configured
//! weft vlan <segment>             a VLAN that a segment without a bridge hangs on
//! weft port <identity> <tag>      the host's end of a veth pair; a `+` at the end says that it is in hairpin mode
//! ```

use weft_dataplane::{EndState, Port, SeenPort, SeenSegment, Segment};
use weft_sys::netlink::link::{Kind, Link};

const SEGMENT: &str = "weft segment ";
const PORT: &str = "weft port ";
const VLAN: &str = "weft vlan ";

/// Alias of a segment that is not configured yet.
pub(crate) fn unfinished_segment() -> String {
    format!("{SEGMENT}-")
}

pub(crate) fn segment(segment: &Segment) -> String {
    format!("{SEGMENT}{}", segment.tag())
}

pub(crate) fn port(port: &Port, hairpin: bool) -> String {
    format!("{PORT}{} {}{}", port.identity(), port.tag(), if hairpin { "+" } else { "" })
}

/// `wf`, the kind's letter, 12 hex digits: what [`weft_dataplane::link_name`] makes.
pub(crate) fn marked(name: &str, kind: char) -> bool {
    name.strip_prefix("wf")
        .and_then(|rest| rest.strip_prefix(kind))
        .is_some_and(|id| id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Alias of a VLAN of ours, which belongs to the segment called `link`.
pub(crate) fn vlan(link: &str) -> String {
    format!("{VLAN}{link}")
}

/// Whether a name is a port's.
pub(crate) fn is_port(name: &str) -> bool {
    marked(name, 'p')
}

/// Whether a segment's name is that of one without a bridge.
pub(crate) fn is_uplink(name: &str) -> bool {
    marked(name, 'h')
}

/// The segment without a bridge that a link of ours was made for: the host's own sub-interface, or a parent of ours.
pub(crate) fn of_uplink(link: &Link) -> Option<String> {
    match &link.kind {
        Kind::Other(kind) if kind == "vlan" => {
            link.alias.strip_prefix(VLAN).filter(|name| is_uplink(name)).map(str::to_owned)
        }
        Kind::Other(kind) if kind == "macvlan" || kind == "ipvlan" => {
            is_uplink(&link.name).then(|| link.name.clone())
        }
        Kind::Other(_) | Kind::Veth if marked(&link.name, 'd') => Some(link.name.replacen("wfd", "wfh", 1)),
        _ => None,
    }
}

/// What is seen of a port that is a sub-interface.
pub(crate) fn as_branch(link: &Link) -> SeenPort {
    let (identity, tag) =
        link.alias.strip_prefix(PORT).and_then(|rest| rest.split_once(' ')).unwrap_or_default();
    let tag = if link.up { tag } else { "" };
    SeenPort { identity: identity.to_owned(), tag: tag.to_owned(), state: None }
}

/// The segment a link is, if it is one of ours.
pub(crate) fn as_segment(link: &Link) -> Option<SeenSegment> {
    let alias = link.alias.strip_prefix(SEGMENT);
    let ours = link.kind == Kind::Bridge && (alias.is_some() || marked(&link.name, 'b'));
    ours.then(|| SeenSegment { tag: alias.unwrap_or_default().to_owned(), state: None })
}

/// The port a link is, if it is one of ours; who knows all links adds the bridge it is in. `hairpin`: whether ports must be in
/// that mode now.
pub(crate) fn as_port(link: &Link, hairpin: bool) -> Option<SeenPort> {
    if link.kind != Kind::Veth || !marked(&link.name, 'p') {
        return None;
    }
    let alias = link.alias.strip_prefix(PORT).and_then(|rest| rest.split_once(' '));
    let (identity, tag) = alias.unwrap_or_default();
    let (tag, mode) = tag.strip_suffix('+').map_or((tag, false), |tag| (tag, true));
    let state = EndState {
        up: link.up,
        mtu: link.mtu,
        bridge: None,
        isolated: link.isolated,
        guarded: false,
        hairpin_fits: mode == hairpin && link.hairpin == hairpin,
    };
    Some(SeenPort { identity: identity.to_owned(), tag: tag.to_owned(), state: Some(state) })
}

/// The alias of a port of ours that was brought into hairpin mode, or out of it; `None` for other links.
pub(crate) fn in_mode(link: &Link, hairpin: bool) -> Option<String> {
    let ours = link.kind == Kind::Veth && marked(&link.name, 'p') && link.alias.starts_with(PORT);
    let plain = link.alias.strip_suffix('+').unwrap_or(&link.alias);
    ours.then(|| format!("{plain}{}", if hairpin { "+" } else { "" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, kind: Kind, alias: &str) -> Link {
        let (name, alias) = (name.to_owned(), alias.to_owned());
        Link {
            index: 3,
            name,
            kind,
            up: true,
            master: Some(2),
            alias,
            mac: vec![],
            mtu: 1500,
            filtered: false,
            hairpin: false,
            isolated: false,
            lower: None,
        }
    }

    #[test]
    fn only_marked_links_are_ours() {
        for (name, alias) in
            [("wfb0123456789ab", ""), ("docker7", "weft segment 0123"), ("wfb0123456789ab", "by hand")]
        {
            assert!(as_segment(&link(name, Kind::Bridge, alias)).is_some(), "{name}");
        }
        for name in ["docker0", "wfb", "wfbridge", "wfp0123456789ab", "wfb0123456789zz"] {
            assert!(as_segment(&link(name, Kind::Bridge, "")).is_none(), "{name}");
        }
        assert!(
            as_segment(&link("wfb0123456789ab", Kind::Other("dummy".into()), "weft segment x")).is_none()
        );
        assert!(as_port(&link("veth1", Kind::Veth, "weft port a b"), false).is_none());
        let seen = as_port(&link("wfp0123456789ab", Kind::Veth, "weft port a b"), false).unwrap();
        assert_eq!((seen.identity.as_str(), seen.tag.as_str()), ("a", "b"));
    }

    #[test]
    fn a_port_shows_how_it_is() {
        let mut port = link("wfp0123456789ab", Kind::Veth, "weft port a b");
        port.up = false;
        let seen = as_port(&port, false).unwrap();
        assert_eq!((seen.identity.as_str(), seen.tag.as_str()), ("a", "b"));
        assert!(!seen.state.unwrap().up);
    }

    #[test]
    fn a_port_in_the_wrong_mode_does_not_fit() {
        for (alias, is, wanted, fits) in [
            ("weft port a b", false, true, false),
            ("weft port a b+", true, true, true),
            ("weft port a b+", false, true, false),
            ("weft port a b+", true, false, false),
            ("weft port a b", false, false, true),
        ] {
            let mut port = link("wfp0123456789ab", Kind::Veth, alias);
            port.hairpin = is;
            let seen = as_port(&port, wanted).unwrap();
            assert_eq!(seen.state.unwrap().hairpin_fits, fits, "{alias} {is} {wanted}");
            assert_eq!(seen.tag, "b");
        }
    }
}
