//! Decompresses bodies within a limit, piece by piece, so that a small body never becomes a large allocation.
//!
//! 1. Room is covered before a piece is decoded, and nothing past the limit is kept.
//! 2. Truncated or damaged input is an error: half a body is no body.

use std::io::Read;

use bytes::Bytes;

use crate::http::body::Room;
use crate::http::ingest::content::Encoding;
use crate::http::problem::Problem;

const PIECE_BYTES: usize = 64 << 10;
/// Window that RFC 8878 asks every decoder to support: 8 MiB. Frames that need more are refused.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// The decompressed body; the room then covers both forms.
pub fn decode(body: Bytes, encoding: Encoding, limit: usize, room: &mut Room) -> Result<Bytes, Problem> {
    match encoding {
        Encoding::Identity => Ok(body),
        Encoding::Gzip => drain(flate2::bufread::MultiGzDecoder::new(&body[..]), body.len(), limit, room),
        Encoding::Zstd => {
            let undecodable = |error: std::io::Error| Problem::Undecodable(error.to_string());
            let mut decoder = zstd::stream::read::Decoder::with_buffer(&body[..]).map_err(undecodable)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(undecodable)?;
            drain(decoder, body.len(), limit, room)
        }
    }
}

fn drain(mut decoder: impl Read, encoded_len: usize, limit: usize, room: &mut Room) -> Result<Bytes, Problem> {
    let mut decoded = Vec::new();
    loop {
        let length = decoded.len();
        room.cover(encoded_len + length + PIECE_BYTES)?;
        decoded.resize(length + PIECE_BYTES, 0);
        let read = decoder.read(&mut decoded[length..]).map_err(|error| Problem::Undecodable(error.to_string()))?;
        decoded.truncate(length + read);
        if decoded.len() > limit {
            return Err(Problem::DecodedTooLong { limit });
        }
        if read == 0 {
            return Ok(decoded.into());
        }
    }
}
