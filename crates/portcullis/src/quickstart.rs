//! `portcullis quickstart`: an example folder, a gateway that serves it, and what to try.
//!
//! The folder holds the guide's secure Gateway, a certificate made on the spot (its key readable by the owner alone), a
//! route with security headers, and a Service whose endpoint is the built-in echo backend.

use crate::cli::{self, Quickstart};
use crate::echo::Echo;
use crate::exit::Exit;
use crate::{output, run};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;

/// A file that marks a folder as one that quickstart may write into again.
const MARK: &str = ".portcullis-quickstart";

/// Writes the folder and serves it.
pub(crate) fn run(arguments: &Quickstart) -> Exit {
    if let Err(problem) = may_write(&arguments.folder) {
        return output::failure(&problem);
    }
    let echo = match Echo::bind(arguments.echo_port) {
        Ok(echo) => echo,
        Err(error) if !arguments.write_only => {
            return output::failure(&format!(
                "port {} of the echo backend cannot be bound: {error}; name another with --echo-port",
                arguments.echo_port
            ));
        }
        Err(_) => return write_only(arguments),
    };
    if arguments.write_only {
        drop(echo);
        return write_only(arguments);
    }
    let mut serving = arguments.serving.clone();
    if serving.addresses.is_empty() {
        // A demonstration is for this machine alone, unless asked otherwise.
        serving.addresses.push(Ipv4Addr::LOCALHOST.into());
    }
    for (port, option) in [(arguments.https_port, "--https-port"), (arguments.http_port, "--http-port")] {
        if let Err(error) = try_bind(&serving.addresses, port) {
            return output::failure(&format!("port {port} cannot be bound: {error}; name another with {option}"));
        }
    }
    if let Err(error) = write(arguments) {
        return output::failure(&format!("{}: {error}", arguments.folder.display()));
    }
    if let Err(error) = echo.start() {
        return output::failure(&format!("the echo backend cannot be started: {error}"));
    }
    output::problem(&instructions(arguments));
    serving.ports.push(format!("443={}", arguments.https_port));
    serving.ports.push(format!("80={}", arguments.http_port));
    let input = cli::Input { paths: vec![arguments.folder.clone()], strict: false };
    run::run(&cli::Run { input, namespace: "default".to_owned(), serving })
}

/// Whether the gateway will be able to listen there, as far as can be known before it does.
fn try_bind(addresses: &[IpAddr], port: u16) -> io::Result<()> {
    addresses.iter().try_for_each(|address| TcpListener::bind((*address, port)).map(drop))
}

fn write_only(arguments: &Quickstart) -> Exit {
    match write(arguments) {
        Ok(()) => {
            let folder = shell_word(&arguments.folder);
            let (https, http, echo) = (arguments.https_port, arguments.http_port, arguments.echo_port);
            output::problem(&format!(
                "Wrote {folder}. Serve it with:\n\n  portcullis run {folder} --port 443={https} --port 80={http}\n\n\
                 Its backend is expected on 127.0.0.1:{echo}; `portcullis quickstart {folder}` brings one along."
            ));
            Exit::Success
        }
        Err(error) => output::failure(&format!("{}: {error}", arguments.folder.display())),
    }
}

/// Only a folder that is new, empty or ours is written into.
fn may_write(folder: &Path) -> Result<(), String> {
    let shown = folder.display();
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("{shown}: {error}")),
        Ok(_) if folder.join(MARK).exists() => Ok(()),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(format!("{shown} holds files that quickstart did not write; name another folder")),
        },
    }
}

fn write(arguments: &Quickstart) -> io::Result<()> {
    let folder = &arguments.folder;
    fs::create_dir_all(folder)?;
    write_file(&folder.join(MARK), 0o644, "")?;
    let redirect = include_str!("quickstart/redirect.yaml").replace("8443", &arguments.https_port.to_string());
    let app = include_str!("quickstart/app.yaml").replace("8081", &arguments.echo_port.to_string());
    // What is there stays: it may have been edited, and a browser or a script may trust the certificate already.
    for (name, text) in [
        ("gateway.yaml", include_str!("quickstart/gateway.yaml")),
        ("redirect.yaml", redirect.as_str()),
        ("app.yaml", app.as_str()),
    ] {
        if !folder.join(name).exists() {
            write_file(&folder.join(name), 0o644, text)?;
        }
    }
    if !folder.join("certificate.yaml").exists() || !folder.join("ca.crt").exists() {
        let made = certificate().map_err(io::Error::other)?;
        write_file(&folder.join("ca.crt"), 0o644, &made.authority)?;
        write_file(&folder.join("certificate.yaml"), 0o600, &made.secret)?;
    }
    Ok(())
}

fn write_file(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    // Written aside and renamed, so that a running gateway never reads half a file; a mode counts only for a new file.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.new"));
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&aside)?;
    file.write_all(text.as_bytes())?;
    drop(file);
    fs::rename(&aside, path)
}

struct Made {
    /// The certificate authority, PEM.
    authority: String,
    /// The Secret with certificate and key, YAML.
    secret: String,
}

/// Makes an authority, lets it sign one certificate, and forgets its key.
fn certificate() -> Result<Made, rcgen::Error> {
    let (not_before, not_after) = validity();
    let mut authority = CertificateParams::default();
    (authority.not_before, authority.not_after) = (not_before, not_after);
    authority.distinguished_name.push(DnType::CommonName, "Portcullis quickstart CA");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_key = KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);

    let mut leaf = CertificateParams::new(vec!["*.example.com".to_owned()])?;
    (leaf.not_before, leaf.not_after) = (not_before, not_after);
    leaf.distinguished_name.push(DnType::CommonName, "*.example.com");
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &issuer)?;

    let indent = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: example-com-cert\n  namespace: infra\ntype: kubernetes.io/tls\n\
         stringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
        indent(&certificate.pem()),
        indent(&key.serialize_pem())
    );
    Ok(Made { authority: authority_certificate.pem(), secret })
}

/// From yesterday, for the clocks of others, and for a year: clients refuse certificates that are valid for much longer.
fn validity() -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::from(SystemTime::now());
    (now - Duration::from_secs(24 * 3600), now + Duration::from_secs(365 * 24 * 3600))
}

fn instructions(arguments: &Quickstart) -> String {
    let folder = arguments.folder.display();
    let authority = shell_word(&arguments.folder.join("ca.crt"));
    let (https, http) = (arguments.https_port, arguments.http_port);
    format!(
        "Serving the Gateway API objects of {folder}/. Try, in another terminal:

  curl --cacert {authority} --resolve app.example.com:{https}:127.0.0.1 -i https://app.example.com:{https}/api/hello
  curl --resolve app.example.com:{http}:127.0.0.1 -i http://app.example.com:{http}/api/hello

The first answers from the built-in echo backend, with the security headers of app.yaml; the second redirects to HTTPS.
Edit the files in {folder}/ and try again: changes take effect at once. Ctrl-C ends it.
"
    )
}

/// A path as a shell takes it for one word.
fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "/._-".contains(character);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}
