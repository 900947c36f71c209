//! Sending one mail: to a mail server with TLS and login, or to a program that takes it as sendmail does.
//!
//! Does not know what the mail is about.

use base::config::{MailConfig, SmtpConfig, Tls as Privacy};
use base::{At, Error, Result, process, untrusted};
use lettre::message::{Mailbox, MessageBuilder, MultiPart, header};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, Message, SmtpTransport, Transport};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// How long a mail server may take for each of its answers, and a program for everything.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long one mail may take.
const ALTOGETHER: Duration = Duration::from_secs(60);

/// The longest password file, and the longest file of certificates.
const PASSWORD: usize = 4096;
const CERTIFICATES: usize = 1 << 20;

/// Checks what can be checked without sending: addresses, the password file with its mode, certificates, the program.
///
/// # Errors
/// Of kind usage, with the file or the field.
pub fn check(mail: &MailConfig) -> Result<()> {
    message(mail, "x", "x", "x", None)?;
    match &mail.smtp {
        Some(smtp) => server(smtp, "x").map(drop),
        None => {
            let program = sendmail(mail);
            let meta = std::fs::metadata(&program).at("find", &program)?;
            if meta.is_file() && meta.permissions().mode() & 0o111 != 0 {
                return Ok(());
            }
            Err(Error::usage(format!("{} is no program", program.display())).hint("Install a mail program, or set smtp in [mail]."))
        }
    }
}

/// Sends a mail that says that mails arrive.
///
/// # Errors
/// When it cannot be sent.
pub fn send_test(mail: &MailConfig, here: &str) -> Result<()> {
    let text = format!(
        "This is a test. Mails of nightsafe on {here} arrive; they come when something fails for good, and when it is well again.\n"
    );
    send(mail, here, &format!("[nightsafe {here}] a test"), &text)
}

/// Sends one mail to everybody in `to`.
pub(crate) fn send(mail: &MailConfig, here: &str, subject: &str, text: &str) -> Result<()> {
    send_parts(mail, here, subject, text, None)
}

/// As [`send`], with the same as HTML beside it.
pub(crate) fn send_parts(mail: &MailConfig, here: &str, subject: &str, text: &str, html: Option<&str>) -> Result<()> {
    let message = message(mail, here, subject, text, html)?;
    let (done, wait) = mpsc::channel();
    let mail = mail.clone();
    // A server that trickles and a program whose children keep its output open have no end of their own.
    std::thread::spawn(move || done.send(deliver(&mail, &message)));
    wait.recv_timeout(ALTOGETHER)
        .unwrap_or_else(|_| Err(Error::not_now(format!("sending took longer than {} s and was given up", ALTOGETHER.as_secs()))))
}

fn deliver(mail: &MailConfig, message: &Message) -> Result<()> {
    let Some(smtp) = &mail.smtp else { return hand_over(mail, message) };
    let failed = |error| Error::failed(format!("the mail server {} did not take it", smtp.host)).because(error);
    server(smtp, &machine())?.send(message).map(drop).map_err(failed)
}

fn message(mail: &MailConfig, here: &str, subject: &str, text: &str, html: Option<&str>) -> Result<Message> {
    let address = |text: &str| {
        text.parse::<Address>().map_err(|error| Error::usage(format!("[mail] has {text:?}, which is no mail address")).because(error))
    };
    let from = address(&sender(mail))?;
    let mut builder: MessageBuilder =
        Message::builder().from(Mailbox::new(Some("nightsafe".into()), from)).subject(subject).message_id(None).header(AutoSubmitted);
    for to in &mail.to {
        builder = builder.to(Mailbox::new(None, address(to)?));
    }
    let built = match html {
        Some(html) => builder.multipart(MultiPart::alternative_plain_html(text.to_owned(), html.to_owned())),
        None => builder.header(header::ContentType::TEXT_PLAIN).body(text.to_owned()),
    };
    built.map_err(|error| Error::failed(format!("could not put a mail of {here} together")).because(error))
}

/// Keeps programs that answer mails from answering this one.
#[derive(Debug, Clone)]
struct AutoSubmitted;

impl header::Header for AutoSubmitted {
    fn name() -> header::HeaderName {
        header::HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> std::result::Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> header::HeaderValue {
        header::HeaderValue::new(Self::name(), "auto-generated".into())
    }
}

fn sender(mail: &MailConfig) -> String {
    mail.from.clone().unwrap_or_else(|| format!("nightsafe@{}", machine()))
}

/// This machine's name, as far as it is one that may stand in a mail.
fn machine() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    if plain { name } else { "localhost".into() }
}

fn server(smtp: &SmtpConfig, here: &str) -> Result<SmtpTransport> {
    let mut builder = SmtpTransport::builder_dangerous(smtp.host.as_str()).port(smtp.port()).timeout(Some(PATIENCE));
    builder = builder.hello_name(ClientId::Domain(here.to_owned()));
    builder = match smtp.tls {
        Privacy::None => builder,
        Privacy::Starttls => builder.tls(Tls::Required(tls(smtp)?)),
        Privacy::Tls => builder.tls(Tls::Wrapper(tls(smtp)?)),
    };
    if let (Some(user), Some(file)) = (&smtp.user, &smtp.password_file) {
        builder = builder.credentials(Credentials::new(user.clone(), password(file)?));
    }
    Ok(builder.build())
}

fn tls(smtp: &SmtpConfig) -> Result<TlsParameters> {
    let mut builder = TlsParameters::builder(smtp.host.clone());
    if let Some(ca) = &smtp.ca {
        let file = std::fs::File::open(ca).at("open the certificates", ca)?;
        let bytes = untrusted::read_bounded(file, CERTIFICATES).at("read", ca)?;
        let certificate = Certificate::from_pem(&bytes)
            .map_err(|error| Error::usage(format!("{} holds no certificate in PEM form", ca.display())).because(error))?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
    }
    builder.build().map_err(|error| Error::usage(format!("TLS with {} cannot be used", smtp.host)).because(error))
}

/// The one line of a file that nobody else may read.
fn password(path: &Path) -> Result<String> {
    let file = untrusted::open(path)?;
    let meta = file.metadata().at("stat", path)?;
    let owner = meta.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(Error::usage(format!("{} belongs to another account (uid {owner})", path.display()))
            .hint("Give it to the account that sends, with chown."));
    }
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::usage(format!("{} can be read by others (mode {mode:03o})", path.display()))
            .hint(format!("Run: chmod 600 {}", path.display())));
    }
    let bytes = untrusted::read_bounded(file, PASSWORD).at("read", path)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::usage(format!("{} is not UTF-8", path.display())))?;
    let line = text.trim_end_matches(['\r', '\n']);
    if line.is_empty() || line.contains(['\r', '\n', '\0']) {
        return Err(Error::usage(format!("{} must hold a password in one line and nothing else", path.display())));
    }
    Ok(line.to_owned())
}

fn sendmail(mail: &MailConfig) -> PathBuf {
    mail.sendmail.clone().unwrap_or_else(|| "/usr/sbin/sendmail".into())
}

/// Gives the mail to the program. It takes lines that end as this system's do, and no dot for the end.
fn hand_over(mail: &MailConfig, message: &Message) -> Result<()> {
    let mut command = process::command(sendmail(mail));
    command.args(["-i", "-f", &sender(mail), "--"]).args(&mail.to);
    let (reader, mut writer) = std::io::pipe().at("make", "a pipe")?;
    command.stdin(reader);
    let bytes = String::from_utf8_lossy(&message.formatted()).replace("\r\n", "\n");
    // A program that does not read must not stall us; it ends by its own time.
    std::thread::spawn(move || writer.write_all(bytes.as_bytes()));
    process::run_ok(command, 64 << 10, PATIENCE).map(drop)
}
