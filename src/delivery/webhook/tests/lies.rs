//! A resolver that lies reaches nothing: connections are counted where they would arrive, and where they are opened.

use std::net::SocketAddr;

use parking_lot::Mutex;

use super::*;

/// Opens no connection, and remembers which ones it should have.
fn recorder() -> (Dial, Arc<Mutex<Vec<SocketAddr>>>) {
    let dialled = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&dialled);
    let dial: Dial = Arc::new(move |address| {
        shared.lock().push(address);
        Box::pin(std::future::ready(Err(std::io::ErrorKind::ConnectionRefused.into())))
    });
    (dial, dialled)
}

fn public_only(url: &str) -> Options {
    Options { allow_private_addresses: false, ..options(url) }
}

async fn sent_to(webhook: &Webhook) -> String {
    let sent = webhook.send(&message(7, vec![row(1)])).await;
    let (failure, error) = failed(&sent);
    assert_eq!(failure, Failure::Unavailable);
    error.to_owned()
}

#[tokio::test]
async fn no_answer_of_a_resolver_leads_to_a_private_address() {
    let trap = Receiver::start(vec![Reply::status(200, "")]).await;
    let url = format!("http://billing.example:{}/", trap.address.port());
    for lie in [
        &["127.0.0.1"][..],
        &["::ffff:127.0.0.1"],
        &["64:ff9b::7f00:1"],
        &["::127.0.0.1"],
        &["2002:7f00:1::"],
        &["0.0.0.0"],
        &["::"],
        &["::1"],
        &["10.0.0.1", "127.0.0.1", "169.254.169.254", "fd00:ec2::254"],
    ] {
        let webhook = Webhook::new(public_only(&url), answers(&[lie])).unwrap();
        let expected = format!("refused: {} is not a public address (allow_private_addresses)", lie[0]);
        let canonical: std::net::IpAddr = lie[0].parse().unwrap();
        assert_eq!(sent_to(&webhook).await, expected.replace(lie[0], &canonical.to_string()));
    }
    assert_eq!(trap.connections(), 0);
}

#[tokio::test]
async fn no_way_to_write_a_host_leads_to_a_private_address() {
    let trap = Receiver::start(vec![Reply::status(200, "")]).await;
    let hosts = ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "0"];
    for host in hosts.into_iter().chain(["[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]"])
    {
        let url = format!("http://{host}:{}/", trap.address.port());
        let webhook = Webhook::new(public_only(&url), Arc::new(SystemResolver)).unwrap();
        let error = sent_to(&webhook).await;
        assert!(error.starts_with("refused: ") && error.ends_with("(allow_private_addresses)"), "{host}: {error}");
    }
    assert_eq!(trap.connections(), 0);
    // The trap does catch: where private addresses are allowed the same hosts reach it.
    for (number, host) in hosts.into_iter().enumerate() {
        let url = format!("http://{host}:{}/", trap.address.port());
        let webhook = Webhook::new(options(&url), Arc::new(SystemResolver)).unwrap();
        assert_eq!(webhook.send(&message(7, vec![row(1)])).await.outcome, Outcome::Delivered, "{host}");
        assert_eq!(trap.connections(), number + 1, "{host}");
    }
}

#[tokio::test]
async fn of_mixed_answers_only_the_public_ones_are_connected_to() {
    let (dial, dialled) = recorder();
    let mixed = ["10.0.0.1", "1.1.1.1", "::ffff:127.0.0.1", "127.0.0.1", "2606:4700::1111", "64:ff9b::a00:1", "::1"];
    let webhook = Webhook::with_dial(public_only("http://billing.example/"), answers(&[&mixed]), dial).unwrap();
    assert_eq!(sent_to(&webhook).await, "no connection to [2606:4700::1111]:80: connection refused");
    assert_eq!(*dialled.lock(), ["1.1.1.1:80".parse().unwrap(), "[2606:4700::1111]:80".parse().unwrap()]);
}

#[tokio::test]
async fn a_name_that_is_rebound_is_vetted_again_and_resolved_once_per_connection() {
    let trap = Receiver::start(vec![Reply::status(200, "")]).await;
    let port = trap.address.port();
    let (dial, dialled) = recorder();
    let resolver = answers(&[&["1.1.1.1"], &["127.0.0.1"]]);
    let url = format!("http://billing.example:{port}/");
    let webhook = Webhook::with_dial(public_only(&url), resolver.clone(), dial).unwrap();
    assert_eq!(sent_to(&webhook).await, format!("no connection to 1.1.1.1:{port}: connection refused"));
    assert_eq!(resolver.asked(), 1, "the vetted address is the one connected to");
    for attempt in 2..5 {
        let error = sent_to(&webhook).await;
        assert_eq!(error, "refused: 127.0.0.1 is not a public address (allow_private_addresses)");
        assert_eq!(resolver.asked(), attempt);
    }
    assert_eq!(*dialled.lock(), [SocketAddr::new("1.1.1.1".parse().unwrap(), port)]);
    assert_eq!(trap.connections(), 0);
}

#[tokio::test]
async fn an_endless_answer_is_tried_up_to_a_limit() {
    let (dial, dialled) = recorder();
    let resolver = answers(&[&["1.1.1.1"; 1_000]]);
    let webhook = Webhook::with_dial(public_only("http://billing.example/"), resolver, dial).unwrap();
    sent_to(&webhook).await;
    assert_eq!(dialled.lock().len(), 16);
}

#[tokio::test]
async fn a_name_without_an_address_is_told() {
    let nowhere = |resolver| Webhook::new(public_only("http://billing.example/?token=T0K3N"), resolver).unwrap();
    let error = sent_to(&nowhere(answers(&[]))).await;
    assert_eq!(error, "billing.example cannot be resolved: Name or service not known");
    assert_eq!(sent_to(&nowhere(answers(&[&[]]))).await, "billing.example has no address");
}

#[tokio::test]
async fn an_address_that_is_dead_or_silent_gives_way_to_the_next() {
    let receiver = Receiver::start(vec![Reply::status(200, "")]).await;
    let url = format!("http://billing.example:{}/", receiver.address.port());
    let real = connect::tcp();
    let silent: SocketAddr = SocketAddr::new("127.0.0.3".parse().unwrap(), receiver.address.port());
    let dial: Dial =
        Arc::new(move |address| if address == silent { Box::pin(std::future::pending()) } else { real(address) });
    let resolver = answers(&[&["127.0.0.2", "127.0.0.3", "127.0.0.1"]]);
    let webhook = Webhook::with_dial(options(&url), resolver, dial).unwrap();
    assert_eq!(webhook.send(&message(7, vec![row(1)])).await.outcome, Outcome::Delivered);
}
