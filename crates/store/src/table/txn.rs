//! Transactions over several kinds: records made, changed, removed and names claimed and released, all or none.
//!
//! ```ignore
//! let revision = Txn::new(&stores)
//!     .claim(&IndexKey::of::<Container>("web"), &id)
//!     .create(&container)
//!     .create(&port)
//!     .commit()
//!     .await?;
//! ```

use std::fmt::Display;

use bytes::Bytes;
use weft_model::{Resource, Scope};

use super::{IndexKey, envelope, key_of};
use crate::{Compare, Conflict, LeaseId, Op, OpResult, Request, StoreError, Stores};

/// What a step needs of its key, and so what to tell when it does not hold.
enum Need {
    Absent,
    Present,
    Revision(u64),
    FreeName,
    HeldBy,
}

/// A transaction being built, of the one scope that its records lie in. Errors of building are told by [`Txn::commit`].
#[must_use = "a transaction does nothing until it is committed"]
pub struct Txn {
    stores: Stores,
    scope: Option<Scope>,
    needs: Vec<(Bytes, Need)>,
    compares: Vec<Compare>,
    ops: Vec<Op>,
    lease: Option<LeaseId>,
    error: Option<StoreError>,
}

impl Txn {
    /// An empty transaction.
    pub fn new(stores: &Stores) -> Self {
        Self {
            stores: stores.clone(),
            scope: None,
            needs: Vec::new(),
            compares: Vec::new(),
            ops: Vec::new(),
            lease: None,
            error: None,
        }
    }

    /// A transaction in `scope`, for kinds that lie in both.
    pub fn within(mut self, scope: Scope) -> Self {
        self.enter(scope);
        self
    }

    /// The following writes end with `lease` (`None`: with no lease, as at the beginning).
    pub fn leased(mut self, lease: Option<LeaseId>) -> Self {
        self.lease = lease;
        self
    }

    /// Makes a record; conflict when it exists.
    pub fn create<R: Resource>(mut self, value: &R) -> Self {
        self.enter(value.scope());
        let key = key_of::<R>(&value.key());
        let compare = Compare::missing(key.clone());
        self.write(key, value, compare, Need::Absent)
    }

    /// Writes a record that was read at `revision`; conflict when it was changed or removed since.
    pub fn update<R: Resource>(mut self, value: &R, revision: u64) -> Self {
        self.enter(value.scope());
        let key = key_of::<R>(&value.key());
        let compare = Compare::unchanged(key.clone(), revision);
        self.write(key, value, compare, Need::Revision(revision))
    }

    /// Writes a record whether or not it exists.
    pub fn put<R: Resource>(mut self, value: &R) -> Self {
        self.enter(value.scope());
        let key = key_of::<R>(&value.key());
        self.push_put(key, value);
        self
    }

    /// Removes a record if it is there.
    pub fn delete<R: Resource>(mut self, key: &(impl Display + ?Sized)) -> Self {
        self.enter_kind::<R>();
        self.ops.push(Op::delete(key_of::<R>(key)));
        self
    }

    /// Removes a record that was read at `revision`; conflict when it was changed or removed since.
    pub fn delete_at<R: Resource>(self, key: &(impl Display + ?Sized), revision: u64) -> Self {
        let mut me = self.expect_at::<R>(key, revision);
        me.ops.push(Op::delete(key_of::<R>(key)));
        me
    }

    /// Conflict when the record was changed or removed since `revision`; writes nothing.
    pub fn expect_at<R: Resource>(mut self, key: &(impl Display + ?Sized), revision: u64) -> Self {
        self.enter_kind::<R>();
        let key = key_of::<R>(key);
        self.need(Compare::unchanged(key.clone(), revision), key, Need::Revision(revision));
        self
    }

    /// Conflict when the record does not exist; writes nothing.
    pub fn expect_exists<R: Resource>(mut self, key: &(impl Display + ?Sized)) -> Self {
        self.enter_kind::<R>();
        let key = key_of::<R>(key);
        self.need(Compare::exists(key.clone()), key, Need::Present);
        self
    }

    /// Takes a name for `id`; conflict when another holds it.
    pub fn claim(mut self, name: &IndexKey, id: &(impl Display + ?Sized)) -> Self {
        self.enter_name(name);
        let key = name.as_str().to_owned();
        self.need(Compare::missing(key.clone()), key.clone(), Need::FreeName);
        let value = IndexKey::value(&id.to_string());
        self.ops.push(Op::Put { key: key.into(), value, lease: self.lease });
        self
    }

    /// Gives back a name that `id` holds; conflict when it does not.
    pub fn release(mut self, name: &IndexKey, id: &(impl Display + ?Sized)) -> Self {
        self.enter_name(name);
        let key = name.as_str().to_owned();
        let value = IndexKey::value(&id.to_string());
        self.need(Compare::value(key.clone(), value), key.clone(), Need::HeldBy);
        self.ops.push(Op::delete(key));
        self
    }

    /// Carries it out; answers the revision of its writes. When this returned, every reader sees them.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] naming the first contested key; [`StoreError::Encode`];
    /// [`StoreError::Invalid`] beyond [`crate::MAX_OPS`] steps, when one key is written twice, when records of both scopes
    /// meet, and for a write into the cluster's scope that compares nothing: its answer can be lost and it be carried out
    /// later, over what was written meanwhile.
    pub async fn commit(self) -> Result<u64, StoreError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let scope = self.scope.unwrap_or(Scope::Host);
        if scope == Scope::Cluster && self.compares.is_empty() && !self.ops.is_empty() {
            return Err(StoreError::invalid("a write into the cluster's scope without a condition"));
        }
        let looks = self.needs.iter().map(|(key, _)| Op::get(key.clone())).collect();
        let request = Request { compares: self.compares, then: self.ops, otherwise: looks };
        let response = self.stores.of(scope).txn(request).await?;
        if response.succeeded {
            return Ok(response.revision);
        }
        for ((key, need), result) in self.needs.iter().zip(&response.results) {
            let found = match result {
                OpResult::Items(items) => items.first(),
                _ => None,
            };
            let key = String::from_utf8_lossy(key).into_owned();
            let changed = |expected, found| Some(Conflict::Changed { expected, found });
            let reason = match (need, found) {
                (Need::Absent, Some(_)) => Some(Conflict::Exists),
                (Need::Present | Need::Revision(_) | Need::HeldBy, None) => Some(Conflict::Missing),
                (Need::Revision(r), Some(item)) if item.mod_revision != *r => changed(*r, item.mod_revision),
                (Need::FreeName, Some(item)) => {
                    Some(Conflict::Claimed { owner: IndexKey::holder(&key, &item.value)? })
                }
                _ => None,
            };
            if let Some(reason) = reason {
                return Err(StoreError::Conflict { key, reason });
            }
        }
        wrong_holder(&self.needs, &response.results)
    }

    /// The transaction is of `scope` from now on.
    fn enter(&mut self, scope: Scope) {
        if *self.scope.get_or_insert(scope) != scope {
            self.fail(StoreError::invalid("records of both scopes in one transaction"));
        }
    }

    /// The same for a kind whose record is not at hand.
    fn enter_kind<R: Resource>(&mut self) {
        match R::SCOPES {
            [scope] => self.enter(*scope),
            _ if self.scope.is_none() => {
                let which = format!("a {} without a word in which scope", R::KIND);
                self.fail(StoreError::invalid(which));
            }
            _ => {}
        }
    }

    fn enter_name(&mut self, name: &IndexKey) {
        match name.scope() {
            Some(scope) => self.enter(scope),
            None if self.scope.is_none() => {
                let which = format!("the name {} without a word in which scope", name.as_str());
                self.fail(StoreError::invalid(which));
            }
            None => {}
        }
    }

    /// The first error is the one that is told.
    fn fail(&mut self, error: StoreError) {
        self.error = self.error.take().or(Some(error));
    }

    fn write<R: Resource>(mut self, key: String, value: &R, compare: Compare, need: Need) -> Self {
        self.need(compare, key.clone(), need);
        self.push_put(key, value);
        self
    }

    fn push_put<R: Resource>(&mut self, key: String, value: &R) {
        match envelope::encode(&key, value) {
            Ok(value) => self.ops.push(Op::Put { key: key.into(), value, lease: self.lease }),
            Err(error) => self.fail(error),
        }
    }

    fn need(&mut self, compare: Compare, key: String, need: Need) {
        self.compares.push(compare);
        self.needs.push((key.into(), need));
    }
}

/// The one conflict left: a name to release that another holds.
fn wrong_holder(needs: &[(Bytes, Need)], results: &[OpResult]) -> Result<u64, StoreError> {
    for ((key, need), result) in needs.iter().zip(results) {
        if let (Need::HeldBy, OpResult::Items(items)) = (need, result)
            && let Some(item) = items.first()
        {
            let key = String::from_utf8_lossy(key).into_owned();
            let owner = IndexKey::holder(&key, &item.value)?;
            return Err(StoreError::Conflict { key, reason: Conflict::Claimed { owner } });
        }
    }
    Err(StoreError::invalid("a transaction failed although every condition held"))
}
