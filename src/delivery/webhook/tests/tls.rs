//! Certificates: of a private authority, of nobody, for somebody else, of yesterday.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// An authority of its own, its certificate in a file.
struct Authority {
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        std::fs::write(directory.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { directory, issuer: Issuer::new(params, key) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A server with a certificate for this name.
    fn server(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        TlsAcceptor::from(Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).unwrap()))
    }
}

/// What becomes of a message to this server, by the name `billing.example`.
async fn sent(server: TlsAcceptor, ca_file: Option<&Path>) -> (Sent, usize) {
    let receiver = Receiver::start_tls(vec![Reply::status(200, "taken")], server).await;
    let url = format!("https://billing.example:{}/?token=T0K3N", receiver.address.port());
    let options = Options { ca_file: ca_file.map(Path::to_owned), ..options(&url) };
    let webhook = Webhook::new(options, answers(&[&["127.0.0.1"]])).unwrap();
    let sent = webhook.send(&message(7, vec![row(1)])).await;
    (sent, receiver.requests().len())
}

fn assert_refused((sent, requests): (Sent, usize), why: &str) {
    let (failure, error) = failed(&sent);
    assert_eq!((failure, requests), (Failure::Unavailable, 0), "{error}");
    assert!(error.starts_with("TLS with billing.example:") && error.contains(why), "{error}");
    assert!(!error.contains("T0K3N"), "{error}");
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_by_its_file_alone() {
    let authority = Authority::new();
    let (accepted, requests) = sent(authority.server("billing.example", |_| {}), Some(&authority.file("ca.pem"))).await;
    assert_eq!((accepted.outcome, accepted.answer.as_str(), requests), (Outcome::Delivered, "taken", 1));

    let other = Authority::new();
    let refused = sent(authority.server("billing.example", |_| {}), Some(&other.file("ca.pem"))).await;
    assert_refused(refused, "invalid peer certificate");
    if rustls_native_certs::load_native_certs().certs.is_empty() {
        return println!("the system has no certificates: without a file there is no webhook");
    }
    let refused = sent(authority.server("billing.example", |_| {}), None).await;
    assert_refused(refused, "invalid peer certificate: UnknownIssuer");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_whatever_the_name_resolved_to() {
    let authority = Authority::new();
    for name in ["other.example", "127.0.0.1", "sub.billing.example"] {
        let refused = sent(authority.server(name, |_| {}), Some(&authority.file("ca.pem"))).await;
        assert_refused(refused, "certificate not valid for name \"billing.example\"");
    }
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_refused() {
    let authority = Authority::new();
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let refused = sent(authority.server("billing.example", expired), Some(&authority.file("ca.pem"))).await;
    assert_refused(refused, "certificate expired");
}

#[tokio::test]
async fn a_server_without_tls_is_refused() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream
    });
    let options = Options { ca_file: Some(authority.file("ca.pem")), ..options(&url) };
    let webhook = Webhook::new(options, answers(&[])).unwrap();
    let sent = webhook.send(&message(7, vec![row(1)])).await;
    let (failure, error) = failed(&sent);
    assert_eq!((failure, sent.status), (Failure::Unavailable, None));
    assert!(error.starts_with("TLS with 127.0.0.1:") && error.contains("corrupt message"), "{error}");
    server.abort();
}

#[test]
fn a_file_without_certificates_is_refused_at_setup() {
    let authority = Authority::new();
    for (name, content) in
        [("empty.pem", ""), ("key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")]
    {
        std::fs::write(authority.file(name), content).unwrap();
        let error = setup_error(authority.file(name));
        assert!(error.ends_with(&format!("{name}: holds no certificate (PEM, BEGIN CERTIFICATE)")), "{error}");
    }
    std::fs::write(authority.file("bad.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .unwrap();
    assert!(setup_error(authority.file("bad.pem")).contains("bad.pem: "));
    assert!(setup_error(authority.file("missing.pem")).contains("missing.pem: "));
}

fn setup_error(ca_file: PathBuf) -> String {
    let options = Options { ca_file: Some(ca_file), ..options("https://billing.example/") };
    Webhook::new(options, answers(&[])).unwrap_err().to_string()
}
