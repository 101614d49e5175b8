//! What keeps translated connections translated when somebody empties nftables.
//!
//! The kernel translates a known connection by its record, not by rules, but only as long as some NAT chain is there: with the
//! last one it unhooks NAT (and tracking with the last rule that asks for it), and the next packet of every translated connection
//! reaches the host itself, which resets it. So there is one chain that does nothing in a table that `nft flush ruleset` passes by, for it is owned by our socket. It ends
//! with the daemon; what it is for lies in the table `weft`, which stays.
//!
//! Source: `nf_nat_register_fn` (hooks per namespace), `NFT_TABLE_F_OWNER` (Linux 5.12).

use weft_sys::{
    netlink::{Channel, Family, NetlinkError, Socket},
    nft::{
        Batch, Hook, HookPoint,
        expr::{Ct, Expr, Reg},
    },
};

const TABLE: &str = "weft-keep";
/// Of the hooks the one that fewest packets pass; it takes one NAT chain to keep them all.
const HOOK: Hook = Hook { kind: "nat", point: HookPoint::Input, priority: 100 };

/// Owns the table while it is held.
#[derive(Debug)]
pub(crate) struct Anchor {
    _owner: Socket,
}

impl Anchor {
    /// None where the kernel cannot: then connections end with the table, as they would without this.
    pub(crate) fn cast() -> Option<Self> {
        let owned = || -> Result<Socket, NetlinkError> {
            let mut socket = Socket::open(Family::Netfilter)?;
            let mut batch = Batch::new(TABLE);
            batch.add_owned_table();
            batch.add_chain("nat", Some(HOOK));
            batch.add_rule("nat", "keeps connection tracking", &[Expr::Ct(Ct::State, Reg(0))]);
            socket.transact(&batch.finish())?;
            Ok(socket)
        };
        match owned() {
            Ok(owner) => Some(Self { _owner: owner }),
            Err(error) => {
                tracing::warn!(%error, "translated connections will not outlive a flush of nftables");
                None
            }
        }
    }
}
