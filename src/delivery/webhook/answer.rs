//! What a receiver's answer comes to.
//!
//! | status | means |
//! | --- | --- |
//! | 2xx | delivered |
//! | 410 | gone: it wants nothing any more |
//! | 413 | never: it will not take this message |
//! | 429, 502, 503, 504 | slow down, for as long as `Retry-After` says |
//! | 408, other 5xx | unavailable |
//! | 3xx, all others | refused; a redirect is not followed: it could lead anywhere |
//!
//! 1. The status decides: a 2xx whose body is slow, endless or torn is delivered all the same.
//! 2. Of a body no more is read than is kept, and not for longer than [`BODY_TIME`].

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::header::{HeaderMap, LOCATION, RETRY_AFTER};
use hyper::{Response, StatusCode, Uri};
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

use crate::delivery::transport::one_line;
use crate::delivery::{Failure, Outcome, Sent};
use crate::engine::outbox::{ANSWER_BYTES_MAX, ERROR_BYTES_MAX};
use crate::model::Timestamp;

/// How long the body is waited for.
const BODY_TIME: Duration = Duration::from_secs(1);
/// The longest host name that an error repeats.
const HOST_BYTES_MAX: usize = 253;
/// HTTP's three ways to write a time (RFC 9110), the first of them in use.
const HTTP_DATES: [&str; 3] = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

/// Reads an answer that arrived at about `now`.
pub async fn read<B>(response: Response<B>, now: Timestamp) -> Sent
where
    B: Body<Data = Bytes> + Unpin,
{
    let (head, body) = response.into_parts();
    let answer = beginning(body).await;
    Sent { outcome: outcome(head.status, &head.headers, now), status: Some(head.status.as_u16()), answer }
}

/// The beginning of a body, as text.
async fn beginning<B>(mut body: B) -> String
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut bytes = Vec::new();
    let reading = async {
        // To the end if that is near, so that the connection can serve again.
        while let Some(Ok(frame)) = body.frame().await {
            let data = frame.into_data().unwrap_or_default();
            bytes.extend_from_slice(&data[..data.len().min(ANSWER_BYTES_MAX + 1 - bytes.len())]);
            if bytes.len() > ANSWER_BYTES_MAX {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(BODY_TIME, reading).await;
    let is_cut = bytes.len() > ANSWER_BYTES_MAX;
    bytes.truncate(ANSWER_BYTES_MAX);
    let text = String::from_utf8_lossy(&bytes);
    // A character that was cut in two is left out.
    let text = if is_cut { text.trim_end_matches('\u{fffd}') } else { &text };
    one_line(text, ANSWER_BYTES_MAX)
}

fn outcome(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Outcome {
    let failure = match status.as_u16() {
        200..=299 => return Outcome::Delivered,
        410 => Failure::Gone,
        413 => Failure::Never,
        429 | 502..=504 => Failure::SlowDown { retry_after: retry_after(headers, now) },
        408 | 500..=599 => Failure::Unavailable,
        _ => Failure::Refused,
    };
    let said = format!("answered {}", status.as_str());
    let said = match (status.canonical_reason(), failure) {
        (_, _) if status.is_redirection() => format!("{said}, a redirect{}: not followed", redirect_host(headers)),
        (reason, Failure::SlowDown { retry_after: Some(pause) }) => {
            format!("{said} {}, retry after {} s", reason.unwrap_or_default(), pause.as_secs())
        }
        (Some(reason), _) => format!("{said} {reason}"),
        (None, _) => said,
    };
    Outcome::Failed(failure, one_line(&said, ERROR_BYTES_MAX))
}

/// ` to HOST`: no more of a location, it may hold a token.
fn redirect_host(headers: &HeaderMap) -> String {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()?.parse::<Uri>().ok());
    let host = location.as_ref().and_then(Uri::host).filter(|host| host.len() <= HOST_BYTES_MAX);
    host.map(|host| format!(" to {host}")).unwrap_or_default()
}

/// How long the receiver wants to be left alone: seconds, or a time; one that has passed is no time at all.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Too many digits is too long a time: the caller has a limit for that.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let time = HTTP_DATES.iter().find_map(|format| strtime::parse(format, text).ok()?.to_datetime().ok())?;
    let at = time.to_zoned(TimeZone::UTC).ok()?.timestamp();
    let micros = at.as_microsecond().saturating_sub(now.micros());
    Some(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
}

#[cfg(test)]
mod tests;
