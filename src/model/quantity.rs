//! Exact decimals: an i128 scaled by 10^12. Never a float, never rounded on the way in.
//!
//! 1. A value with more than 12 fractional digits or beyond ±1.7 × 10^26 is refused, not rounded.
//! 2. Arithmetic is checked: an overflow is an answer, not a wrap.
//! 3. Text leaves without trailing zeros and without an exponent.

use std::fmt;

/// Fractional digits that are kept.
pub const FRACTION_DIGITS: u32 = 12;
const ONE: i128 = 1_000_000_000_000;
/// Exponents past this cannot describe a value in range, whatever the digits in a body of sane size.
const EXPONENT_MAX: i64 = 1_000_000;

/// A decimal with 12 fractional digits, within about ±1.7 × 10^26.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Quantity(i128);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("is not a decimal number")]
    NotANumber,
    #[error("has more than 12 fractional digits")]
    TooPrecise,
    #[error("is beyond the range of about ±1.7e26")]
    Overflow,
}

impl Quantity {
    pub const ZERO: Quantity = Quantity(0);
    pub const ONE: Quantity = Quantity(ONE);

    /// From the scaled integer: `Quantity::from_scaled(1_500_000_000_000)` is 1.5.
    pub fn from_scaled(scaled: i128) -> Self {
        Self(scaled)
    }

    /// The value times 10^12.
    pub fn scaled(self) -> i128 {
        self.0
    }

    pub fn from_integer(value: i64) -> Self {
        Self(i128::from(value) * ONE)
    }

    pub fn is_negative(self) -> bool {
        self.0 < 0
    }

    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// `self - other`, kept within the range of the type: for differences that are shown.
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `self / count`, rounded half to even at the 12th fractional digit.
    #[must_use]
    pub fn divided_by(self, count: u64) -> Option<Self> {
        let divisor = i128::from(count);
        let (quotient, remainder) = (self.0.checked_div_euclid(divisor)?, self.0.checked_rem_euclid(divisor)?);
        let up = match (remainder * 2).cmp(&divisor) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Greater => 1,
            std::cmp::Ordering::Equal => quotient & 1,
        };
        Some(Self(quotient + up))
    }

    /// Reads JSON's number grammar (`-1.5e3`) from its text, exactly.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let decimal = Decimal::split(text).ok_or(QuantityError::NotANumber)?;
        decimal.scale()
    }
}

/// A number's text taken apart: sign, digits before and after the point, exponent.
struct Decimal<'a> {
    negative: bool,
    integer: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

impl<'a> Decimal<'a> {
    fn split(text: &'a str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes() {
            [b'-', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let (integer, rest) = take_digits(rest);
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => take_digits(rest),
            rest => (&rest[..0], rest),
        };
        let has_point = text.as_bytes().contains(&b'.');
        let exponent = match rest {
            [] => 0,
            [b'e' | b'E', rest @ ..] => parse_exponent(rest)?,
            _ => return None,
        };
        let well_formed = match integer {
            [] => false,
            [b'0', _, ..] => false,
            _ => !has_point || !fraction.is_empty(),
        };
        well_formed.then_some(Self { negative, integer, fraction, exponent })
    }

    fn scale(&self) -> Result<Quantity, QuantityError> {
        let shift = i64::from(FRACTION_DIGITS) + self.exponent;
        let mut magnitude: u128 = 0;
        let mut place = self.integer.len() as i64 + shift;
        for &digit in self.integer.iter().chain(self.fraction) {
            let digit = digit - b'0';
            place -= 1;
            if place < 0 {
                if digit != 0 {
                    return Err(QuantityError::TooPrecise);
                }
                continue;
            }
            magnitude = magnitude
                .checked_mul(10)
                .and_then(|m| m.checked_add(u128::from(digit)))
                .ok_or(QuantityError::Overflow)?;
        }
        if magnitude != 0 && place > 0 {
            let power = u32::try_from(place).ok().and_then(|p| 10u128.checked_pow(p)).ok_or(QuantityError::Overflow)?;
            magnitude = magnitude.checked_mul(power).ok_or(QuantityError::Overflow)?;
        }
        let magnitude = i128::try_from(magnitude).map_err(|_| QuantityError::Overflow)?;
        Ok(Quantity(if self.negative { -magnitude } else { magnitude }))
    }
}

fn take_digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|b| !b.is_ascii_digit()).unwrap_or(bytes.len());
    bytes.split_at(end)
}

fn parse_exponent(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let magnitude = digits.iter().fold(0i64, |value, d| (value * 10 + i64::from(d - b'0')).min(EXPONENT_MAX));
    Some(if negative { -magnitude } else { magnitude })
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let (integer, fraction) = (magnitude / ONE.unsigned_abs(), magnitude % ONE.unsigned_abs());
        let sign = if self.0 < 0 { "-" } else { "" };
        if fraction == 0 {
            return write!(f, "{sign}{integer}");
        }
        let digits = format!("{fraction:012}");
        write!(f, "{sign}{integer}.{}", digits.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form_of_a_json_number_exactly() {
        for (text, scaled) in [
            ("0", 0),
            ("-0", 0),
            ("1", ONE),
            ("-1.5", -3 * ONE / 2),
            ("1e3", 1_000 * ONE),
            ("1.25E+2", 125 * ONE),
            ("2500e-4", ONE / 4),
            ("0.000000000001", 1),
            ("0.0000000000010000", 1),
            ("1000000000000e-24", 1),
            ("0e999999999999999999999", 0),
            ("170141183460469231731687303", 170_141_183_460_469_231_731_687_303 * ONE),
        ] {
            assert_eq!(Quantity::parse(text), Ok(Quantity(scaled)), "{text}");
        }
    }

    #[test]
    fn refuses_what_it_would_have_to_round_and_what_is_no_number() {
        for text in ["", "-", "+1", ".5", "1.", "01", "1e", "1e+", "NaN", "Infinity", "0x10", " 1", "1 ", "1,5", "--1"]
        {
            assert_eq!(Quantity::parse(text), Err(QuantityError::NotANumber), "{text}");
        }
        for text in ["0.0000000000001", "1e-13", "1.0000000000001", "1e-99999999999"] {
            assert_eq!(Quantity::parse(text), Err(QuantityError::TooPrecise), "{text}");
        }
        for text in
            ["1e27", "170141183460469231731687304", "-9e30", "1e999999999", "99999999999999999999999999999999999999999"]
        {
            assert_eq!(Quantity::parse(text), Err(QuantityError::Overflow), "{text}");
        }
    }

    #[test]
    fn writes_decimals_without_trailing_zeros() {
        for (scaled, text) in [(0, "0"), (1, "0.000000000001"), (-3 * ONE / 2, "-1.5"), (1_000 * ONE, "1000")] {
            assert_eq!(Quantity(scaled).to_string(), text);
        }
    }

    #[test]
    fn rounds_an_average_half_to_even() {
        for (scaled, count, expected) in [(1, 2, 0), (3, 2, 2), (-1, 2, 0), (-3, 2, -2), (10, 3, 3), (11, 3, 4)] {
            assert_eq!(Quantity(scaled).divided_by(count), Some(Quantity(expected)), "{scaled}/{count}");
        }
        assert_eq!(Quantity::ONE.divided_by(0), None);
    }
}
