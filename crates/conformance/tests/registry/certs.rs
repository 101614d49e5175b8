//! Certificates by `openssl`: an authority, what it signs, and a key for tokens.

use std::path::{Path, PathBuf};
use std::process::Command;

fn openssl(args: &[&str]) {
    let output = Command::new("openssl").args(args).output().expect("the package openssl");
    assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A self-signed certificate and its RSA key: `(certificate, key)`.
pub fn signer(dir: &Path) -> (PathBuf, PathBuf) {
    let (certificate, key) = (dir.join("signer.pem"), dir.join("signer.key"));
    let mut args = vec!["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=signer"];
    args.extend(["-keyout", text(&key), "-out", text(&certificate)]);
    openssl(&args);
    (certificate, key)
}

/// A certificate authority.
pub struct Authority {
    dir: PathBuf,
    name: &'static str,
}

impl Authority {
    pub fn make(dir: &Path, name: &'static str) -> Self {
        let this = Self { dir: dir.to_owned(), name };
        let (certificate, key) = this.files(name);
        let subject = format!("/CN={name}");
        let mut args = vec!["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
        args.extend(["-nodes", "-days", "2", "-subj", &subject]);
        args.extend(["-keyout", text(&key), "-out", text(&certificate)]);
        openssl(&args);
        this
    }

    fn files(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.dir.join(format!("{name}.pem")), self.dir.join(format!("{name}.key")))
    }

    pub fn certificate(&self) -> PathBuf {
        self.files(self.name).0
    }

    /// A certificate for `names` (`DNS:a,IP:1.2.3.4`), signed by this authority: `(certificate, key)`.
    pub fn sign(&self, name: &str, names: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.files(name);
        let request = self.dir.join(format!("{name}.csr"));
        let extensions = self.dir.join(format!("{name}.ext"));
        std::fs::write(
            &extensions,
            format!("subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n"),
        )
        .unwrap();
        let subject = format!("/CN={name}");
        let mut args = vec!["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        args.extend(["-subj", &subject, "-keyout", text(&key), "-out", text(&request)]);
        openssl(&args);
        let (ca, ca_key) = self.files(self.name);
        let mut args = vec!["x509", "-req", "-days", "2", "-in", text(&request), "-out", text(&certificate)];
        args.extend([
            "-CA",
            text(&ca),
            "-CAkey",
            text(&ca_key),
            "-CAcreateserial",
            "-extfile",
            text(&extensions),
        ]);
        openssl(&args);
        (certificate, key)
    }
}
