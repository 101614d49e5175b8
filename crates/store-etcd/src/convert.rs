//! The seam's requests and answers in etcd's messages, and back. Pure.

use bytes::Bytes;
use weft_store::{Cmp, Compare, Item, LeaseId, Op, OpResult, Request, Response, StoreError, Target};

use crate::{
    keys::Keys,
    proto::{self, CompareResult, CompareTarget, RequestKind, ResponseKind, TargetUnion},
};

/// etcd's numbers are signed; those of the seam never are. What is out of range stays in range and equals nothing.
pub(crate) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// The bits of a lease's id: etcd hands out positive ones, and so do we.
pub(crate) fn lease_to_wire(lease: LeaseId) -> i64 {
    lease.0.cast_signed()
}

pub(crate) fn revision(header: Option<&proto::Header>) -> u64 {
    unsigned(header.map_or(0, |h| h.revision))
}

/// One item, with copies: answers come in large buffers, of which nothing shall stay.
pub(crate) fn item(keys: &Keys, kv: &proto::KeyValue) -> Item {
    Item {
        key: keys.strip(&kv.key),
        value: Bytes::copy_from_slice(&kv.value),
        create_revision: unsigned(kv.create_revision),
        mod_revision: unsigned(kv.mod_revision),
        version: unsigned(kv.version),
        lease: (kv.lease != 0).then(|| LeaseId(kv.lease.cast_unsigned())),
    }
}

/// Whether a transaction writes nothing, whichever branch runs.
pub(crate) fn only_reads(request: &Request) -> bool {
    let reads = |op: &Op| matches!(op, Op::Get { .. } | Op::Range { .. });
    request.then.iter().chain(&request.otherwise).all(reads)
}

/// The transaction in etcd's words.
///
/// etcd answers a transaction without writes and without linearizable reads from the member's own, perhaps old, state
/// (`isTxnSerializable`). So one without steps is given a read of `anchor`, whose result [`txn_answer`] leaves out.
pub(crate) fn txn(keys: &Keys, request: &Request, anchor: &Bytes) -> Result<proto::TxnRequest, StoreError> {
    let mut success = ops(keys, &request.then)?;
    let mut failure = ops(keys, &request.otherwise)?;
    if success.is_empty() && failure.is_empty() {
        let read = proto::RangeRequest { key: anchor.clone(), keys_only: true, ..Default::default() };
        let read = proto::RequestOp { request: Some(RequestKind::Range(read)) };
        success.push(read.clone());
        failure.push(read);
    }
    let compare = request.compares.iter().map(|c| compare(keys, c)).collect::<Result<_, _>>()?;
    Ok(proto::TxnRequest { compare, success, failure })
}

/// What etcd answered to `request`.
pub(crate) fn txn_answer(
    keys: &Keys,
    request: &Request,
    answer: &proto::TxnResponse,
) -> Result<Response, StoreError> {
    let steps = if answer.succeeded { &request.then } else { &request.otherwise };
    if answer.responses.len() < steps.len() {
        let reason = format!("{} results for {} steps", answer.responses.len(), steps.len());
        return Err(StoreError::Unknown { doing: "run a transaction", reason });
    }
    let results = answer.responses[..steps.len()].iter().map(|r| result(keys, r)).collect();
    Ok(Response { succeeded: answer.succeeded, revision: revision(answer.header.as_ref()), results })
}

fn ops(keys: &Keys, ops: &[Op]) -> Result<Vec<proto::RequestOp>, StoreError> {
    ops.iter().map(|op| Ok(proto::RequestOp { request: Some(kind(keys, op)?) })).collect()
}

fn kind(keys: &Keys, op: &Op) -> Result<RequestKind, StoreError> {
    Ok(match op {
        Op::Get { key } => {
            RequestKind::Range(proto::RangeRequest { key: keys.full(key)?, ..Default::default() })
        }
        Op::Range { prefix } => {
            let (key, range_end) = keys.span(prefix)?;
            RequestKind::Range(proto::RangeRequest { key, range_end, ..Default::default() })
        }
        Op::Put { key, value, lease } => RequestKind::Put(proto::PutRequest {
            key: keys.full(key)?,
            value: value.clone(),
            lease: lease.map_or(0, lease_to_wire),
        }),
        Op::Delete { key } => RequestKind::DeleteRange(proto::DeleteRangeRequest {
            key: keys.full(key)?,
            range_end: Bytes::new(),
        }),
        Op::DeleteRange { prefix } => {
            let (key, range_end) = keys.span(prefix)?;
            RequestKind::DeleteRange(proto::DeleteRangeRequest { key, range_end })
        }
    })
}

fn compare(keys: &Keys, compare: &Compare) -> Result<proto::Compare, StoreError> {
    let result = match compare.cmp {
        Cmp::Equal => CompareResult::Equal,
        Cmp::NotEqual => CompareResult::NotEqual,
        Cmp::Less => CompareResult::Less,
        Cmp::Greater => CompareResult::Greater,
    };
    let (target, union) = match &compare.target {
        Target::Version(n) => (CompareTarget::Version, TargetUnion::Version(signed(*n))),
        Target::CreateRevision(n) => (CompareTarget::Create, TargetUnion::CreateRevision(signed(*n))),
        Target::ModRevision(n) => (CompareTarget::Mod, TargetUnion::ModRevision(signed(*n))),
        Target::Value(value) => (CompareTarget::Value, TargetUnion::Value(value.clone())),
    };
    Ok(proto::Compare {
        result: result.into(),
        target: target.into(),
        key: keys.full(&compare.key)?,
        target_union: Some(union),
    })
}

fn result(keys: &Keys, response: &proto::ResponseOp) -> OpResult {
    match &response.response {
        Some(ResponseKind::Range(range)) => {
            OpResult::Items(range.kvs.iter().map(|kv| item(keys, kv)).collect())
        }
        Some(ResponseKind::DeleteRange(gone)) => OpResult::Deleted(unsigned(gone.deleted)),
        Some(ResponseKind::Put(_)) | None => OpResult::Put,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_without_steps_reads_the_anchor_and_answers_nothing() {
        let keys = Keys::new("");
        let request =
            Request { compares: vec![Compare::missing("/a")], then: Vec::new(), otherwise: Vec::new() };
        let wire = txn(&keys, &request, &"/anchor".into()).unwrap();
        assert_eq!((wire.success.len(), wire.failure.len()), (1, 1));
        let read = proto::ResponseOp { response: Some(ResponseKind::Range(proto::RangeResponse::default())) };
        let answer = proto::TxnResponse { responses: vec![read], succeeded: true, ..Default::default() };
        assert!(txn_answer(&keys, &request, &answer).unwrap().results.is_empty());
        assert!(only_reads(&request));
    }

    #[test]
    fn an_answer_with_too_few_results_is_no_answer() {
        let request = Request::always(vec![Op::put("/a", "x"), Op::get("/a")]);
        assert!(!only_reads(&request));
        let answer = proto::TxnResponse { succeeded: true, ..Default::default() };
        let outcome = txn_answer(&Keys::new(""), &request, &answer);
        assert!(matches!(outcome, Err(StoreError::Unknown { .. })), "{outcome:?}");
    }
}
