//! Which policy rule (`ip rule`) refuses a packet: the kernel's answer to a question for its way is an error number, the same for
//! rules, for routes and for addresses that cannot be. The rules are gone through as the kernel does (`fib_rules_lookup`).

use std::net::IpAddr;

use weft_sys::netlink::{
    route::{Entry, Leads},
    rules::{Action, Flow, Rule},
};

/// Rules and routes of one family in a namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routing {
    /// In their order.
    pub(crate) rules: Vec<Rule>,
    /// Of all tables.
    pub(crate) routes: Vec<Entry>,
}

impl Routing {
    /// The rule that refuses such packets with this error; `None` where a route has the last word, or something else.
    pub(crate) fn refuses(&self, flow: &Flow<'_>, errno: i32) -> Option<&Rule> {
        let mut from = 0;
        for rule in self.rules.iter().filter(|rule| rule.fits(flow)) {
            if rule.priority < from {
                continue;
            }
            match rule.action {
                Action::Goto(priority) => from = priority,
                Action::Nothing => {}
                Action::Table(table) => {
                    let found = self.best(table, flow.to);
                    let counts = |entry: &&Entry| {
                        entry.leads != Leads::Onward
                            && rule.suppress.is_none_or(|length| u32::from(entry.to.prefix_len()) > length)
                    };
                    if found.as_ref().is_some_and(counts) {
                        return None;
                    }
                }
                Action::Blackhole => return (errno == libc::EINVAL).then_some(rule),
                Action::Unreachable => return (errno == libc::ENETUNREACH).then_some(rule),
                Action::Prohibit => return (errno == libc::EACCES).then_some(rule),
            }
        }
        None
    }

    /// The longest prefix of a table.
    fn best(&self, table: u32, to: IpAddr) -> Option<&Entry> {
        let fitting = self.routes.iter().filter(|route| route.table == table && route.to.contains(&to));
        fitting.max_by_key(|route| route.to.prefix_len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(priority: u32, action: Action) -> Rule {
        Rule {
            priority,
            action,
            inverted: false,
            from: None,
            to: None,
            input: None,
            output: None,
            mark: None,
            protocol: None,
            sources: None,
            ports: None,
            tos: 0,
            suppress: None,
        }
    }

    fn check(rules: Vec<Rule>, routes: &[(u32, &str, Leads)], errno: i32, expected: Option<u32>) {
        let route = |(table, to, leads): &(u32, &str, Leads)| Entry {
            table: *table,
            to: to.parse().unwrap(),
            leads: *leads,
        };
        let routing = Routing { rules, routes: routes.iter().map(route).collect() };
        let (from, to) = (Some([10, 1, 0, 2].into()), [192, 0, 2, 9].into());
        let flow = Flow { from, to, input: Some("br0"), mark: 0, protocol: 6, ports: (None, Some(80)) };
        assert_eq!(routing.refuses(&flow, errno).map(|rule| rule.priority), expected, "{routing:?}");
    }

    #[test]
    fn rules_are_asked_in_their_order() {
        let (local, main) = (|| rule(0, Action::Table(255)), || rule(32_766, Action::Table(254)));
        let default = [(254, "0.0.0.0/0", Leads::Somewhere)];
        let barred = || vec![local(), rule(100, Action::Prohibit), main()];
        check(barred(), &default, libc::EACCES, Some(100));
        // The kernel said something else: it is not this.
        check(barred(), &default, libc::EINVAL, None);
        check(vec![local(), rule(9, Action::Blackhole), main()], &default, libc::EINVAL, Some(9));
        // A table before it knows a way, or refuses by itself.
        check(vec![main(), rule(40_000, Action::Unreachable)], &default, libc::ENETUNREACH, None);
        let nowhere = [(254, "192.0.2.0/24", Leads::Nowhere), default[0]];
        check(vec![main(), rule(40_000, Action::Prohibit)], &nowhere, libc::EACCES, None);
        // It knows none, or sends on to the next.
        check(vec![main(), rule(40_000, Action::Unreachable)], &[], libc::ENETUNREACH, Some(40_000));
        let onward = [(254, "192.0.2.0/24", Leads::Onward), default[0]];
        check(vec![main(), rule(40_000, Action::Prohibit)], &onward, libc::EACCES, Some(40_000));
        // A way that is too short to count (as WireGuard's rules have it).
        let short = Rule { suppress: Some(0), ..main() };
        check(vec![short, rule(40_000, Action::Prohibit)], &default, libc::EACCES, Some(40_000));
        // Passed over.
        check(
            vec![rule(1, Action::Goto(50)), rule(9, Action::Blackhole), main()],
            &default,
            libc::EINVAL,
            None,
        );
    }
}
