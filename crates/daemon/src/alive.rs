//! This host's sign of life: a record under a short lease, by which others know that its daemon is there.

use std::{sync::Arc, time::Duration};

use weft_base::{Backoff, Tasks, chain};
use weft_model::{Alive, HostId, Resource, Scope};
use weft_store::{Hold, Keeper, StoreError, Stores, Table, Txn};

/// After so long a host that was not heard of counts as gone.
const TTL: Duration = Duration::from_secs(15);

/// Keeps the sign of life as long as the daemon runs. A host that shares no store needs none.
pub(crate) fn start(stores: &Stores, host: HostId, tasks: &Tasks) {
    if !stores.are_two() {
        return;
    }
    let stores = stores.clone();
    tasks.supervise("alive", move || {
        let stores = stores.clone();
        async move {
            let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
            loop {
                match sign(&stores, host).await {
                    Ok(keeper) => {
                        backoff.reset();
                        until_lost(keeper).await;
                        tracing::warn!(
                            "this host's sign of life has ended: others may take it for gone; renewing it"
                        );
                    }
                    Err(error) => {
                        tracing::debug!(error = chain(&error), "no sign of life can be given");
                        tokio::time::sleep(backoff.next_delay()).await;
                    }
                }
            }
        }
    });
}

async fn until_lost(keeper: Keeper) {
    let mut hold = keeper.hold();
    if hold.wait_for(|hold| *hold == Hold::Lost).await.is_err() {
        tracing::debug!("the lease of this host's sign of life is not kept any more");
    }
}

/// Puts the record under a new lease, in place of one that an earlier daemon left. A conflict is told: memory was a moment behind
/// the cluster, and the next attempt knows better.
async fn sign(stores: &Stores, host: HostId) -> Result<Keeper, StoreError> {
    let keeper = Keeper::start(Arc::clone(stores.of(Scope::Cluster)), TTL).await?;
    let (table, alive) = (Table::<Alive>::new(stores), Alive { host });
    let txn = Txn::new(stores).leased(Some(keeper.lease()));
    let txn = match table.get(&alive.key()).await? {
        Some(known) => txn.update(&alive, known.revision),
        None => txn.create(&alive),
    };
    txn.commit().await?;
    Ok(keeper)
}
