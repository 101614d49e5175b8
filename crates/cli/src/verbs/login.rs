//! Logins to registries: where Docker's clients keep them, so that both find them.
//!
//! `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`; credential helpers (`credsStore`, `credHelpers`) are asked.

use std::{
    env, fs,
    io::{BufRead as _, IsTerminal as _, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context as _;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use clap::Args;
use serde_json::{Value, json};

use crate::{context::Context, failure::usage, output};

const HUB: &str = "https://index.docker.io/v1/";

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  cat token | weft login -u me --password-stdin registry.example:5000")]
pub struct LoginArgs {
    /// User
    #[arg(short = 'u', long)]
    username: Option<String>,
    /// Password; seen by everybody on this machine: prefer --password-stdin
    #[arg(short = 'p', long)]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long, conflicts_with = "password")]
    password_stdin: bool,
    /// The registry [default: Docker Hub]
    server: Option<String>,
}

#[derive(Args, Debug)]
pub struct LogoutArgs {
    /// The registry [default: Docker Hub]
    server: Option<String>,
}

/// `login`: the daemon tries the credentials, then they are kept.
pub async fn login(context: &Context, args: LoginArgs) -> anyhow::Result<()> {
    let server = args.server.as_deref().map_or(HUB.to_owned(), normal);
    let user = match args.username {
        Some(user) => user,
        None if args.password_stdin => return Err(usage("must provide --username with --password-stdin")),
        None => ask("Username: ", true)?,
    };
    let password = match args.password {
        Some(password) => password,
        None if args.password_stdin => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("reading the password")?;
            text.trim_end_matches(['\n', '\r']).to_owned()
        }
        None => ask("Password: ", false)?,
    };
    let body = json!({"username": user, "password": password, "serveraddress": server});
    let answer: Value = context.client.post("/auth").json(&body).fetch().await?;
    let token = answer["IdentityToken"].as_str().filter(|t| !t.is_empty());
    change(|auths| {
        let auth = STANDARD.encode(format!("{user}:{password}"));
        auths[&server] = match token {
            Some(token) => json!({"auth": STANDARD.encode(format!("{user}:")), "identitytoken": token}),
            None => json!({"auth": auth}),
        };
    })?;
    let status = answer["Status"].as_str().filter(|s| !s.is_empty()).unwrap_or("Login Succeeded");
    if context.json {
        output::json(&json!({"Status": status, "Server": server}))
    } else {
        output::line(status)
    }
}

/// `logout`.
pub fn logout(context: &Context, args: &LogoutArgs) -> anyhow::Result<()> {
    let server = args.server.as_deref().map_or(HUB.to_owned(), normal);
    change(|auths| {
        if let Some(auths) = auths.as_object_mut() {
            auths.remove(&server);
        }
    })?;
    if context.json {
        output::json(&json!({"Server": server}))
    } else {
        output::line(format!("Removed the login of {server}"))
    }
}

fn ask(prompt: &str, echo: bool) -> anyhow::Result<String> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(usage("cannot ask: standard input is no terminal; use --username and --password-stdin"));
    }
    std::io::stderr().write_all(prompt.as_bytes())?;
    let before = tcgetattr(&stdin)?;
    let mut silent = before.clone();
    silent.local_modes.set(LocalModes::ECHO, echo);
    tcsetattr(&stdin, OptionalActions::Now, &silent)?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    tcsetattr(&stdin, OptionalActions::Now, &before)?;
    if !echo {
        output::note("");
    }
    read.context("reading the answer")?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

fn normal(server: &str) -> String {
    let bare = server.trim_start_matches("https://").trim_start_matches("http://");
    let host = bare.split('/').next().unwrap_or(bare);
    if ["docker.io", "index.docker.io", "registry-1.docker.io"].contains(&host) {
        HUB.into()
    } else {
        host.to_owned()
    }
}

fn path() -> anyhow::Result<PathBuf> {
    let dir = env::var_os("DOCKER_CONFIG").filter(|d| !d.is_empty()).map(PathBuf::from);
    let dir = dir.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".docker")));
    Ok(dir
        .context("neither DOCKER_CONFIG nor HOME is set: there is no place for logins")?
        .join("config.json"))
}

fn read(path: &Path) -> anyhow::Result<Value> {
    match fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(json!({})),
        Err(e) => Err(e).with_context(|| format!("reading {}", path.display())),
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display())),
    }
}

/// Changes the logins in the file, which only its owner can read, and keeps all else in it.
fn change(edit: impl FnOnce(&mut Value)) -> anyhow::Result<()> {
    let path = path()?;
    let mut config = read(&path)?;
    if !config["auths"].is_object() {
        config["auths"] = json!({});
    }
    edit(&mut config["auths"]);
    let doing = || format!("writing {}", path.display());
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(doing)?;
    }
    let partial = path.with_extension(format!("json.{}", std::process::id()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)
        .with_context(doing)?;
    file.write_all(serde_json::to_string_pretty(&config)?.as_bytes()).with_context(doing)?;
    fs::rename(&partial, &path).with_context(doing)
}

/// `X-Registry-Auth` for the registry of `repository`, if there is a login for it.
pub fn header_for(repository: &str) -> anyhow::Result<Option<String>> {
    let server = server_of(repository);
    let Ok(path) = path() else { return Ok(None) };
    let config = read(&path)?;
    let login = match helper(&config, &server) {
        Some(helper) => ask_helper(&helper, &server)?,
        None => stored(&config, &server),
    };
    Ok(login.map(|login| URL_SAFE.encode(login.to_string())))
}

/// The registry is the first part of a name if it has a dot or a port, or is `localhost`; otherwise it is the Hub.
fn server_of(repository: &str) -> String {
    match repository.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => normal(host),
        _ => HUB.to_owned(),
    }
}

fn helper(config: &Value, server: &str) -> Option<String> {
    let own = config["credHelpers"][server].as_str();
    own.or(config["credsStore"].as_str()).filter(|h| !h.is_empty()).map(str::to_owned)
}

fn ask_helper(helper: &str, server: &str) -> anyhow::Result<Option<Value>> {
    let program = format!("docker-credential-{helper}");
    let doing = || format!("asking {program} for the login of {server}");
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .with_context(doing)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(server.as_bytes()).with_context(doing)?;
    }
    let answer = child.wait_with_output().with_context(doing)?;
    // A helper that has nothing says so and fails.
    let Ok(found) = serde_json::from_slice::<Value>(&answer.stdout) else { return Ok(None) };
    let (user, secret) = (found["Username"].as_str().unwrap_or(""), found["Secret"].as_str().unwrap_or(""));
    Ok(Some(if user == "<token>" {
        json!({"identitytoken": secret, "serveraddress": server})
    } else {
        json!({"username": user, "password": secret, "serveraddress": server})
    }))
}

fn stored(config: &Value, server: &str) -> Option<Value> {
    let auths = config["auths"].as_object()?;
    let entry =
        auths.get(server).or_else(|| auths.iter().find(|(key, _)| normal(key) == server).map(|(_, v)| v))?;
    let text = STANDARD.decode(entry["auth"].as_str()?).ok()?;
    let text = String::from_utf8(text).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(match entry["identitytoken"].as_str().filter(|t| !t.is_empty()) {
        Some(token) => json!({"identitytoken": token, "serveraddress": server}),
        None => {
            json!({"username": user, "password": password.trim_end_matches('\0'), "serveraddress": server})
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_of_names() {
        for (repository, server) in [
            ("alpine", HUB),
            ("team/app", HUB),
            ("docker.io/a/b", HUB),
            ("localhost/a", "localhost"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000"),
            ("r.example/a/b", "r.example"),
        ] {
            assert_eq!(server_of(repository), server, "{repository}");
        }
    }

    #[test]
    fn logins_are_found_whatever_they_are_kept_under() {
        let config = json!({"auths": {"https://r.example/v1/": {"auth": STANDARD.encode("u:p:w")}}});
        let login = stored(&config, "r.example").unwrap();
        assert_eq!((login["username"].as_str(), login["password"].as_str()), (Some("u"), Some("p:w")));
        assert!(stored(&config, "other").is_none());
        assert_eq!(helper(&json!({"credHelpers": {"a": "x"}, "credsStore": "y"}), "a").as_deref(), Some("x"));
        assert_eq!(helper(&json!({"credsStore": "y"}), "a").as_deref(), Some("y"));
    }
}
