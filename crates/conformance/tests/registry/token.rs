//! A token server as `docs/spec/auth/token.md` of distribution describes one: checks who asks and for which scope, and
//! signs JSON web tokens (RS256, by `openssl`) which the real registry verifies against the certificate.
//!
//! The registry forgives clocks a minute: a token that ends `life` seconds from now is written to end a minute earlier.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use weft_testkit::{Sandbox, TokenAuth};

use crate::certs;
use crate::http::{Reply, Request, listen, serve};

/// The registry's forgiveness (distribution `registry/auth/token`, `Leeway`).
const LEEWAY: i64 = 60;

/// How long tokens live, and what is said about it.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    pub seconds: i64,
    pub told: Option<i64>,
}

struct State {
    key: PathBuf,
    certificate: String,
    life: Mutex<Life>,
    asked: Mutex<Vec<Asked>>,
}

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET`, or `POST` with a refresh token.
    pub method: String,
    pub user: Option<String>,
    pub scopes: Vec<String>,
}

/// See the module. `weft:secret` may all, `reader:read` may pull, nobody may pull what is below `public/`.
pub struct TokenServer {
    state: Arc<State>,
    auth: TokenAuth,
}

/// The refresh token that a login as `weft` gets.
const REFRESH: &str = "refresh-of-weft";

impl TokenServer {
    pub fn start(sandbox: &Sandbox, port: u16) -> Self {
        let (certificate, key) = certs::signer(sandbox.dir());
        let text = std::fs::read_to_string(&certificate).unwrap();
        let base64: String = text.lines().filter(|l| !l.starts_with('-')).collect();
        let life = Mutex::new(Life { seconds: 300, told: Some(300) });
        let state = Arc::new(State { key, certificate: base64, life, asked: Mutex::default() });
        let shared = Arc::clone(&state);
        let address = format!("127.0.0.1:{port}");
        serve(listen(sandbox, &address), move |request| answer(&shared, request));
        let auth = TokenAuth {
            realm: format!("http://{address}/token"),
            service: "weft-test".into(),
            issuer: "weft-issuer".into(),
            bundle: certificate,
        };
        Self { state, auth }
    }

    pub fn auth(&self) -> TokenAuth {
        self.auth.clone()
    }

    pub fn life(&self, life: Life) {
        *self.state.life.lock().unwrap() = life;
    }

    /// What was asked since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.state.asked.lock().unwrap())
    }
}

fn answer(state: &State, request: &Request) -> Reply {
    let refused = || Reply::json(401, &json!({"details": "incorrect username or password"}));
    let user = match (request.method.as_str(), request.header("authorization")) {
        ("POST", _) if request.one("refresh_token").as_deref() == Some(REFRESH) => Some("weft".to_owned()),
        ("POST", _) => return refused(),
        (_, Some(basic)) => match account(basic) {
            Some(user) => Some(user),
            None => return refused(),
        },
        _ => None,
    };
    if request.one("service").as_deref() != Some("weft-test") {
        return Reply::json(400, &json!({"details": "unknown service"}));
    }
    // One parameter with spaces, or several parameters.
    let joined = request.all("scope").join(" ");
    let scopes: Vec<String> = joined.split_whitespace().map(str::to_owned).collect();
    let asked = Asked { method: request.method.clone(), user: user.clone(), scopes: scopes.clone() };
    state.asked.lock().unwrap().push(asked);
    let access: Vec<Value> = scopes.iter().filter_map(|s| grant(user.as_deref(), s)).collect();
    let life = *state.life.lock().unwrap();
    let mut reply = json!({"token": token(state, user.as_deref().unwrap_or(""), &access, life.seconds)});
    if request.method == "POST" {
        reply = json!({"access_token": reply["token"]});
    }
    if let Some(told) = life.told {
        reply["expires_in"] = told.into();
    }
    if request.one("offline_token").as_deref() == Some("true") && user.as_deref() == Some("weft") {
        reply["refresh_token"] = REFRESH.into();
    }
    Reply::json(200, &reply)
}

fn account(basic: &str) -> Option<String> {
    let text = String::from_utf8(STANDARD.decode(basic.strip_prefix("Basic ")?).ok()?).ok()?;
    matches!(text.as_str(), "weft:secret" | "reader:read").then(|| text.split(':').next().unwrap().to_owned())
}

/// What of `repository:NAME:ACTIONS` is given.
fn grant(user: Option<&str>, scope: &str) -> Option<Value> {
    let parts: Vec<&str> = scope.split(':').collect();
    let [kind, name, actions] = parts[..] else { return None };
    let may = |action: &&str| match user {
        Some("weft") => true,
        Some(_) => *action == "pull",
        None => *action == "pull" && name.starts_with("public/"),
    };
    let actions: Vec<&str> = actions.split(',').filter(may).collect();
    (!actions.is_empty()).then(|| json!({"type": kind, "name": name, "actions": actions}))
}

fn token(state: &State, user: &str, access: &[Value], life: i64) -> String {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [state.certificate]});
    let claims = json!({
        "iss": "weft-issuer", "sub": user, "aud": "weft-test", "exp": now + life - LEEWAY, "nbf": now - 120,
        "iat": now - 120, "jti": format!("{now}-{life}"), "access": access,
    });
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", encode(&header), encode(&claims));
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(sign(&state.key, text.as_bytes())))
}

fn sign(key: &Path, text: &[u8]) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(["dgst", "-sha256", "-sign"]).arg(key).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}
