use super::*;
use crate::delivery::testing::{alert, at, message, row, row_of, usage};
use crate::engine::UsageRow;
use receiver::{End, Receiver, Reply, answers, webhook};

mod lies;
mod receiver;
mod tls;

use crate::delivery::Outcome;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn options(url: &str) -> Options {
    let secrets = vec![Secret::parse(SECRET).unwrap()];
    Options { url: url.into(), secrets, allow_private_addresses: true, ca_file: None, max_rows: 1_000 }
}

/// The failure and its error.
fn failed(sent: &Sent) -> (Failure, &str) {
    match &sent.outcome {
        Outcome::Failed(failure, error) => (*failure, error),
        Outcome::Delivered => panic!("{sent:?} was delivered"),
    }
}

#[tokio::test]
async fn a_message_is_posted_with_its_body_and_a_signature() {
    let receiver = Receiver::start(vec![Reply::status(200, "taken")]).await;
    let message = message(7, vec![row(1), row(2)]);
    let sent = webhook(&receiver).send(&message).await;
    assert_eq!(sent, Sent { status: Some(200), answer: "taken".into(), ..Sent::delivered() });

    let [request] = &receiver.requests()[..] else { panic!("not one request") };
    assert_eq!(request.body, body::json(&message).unwrap());
    let signed = sign::sign("msg_00000abc_1_7", message.now, &request.body, &[Secret::parse(SECRET).unwrap()]);
    assert!(request.head.starts_with("POST /hooks?token=T0K3N HTTP/1.1\r\n"), "{}", request.head);
    for (name, value) in [
        ("host", receiver.address.to_string().as_str()),
        ("content-type", "application/json"),
        ("content-length", &request.body.len().to_string()),
        ("user-agent", concat!("meterd/", env!("CARGO_PKG_VERSION"))),
        ("webhook-id", "msg_00000abc_1_7"),
        ("webhook-timestamp", &signed.timestamp),
        ("webhook-signature", &signed.signature),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
}

#[tokio::test]
async fn another_attempt_has_the_same_id_and_body_and_a_time_of_its_own() {
    let receiver = Receiver::start(vec![Reply::status(500, ""), Reply::status(204, "")]).await;
    let webhook = webhook(&receiver);
    let first = message(7, vec![row(1)]);
    let second = Message { now: at("2026-10-01T02:05:02Z"), ..first.clone() };
    assert_eq!(failed(&webhook.send(&first).await).0, Failure::Unavailable);
    assert_eq!(webhook.send(&second).await.outcome, Outcome::Delivered);
    let [one, two] = &receiver.requests()[..] else { panic!("not two requests") };
    assert_eq!((&one.body, one.header("webhook-id")), (&two.body, two.header("webhook-id")));
    assert_ne!(one.header("webhook-timestamp"), two.header("webhook-timestamp"));
    assert_ne!(one.header("webhook-signature"), two.header("webhook-signature"));
}

#[tokio::test]
async fn messages_share_a_connection_and_a_new_one_follows_a_lost_one() {
    let replies = vec![Reply::status(200, "a"), Reply::status(500, "b"), Reply::status(200, "c").end(End::Close)];
    let receiver = Receiver::start(replies).await;
    let webhook = webhook(&receiver);
    for seq in 0..3 {
        assert!(webhook.send(&message(seq, vec![row(1)])).await.status.is_some());
    }
    assert_eq!((receiver.connections(), receiver.requests().len()), (1, 3));
    // Until the end of the connection has arrived.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(webhook.send(&message(3, vec![row(1)])).await.outcome, Outcome::Delivered);
    assert_eq!((receiver.connections(), receiver.requests().len()), (2, 4));
}

#[tokio::test]
async fn a_row_that_is_too_large_for_a_message_arrives_alone() {
    let receiver = Receiver::start(vec![Reply::status(413, ""), Reply::status(200, "")]).await;
    let webhook = webhook(&receiver);
    let message = message(7, vec![row_of(1, UsageRow { customer: "c".repeat(500_000), ..usage(1) })]);
    assert!(webhook.row_bytes(&message.rows[0]) > webhook.limits(RowKind::Windows).bytes);
    let sent = webhook.send(&message).await;
    assert_eq!(failed(&sent), (Failure::Never, "answered 413 Payload Too Large"));
    assert_eq!(webhook.send(&message).await.outcome, Outcome::Delivered);
    assert_eq!(receiver.requests()[1].body, body::json(&message).unwrap());
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Receiver::start(vec![Reply::status(200, "")]).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("http://{}/elsewhere", elsewhere.address);
        let head = format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        let receiver = Receiver::start(vec![Reply::bytes(head)]).await;
        let sent = webhook(&receiver).send(&message(7, vec![row(1)])).await;
        let error = format!("answered {status}, a redirect to 127.0.0.1: not followed");
        assert_eq!((failed(&sent), sent.status), ((Failure::Refused, error.as_str()), Some(status)));
        assert_eq!(receiver.requests().len(), 1);
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn retry_after_arrives_in_both_forms() {
    for (value, seconds) in [("120", 120), ("Thu, 01 Oct 2026 02:01:02 GMT", 60)] {
        let head = format!("HTTP/1.1 503 Busy\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n");
        let receiver = Receiver::start(vec![Reply::bytes(head)]).await;
        let sent = webhook(&receiver).send(&message(7, vec![row(1)])).await;
        let retry_after = Some(Duration::from_secs(seconds));
        assert_eq!(failed(&sent).0, Failure::SlowDown { retry_after }, "{value}");
    }
}

#[tokio::test]
async fn a_2xx_counts_whatever_becomes_of_its_body() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n";
    for (reply, answer) in [
        (Reply::bytes(format!("{head}slow")).end(End::Hang), "slow".to_owned()),
        (Reply::bytes(format!("{head}torn")).end(End::Close), "torn".to_owned()),
        (Reply::bytes(format!("{head}{}", "a".repeat(5_000_000))).end(End::Hang), "a".repeat(1_000)),
    ] {
        let receiver = Receiver::start(vec![reply]).await;
        let webhook = webhook(&receiver);
        let message = message(7, vec![row(1)]);
        let sent = tokio::time::timeout(Duration::from_secs(10), webhook.send(&message)).await.unwrap();
        assert_eq!(sent, Sent { status: Some(200), answer, ..Sent::delivered() });
    }
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_is_unavailable() {
    let big_head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(200_000));
    for (reply, told) in [
        (Reply::bytes("").end(End::Close), "no answer: "),
        (Reply::bytes("").end(End::Reset), "no answer: "),
        (Reply::bytes("HTTP/1.1 200 O").end(End::Close), "no answer: "),
        (Reply::bytes("SSH-2.0-OpenSSH_9.2\r\n").end(End::Close), "no answer: invalid HTTP version parsed"),
        (Reply::bytes(big_head).end(End::Hang), "no answer: message head is too large"),
    ] {
        let receiver = Receiver::start(vec![reply]).await;
        let sent = webhook(&receiver).send(&message(7, vec![row(1)])).await;
        let (failure, error) = failed(&sent);
        assert_eq!((failure, sent.status), (Failure::Unavailable, None));
        assert!(error.starts_with(told) && !error.contains("T0K3N"), "{error}");
    }
}

#[tokio::test]
async fn a_silent_receiver_costs_the_caller_its_time_out_and_nothing_more() {
    let receiver = Receiver::start(vec![Reply::bytes("").end(End::Hang), Reply::status(200, "")]).await;
    let webhook = webhook(&receiver);
    let message = message(7, vec![row(1)]);
    assert!(tokio::time::timeout(Duration::from_millis(200), webhook.send(&message)).await.is_err());
    assert_eq!(webhook.send(&message).await.outcome, Outcome::Delivered);
}

#[tokio::test]
async fn where_nobody_listens_is_told() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let webhook = Webhook::new(options(&format!("http://{address}/?token=T0K3N")), answers(&[])).unwrap();
    let sent = webhook.send(&message(7, vec![row(1)])).await;
    let error = format!("no connection to {address}: Connection refused (os error 111)");
    assert_eq!(failed(&sent), (Failure::Unavailable, error.as_str()));
}

#[tokio::test]
async fn neither_token_nor_secret_is_ever_shown() {
    let echo = format!("Cannot POST /hooks?token=T0K3N with {SECRET}").replace(SECRET, "a signature");
    let receiver = Receiver::start(vec![Reply::status(404, &echo)]).await;
    let webhook = webhook(&receiver);
    let sent = webhook.send(&message(7, vec![row(1)])).await;
    assert_eq!(sent.answer, "Cannot POST /hooks?token=… with a signature");
    let shown = format!("{sent:?} {webhook:?} {:?}", options("https://billing.example/?token=T0K3N"));
    assert!(!shown.contains("T0K3N") && !shown.contains(SECRET), "{shown}");
    assert!(shown.contains("billing.example:443"), "{shown}");
}

#[test]
fn a_webhook_that_cannot_work_is_refused_at_setup() {
    let refused = |options: Options| Webhook::new(options, answers(&[])).unwrap_err().to_string();
    let good = options("https://billing.example/");
    assert_eq!(refused(Options { secrets: vec![], ..good.clone() }), "a webhook has 1 to 8 secrets, this one has 0");
    let secrets = vec![good.secrets[0].clone(); 9];
    assert_eq!(refused(Options { secrets, ..good.clone() }), "a webhook has 1 to 8 secrets, this one has 9");
    let error = refused(options("https://user:hunter2@billing.example/"));
    assert_eq!(error, "the url holds a user name or a password: webhooks are signed, and take neither");
    let error = refused(options("https://-billing-/"));
    assert_eq!(error, "the url's host is no name that a certificate could be for");
}

#[test]
fn a_message_is_limited_by_rows_and_bytes() {
    let limited = |max_rows| {
        let options = Options { max_rows, ..options("http://billing.example/") };
        let webhook = Webhook::new(options, answers(&[])).unwrap();
        assert_eq!(webhook.limits(RowKind::Alerts).rows, 1, "an alert is a message of its own");
        assert_eq!(webhook.limits(RowKind::Adjustments), webhook.limits(RowKind::Windows));
        webhook.limits(RowKind::Windows)
    };
    assert_eq!(limited(100), Limits { rows: 100, bytes: body::ROWS_BYTES_MAX });
    assert_eq!((limited(0).rows, limited(usize::MAX).rows), (1, ROWS_MAX));
}

#[tokio::test]
async fn alerts_that_were_planned_together_for_another_kind_of_sink_are_never_posted() {
    let receiver = Receiver::start(vec![Reply::status(200, "")]).await;
    let webhook = webhook(&receiver);
    let sent = webhook.send(&message(7, vec![alert(1), alert(2)])).await;
    let error =
        "2 alerts were planned as one delivery before this sink was a webhook, and a webhook takes one a message";
    assert_eq!((failed(&sent), receiver.connections()), ((Failure::Never, error), 0));
    let one = message(8, vec![alert(1)]);
    assert_eq!(webhook.send(&one).await.outcome, Outcome::Delivered);
    assert_eq!(receiver.requests()[0].body, body::json(&one).unwrap());
}
