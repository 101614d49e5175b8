//! Random operations, cuts and restarts: in the end, and whenever it is asked for, the replica holds what the store holds,
//! and so does a reader who only listed once and watched.

use super::*;

/// A small generator (Knuth's MMIX constants), so that a seed is a run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn pick(&mut self, of: &[&'static str]) -> &'static str {
        of[usize::try_from(self.roll(of.len() as u64)).unwrap()]
    }
}

async fn operate(kv: &dyn Kv, dice: &mut Dice) -> Result<(), StoreError> {
    let key = |dice: &mut Dice| format!("{}{}", dice.pick(&["/a/", "/b/", "/c/"]), dice.roll(8));
    let mut ops: Vec<Op> = Vec::new();
    for _ in 0..=dice.roll(3) {
        let key = key(dice);
        if ops.iter().any(|op| matches!(op, Op::Put { key: k, .. } | Op::Delete { key: k } if *k == key)) {
            continue;
        }
        ops.push(if dice.roll(3) == 0 { Op::delete(key) } else { Op::put(key, dice.roll(1000).to_string()) });
    }
    if dice.roll(20) == 0 {
        ops = vec![Op::DeleteRange { prefix: dice.pick(&["/a/", "/b/", "/"]).into() }];
    }
    kv.txn(Request::always(ops)).await.map(|_| ())
}

async fn run(seed: u64) {
    let (bed, mut dice) = (Bed::new(), Dice(seed));
    let mut replica = bed.open().await.unwrap();
    let mut known = BTreeMap::new();
    let mut watch = replica.watch(b"", 0).await.unwrap();
    for step in 0..400 {
        match dice.roll(25) {
            0 => bed.wire.set(Mode::Silent),
            1 => bed.wire.set(Mode::Broken),
            2..=4 => bed.wire.set(Mode::Whole),
            5 => bed.origin.compact(bed.origin.revision().await.unwrap()).await.unwrap(),
            6 => {
                drop(replica);
                replica = bed.open().await.unwrap_or_else(|e| panic!("seed {seed}, step {step}: {e}"));
                let list = replica.range(b"").await.unwrap();
                known = list.items.into_iter().map(|i| (i.key, i.value)).collect();
                watch = replica.watch(b"", list.revision + 1).await.unwrap();
            }
            7..=12 => match operate(&replica, &mut dice).await {
                Ok(()) | Err(StoreError::Unavailable { .. }) => {}
                Err(error) => panic!("seed {seed}, step {step}: {error}"),
            },
            _ => operate(&*bed.origin, &mut dice).await.unwrap(),
        }
        if dice.roll(40) == 0 {
            bed.wire.set(Mode::Whole);
            assert!(replica.caught_up(PATIENCE).await, "seed {seed}, step {step}");
            bed.same(&replica, &["/a/", "/b/"]).await;
        }
    }
    bed.wire.set(Mode::Whole);
    bed.same(&replica, &["/a/", "/b/"]).await;
    let there = replica.range(b"").await.unwrap();
    let there: BTreeMap<_, _> = there.items.into_iter().map(|i| (i.key, i.value)).collect();
    while known != there {
        let told = tokio::time::timeout(PATIENCE, watch.next()).await;
        let batch = told.unwrap_or_else(|_| panic!("seed {seed}: a reader knows {known:?}, not {there:?}"));
        learn(&mut known, &batch.unwrap_or_else(|e| panic!("seed {seed}: {e}")));
    }
    drop(replica);
    // And the file has it all.
    bed.wire.set(Mode::Silent);
    let replica = bed.open().await.unwrap();
    bed.same(&replica, &["/a/", "/b/"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_the_replica_ends_as_the_store() {
    for seed in 1..=8 {
        run(seed).await;
    }
}
