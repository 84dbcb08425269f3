//! Sends a batch until it is answered: exponential back-off with jitter, `Retry-After`, and a time to give up.
//!
//! 1. Repeated: no connection, a lost one, a time-out, and the statuses 408, 429, 500, 502, 503, 504 and 507. After
//!    each of them the batch may or may not have counted; its ids make the repetition harmless.
//! 2. Never repeated: every other status. The daemon has said what it thinks of this body.
//! 3. A wait is never shorter than `Retry-After` says, and giving up comes at once when that lies past the deadline.

use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;

use crate::cli::client::{Client, ClientError, Reply};

/// How long to try.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The first wait, before jitter; each following one is twice as long.
    pub wait_first: Duration,
    /// The longest wait, before jitter.
    pub wait_max: Duration,
    /// From the first attempt.
    pub give_up_after: Duration,
}

impl Policy {
    pub fn until(give_up_after: Duration) -> Self {
        Self { wait_first: Duration::from_millis(50), wait_max: Duration::from_secs(5), give_up_after }
    }
}

/// An attempt that is worth repeating.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Unanswered(ClientError),
    #[error("{status}: {detail}")]
    Refused { status: u16, retry_after: Option<Duration>, detail: String },
}

/// An answer that settles the batch.
#[derive(Debug)]
pub struct Answered {
    pub reply: Reply,
    /// 1 if the first attempt was answered.
    pub attempts: u32,
}

#[derive(Debug, thiserror::Error)]
#[error("gave up after {attempts} attempts in {:.1} s: {last}", .elapsed.as_secs_f64())]
pub struct GaveUp {
    pub attempts: u32,
    pub elapsed: Duration,
    pub last: Failure,
}

/// The waits between attempts. Pure: the caller owns the randomness and does the waiting.
pub struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    pub fn new(policy: &Policy) -> Self {
        Self { next: policy.wait_first, max: policy.wait_max }
    }

    /// Between half of the current step and all of it, so that many senders do not come back together.
    pub fn wait(&mut self, rng: &mut Rng) -> Duration {
        let step = self.next.min(self.max);
        self.next = step.saturating_mul(2).min(self.max);
        let micros = u64::try_from(step.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(micros / 2 + rng.u64(0..=micros / 2))
    }
}

/// Whether a status says "try again".
pub fn is_retryable(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504 | 507)
}

/// POSTs `body` until a status that settles it, or until the policy's time is over. `failed` sees each failed attempt.
pub fn post(
    client: &mut Client,
    path: &str,
    content_type: &'static str,
    body: &Bytes,
    policy: &Policy,
    rng: &mut Rng,
    failed: &mut dyn FnMut(&Failure),
) -> Result<Answered, GaveUp> {
    let started = Instant::now();
    let mut backoff = Backoff::new(policy);
    let mut attempts = 0;
    loop {
        attempts += 1;
        let failure = match client.post(path, content_type, body.clone()) {
            Ok(reply) if !is_retryable(reply.status) => return Ok(Answered { reply, attempts }),
            Ok(reply) => {
                Failure::Refused { status: reply.status, retry_after: reply.retry_after, detail: reply.problem() }
            }
            Err(error) => Failure::Unanswered(error),
        };
        failed(&failure);
        let asked = match &failure {
            Failure::Refused { retry_after, .. } => retry_after.unwrap_or_default(),
            Failure::Unanswered(_) => Duration::ZERO,
        };
        let wait = backoff.wait(rng).max(asked);
        let elapsed = started.elapsed();
        if elapsed + wait > policy.give_up_after {
            return Err(GaveUp { attempts, elapsed, last: failure });
        }
        std::thread::sleep(wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_keep_at_least_half() {
        let policy = Policy {
            wait_first: Duration::from_millis(100),
            wait_max: Duration::from_millis(450),
            give_up_after: Duration::ZERO,
        };
        for seed in 0..100 {
            let mut rng = Rng::with_seed(seed);
            let mut backoff = Backoff::new(&policy);
            for step in [100, 200, 400, 450, 450] {
                let wait = backoff.wait(&mut rng);
                assert!(wait >= Duration::from_millis(step / 2) && wait <= Duration::from_millis(step), "seed {seed}");
            }
        }
    }

    #[test]
    fn the_statuses_of_a_busy_full_or_restarting_daemon_are_retried_and_verdicts_are_not() {
        assert!([408, 429, 500, 502, 503, 504, 507].into_iter().all(is_retryable));
        assert!(![200, 207, 400, 401, 403, 404, 413, 415, 422].into_iter().any(is_retryable));
    }

    #[test]
    fn gives_up_when_nobody_listens() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let target = crate::cli::client::Target::parse(&format!("127.0.0.1:{port}")).unwrap();
        let mut client = Client::new(&target, Duration::from_secs(1)).unwrap();
        let policy = Policy::until(Duration::from_millis(200));
        let mut failures = 0;
        let body = Bytes::from_static(b"[]");
        let mut rng = Rng::with_seed(1);
        let gave_up = post(&mut client, "/", "a/b", &body, &policy, &mut rng, &mut |_| failures += 1).unwrap_err();
        assert_eq!(gave_up.attempts, failures);
        assert!(failures >= 2 && matches!(gave_up.last, Failure::Unanswered(ClientError::Connect { .. })));
    }
}
