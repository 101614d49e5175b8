//! Legacy links: a container of the default bridge that another knows by an alias.

use crate::Container;

/// A link as it is written, `target[:alias]`; the target by its name, with or without a slash, or by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link<'a> {
    /// Name or beginning of an id.
    pub target: &'a str,
    /// What the container that has the link calls it.
    pub alias: &'a str,
}

impl<'a> Link<'a> {
    /// Reads it. An alias may stand behind the name of the container that has the link, as `docker inspect` shows it
    /// (`/db:/web/sql`).
    #[must_use]
    pub fn parse(written: &'a str) -> Self {
        let (target, alias) = written.split_once(':').unwrap_or((written, written));
        Self { target: target.trim_start_matches('/'), alias: alias.rsplit('/').next().unwrap_or(alias) }
    }

    /// Whether it leads to this container.
    #[must_use]
    pub fn means(&self, container: &Container) -> bool {
        let id = || container.spec.id.to_string();
        !self.target.is_empty()
            && (container.spec.name.as_str() == self.target || id().starts_with(self.target))
    }

    /// The same link to a target of another name.
    #[must_use]
    pub fn renamed(&self, target: &str) -> String {
        format!("{target}:{}", self.alias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_as_people_write_them() {
        for (written, target, alias) in
            [("db", "db", "db"), ("/db:sql", "db", "sql"), ("db:/web/sql", "db", "sql")]
        {
            assert_eq!(Link::parse(written), Link { target, alias });
        }
        assert_eq!(Link::parse("/db").renamed("pg"), "pg:db");
    }
}
