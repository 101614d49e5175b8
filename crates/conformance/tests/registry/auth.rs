//! Tokens: for nobody, for somebody, for the wrong password, and tokens that end in the middle of a transfer.

use weft_testkit::{Registry, RegistrySetup};

use crate::bed::{Bed, newer};
use crate::proxy::{Proxy, Way};
use crate::token::{Life, TokenServer};

const HOST: &str = "127.0.0.1:5000";

/// A registry that believes a token server, with a proxy at port 5000.
fn guarded(bed: &Bed) -> (TokenServer, Registry, Proxy) {
    let tokens = TokenServer::start(&bed.sandbox, 5080);
    let setup = RegistrySetup { token: Some(tokens.auth()), ..RegistrySetup::open(5001) };
    let registry = Registry::start_with(&bed.sandbox, setup).unwrap();
    let proxy = Proxy::start(&bed.sandbox, 5000, &registry.host());
    (tokens, registry, proxy)
}

#[test]
fn who_may_what() {
    let bed = Bed::new();
    let (tokens, _registry, _proxy) = guarded(&bed);
    let (public, private) = (format!("{HOST}/public/a:1"), format!("{HOST}/private/a:1"));
    bed.load(&public, 0);
    bed.docker(["tag", &public, &private]).ok();
    bed.docker(["push", &public]).fails("denied: requested access to the resource is denied");

    bed.login(HOST, "weft", "wrong")
        .fails(&format!("Get \"http://{HOST}/v2/\": unauthorized: incorrect username or password"));
    bed.login(HOST, "weft", "secret").ok().has("Login Succeeded");
    tokens.asked();
    bed.docker(["push", &public]).ok();
    bed.docker(["push", &private]).ok();
    // The client keeps the refresh token of the login instead of the password, and it is what was used.
    let asked = tokens.asked();
    assert!(asked.iter().all(|a| a.method == "POST" && a.user.as_deref() == Some("weft")), "{asked:?}");
    let wanted = "repository:private/a:pull,push".to_owned();
    let push =
        asked.iter().find(|a| a.scopes.iter().any(|s| *s == wanted || s == "repository:private/a:push,pull"));
    assert!(push.is_some(), "{asked:?}");
    // A mount from the other repository needs the right to read it.
    let from =
        |a: &crate::token::Asked| a.scopes.len() > 1 && a.scopes.contains(&"repository:public/a:pull".into());
    assert!(asked.iter().any(from), "{asked:?}");
    bed.docker(["rmi", &public, &private]).ok();

    bed.docker(["logout", HOST]).ok();
    bed.docker(["pull", &public]).ok();
    assert!(tokens.asked().iter().all(|a| a.user.is_none()));
    bed.docker(["pull", &private]).fails(&format!(
        "pull access denied for {HOST}/private/a, repository does not exist or may require 'docker login': denied: \
         requested access to the resource is denied"
    ));

    bed.login(HOST, "reader", "read").ok();
    bed.docker(["pull", &private]).ok();
    bed.docker(["push", &private]).fails("denied: requested access to the resource is denied");
    let asked = tokens.asked();
    assert!(asked.iter().any(|a| a.method == "GET" && a.user.as_deref() == Some("reader")), "{asked:?}");
    bed.docker(["pull", &format!("{HOST}/public/a:nosuch")])
        .fails(&format!("manifest for {HOST}/public/a:nosuch not found: manifest unknown: manifest unknown"));
}

#[test]
fn a_password_that_became_wrong() {
    let bed = Bed::new();
    let (_tokens, _registry, _proxy) = guarded(&bed);
    bed.login(HOST, "weft", "secret").ok();
    bed.seed(&format!("{HOST}/private/a:1"), 0);
    // `weft:old`, as the client would have kept it.
    let config = format!(r#"{{"auths": {{"{HOST}": {{"auth": "d2VmdDpvbGQ="}}}}}}"#);
    std::fs::write(bed.sandbox.dir().join("client/config.json"), config).unwrap();
    bed.docker(["pull", &format!("{HOST}/private/a:1")]).fails(&format!(
        "\"http://{HOST}/v2/private/a/manifests/1\": unauthorized: incorrect username or password"
    ));
    bed.load(&format!("{HOST}/private/b:1"), 0);
    bed.docker(["push", &format!("{HOST}/private/b:1")])
        .fails("unauthorized: incorrect username or password");
}

/// A token's end in the middle: the rest is fetched with another one, whether the server told how long it lives or not.
fn ends_in_the_middle_of_a_pull(told: Option<i64>) {
    let bed = Bed::new();
    let (tokens, _registry, proxy) = guarded(&bed);
    let name = format!("{HOST}/private/a:1");
    bed.login(HOST, "weft", "secret").ok();
    let id = bed.seed(&name, 16 << 20);
    tokens.life(Life { seconds: 2, told });
    tokens.asked();
    // Half-way after about four seconds, and then no request without a new token can succeed.
    proxy.slow(2 << 20);
    proxy.cut(Way::Down, 9 << 20);
    bed.docker(["pull", &name]).ok();
    assert_eq!(proxy.uncut(), 0);
    assert_eq!(bed.docker(["inspect", "-f", "{{.Id}}", &name]).ok().text(), id);
    assert!(tokens.asked().len() >= 2, "one token did for all");
}

#[test]
fn a_pull_outlives_its_token() {
    if !newer("it asks for no second token when the first is refused") {
        ends_in_the_middle_of_a_pull(Some(300));
    }
}

#[test]
fn a_pull_outlives_its_token_as_told() {
    if !newer("it asks for no second token in a transfer") {
        ends_in_the_middle_of_a_pull(Some(2));
    }
}

#[test]
fn a_push_outlives_its_token() {
    if newer("it asks for no second token in a transfer") {
        return;
    }
    let bed = Bed::new();
    let (tokens, _registry, proxy) = guarded(&bed);
    let name = format!("{HOST}/private/a:1");
    bed.login(HOST, "weft", "secret").ok();
    bed.load(&name, 12 << 20);
    tokens.life(Life { seconds: 2, told: Some(2) });
    proxy.slow(3 << 20);
    bed.docker(["push", &name]).ok();
    assert!(tokens.asked().len() >= 2, "one token did for all");
    proxy.slow(0);
    tokens.life(Life { seconds: 300, told: Some(300) });
    bed.docker(["rmi", &name]).ok();
    bed.docker(["pull", &name]).ok();
}
