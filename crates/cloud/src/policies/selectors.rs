//! Whom the words of a policy mean: networks and containers by name or id, and what is said of those that are not there.
//!
//! A policy keeps a network by its id, because a later network of that name is another one; and a container by its name, because
//! a container is replaced by the next one of its name. So an id of a container is looked up once, when the policy is made.

use weft_base::Name;
use weft_model::{Container, NetworkMode, Selector};

use super::for_bridges;
use crate::{Caller, Cloud, CloudError, Result};

/// Digits of an id as lists show it: what is as long as that, in hex, is meant as an id.
const SHORT_ID: usize = 12;

/// Whether `name=` was given what `docker ps` and `docker run` print.
fn is_id(text: &str) -> bool {
    text.len() >= SHORT_ID && text.bytes().all(|b| b.is_ascii_hexdigit())
}

impl Cloud {
    /// Reads a selector. A container that is named by an id, or by a word alone, must be there; one that is named by `name=` may
    /// come later.
    pub(super) async fn selector(&self, caller: &Caller, text: &str) -> Result<Selector> {
        if let Some(name) = text.strip_prefix("network=") {
            let network = self.network_find(caller, name).await?;
            for_bridges(network.spec.kind)?;
            return Ok(Selector::Network(network.spec.id));
        }
        if let Some(id) = text.strip_prefix("id=") {
            return self.container_selector(caller, id).await;
        }
        match text.parse() {
            Ok(Selector::Name(id)) if is_id(&id) => self.container_selector(caller, &id).await,
            Ok(selector) => possible(selector),
            Err(error @ weft_model::SelectorError { .. }) if text.is_empty() || text.contains('=') => {
                Err(CloudError::Invalid(error.to_string()))
            }
            Err(error) => match self.container_selector(caller, text).await {
                Err(CloudError::NotFound { .. }) if !is_id(text) => {
                    Err(CloudError::Invalid(format!("{error}, and no container is called so")))
                }
                other => other,
            },
        }
    }

    async fn container_selector(&self, caller: &Caller, text: &str) -> Result<Selector> {
        let found = self.container_find(caller, text).await?;
        Ok(Selector::Name(found.spec.name.to_string()))
    }

    /// The container or network that a selector means, by id: of a network also when it was removed.
    pub(super) async fn meant(&self, selector: &Selector) -> Result<Option<String>> {
        Ok(match selector {
            Selector::Network(id) => Some(id.to_string()),
            Selector::Name(name) => {
                let containers = self.0.containers.list_shared().await?;
                containers.iter().find(|c| is(c, name)).map(|c| c.spec.id.to_string())
            }
            _ => None,
        })
    }

    /// What is said of containers that have no network of their own: policy does not see them.
    pub(super) async fn out_of_reach(&self, selectors: &[&Selector]) -> Result<Vec<String>> {
        let containers = self.0.containers.list_shared().await?;
        let named = |name: &str| containers.iter().find(|c| is(c, name));
        let said = selectors.iter().filter_map(|selector| match selector {
            Selector::Name(name) if named(name)?.spec.network != NetworkMode::Attached => Some(format!(
                "{selector} is on no bridge network of its own (its network is the host's, another container's or none): the \
                 policy does not hold for it"
            )),
            _ => None,
        });
        Ok(said.collect())
    }

    /// Selectors of a network or a container that is not there.
    pub(super) async fn missing(&self, selectors: &[&Selector]) -> Result<Vec<String>> {
        let mut missing = Vec::new();
        for selector in selectors {
            let there = match selector {
                Selector::Network(id) => self.0.networks.get(id).await?.is_some(),
                Selector::Name(_) => self.meant(selector).await?.is_some(),
                _ => true,
            };
            if !there {
                missing.push(selector.to_string());
            }
        }
        Ok(missing)
    }
}

/// Refuses what no container will ever have: a name that none can get, and labels with control characters, which are slips of
/// the pen (a tab, a line end) and would spoil what is printed.
fn possible(selector: Selector) -> Result<Selector> {
    let control = |text: &str| text.chars().any(char::is_control);
    match &selector {
        Selector::Name(name) => {
            Name::new(name.as_str())
                .map_err(|error| CloudError::Invalid(format!("invalid selector: {error}")))?;
            if name.len() < 2 {
                let text = format!(
                    "invalid selector: no container is called {name}: names have two characters or more"
                );
                return Err(CloudError::Invalid(text));
            }
        }
        Selector::Label(key, value) if control(key) || value.as_deref().is_some_and(control) => {
            let text = selector.to_string();
            return Err(CloudError::Invalid(format!(
                "invalid selector {text:?}: a control character is in it"
            )));
        }
        _ => {}
    }
    Ok(selector)
}

fn is(container: &Container, name: &str) -> bool {
    container.spec.name.as_str() == name
}

#[cfg(test)]
mod tests {
    use super::{is_id, possible};

    #[test]
    fn what_can_never_match_is_refused() {
        for good in ["name=web", "name=/web", "label=tier", "label=a b=c d", "any"] {
            assert!(possible(good.parse().unwrap()).is_ok(), "{good}");
        }
        for bad in ["name=a b", "name=-x", "name=/", "name=a", "name=w\tb", "label=a\n", "label=a=\u{1b}[1m"]
        {
            let error = possible(bad.parse().unwrap()).unwrap_err().to_string();
            assert!(error.starts_with("invalid selector"), "{error}");
            assert!(!error.chars().any(char::is_control), "{error:?}");
        }
    }

    #[test]
    fn ids_are_known_by_their_length() {
        let id = "0123456789ab".repeat(5) + "cdef";
        assert!(is_id(&id) && is_id(&id[..12]));
        // Names that happen to be hex digits.
        assert!(!is_id("db") && !is_id("cafe") && !is_id(&id[..11]));
        assert!(!is_id("feedbackloop"));
    }
}
