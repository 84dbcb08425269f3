use crate::model::Duration;
use crate::model::units::*;

#[test]
fn reads_one_number_and_one_unit() {
    for (text, millis) in [
        ("250ms", 250),
        ("10s", 10_000),
        ("5m", 300_000),
        ("1h", 3_600_000),
        ("32d", 32 * 86_400_000),
        ("1w", 7 * 86_400_000),
        (" 1 h ", 3_600_000),
        ("0s", 0),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4_096),
        ("7B", 7),
        ("512KiB", 512 << 10),
        ("8 MiB", 8 << 20),
        ("1GiB", 1 << 30),
        ("2TiB", 2 << 40),
    ] {
        assert_eq!(size(text), Ok(bytes), "{text}");
    }
}

#[test]
fn refuses_what_could_be_read_in_two_ways() {
    for (text, error) in [
        ("", UnitError::NotANumber),
        ("s", UnitError::NotANumber),
        ("1.5h", UnitError::NotANumber),
        ("+5s", UnitError::NotANumber),
        ("--5s", UnitError::NotANumber),
        ("-5s", UnitError::Negative),
        ("5", UnitError::MissingUnit),
        ("1h30m", UnitError::UnknownUnit),
        ("5M", UnitError::UnknownUnit),
        ("1mo", UnitError::UnknownUnit),
        ("99999999999999999999s", UnitError::TooLarge),
        ("9999999999999999s", UnitError::TooLarge),
    ] {
        assert_eq!(duration(text), Err(error), "{text}");
    }
    for (text, error) in [
        ("8MB", UnitError::UnknownUnit),
        ("8mib", UnitError::UnknownUnit),
        ("1.5GiB", UnitError::NotANumber),
        ("-1", UnitError::Negative),
        ("99999999TiB", UnitError::TooLarge),
        ("99999999999999999999", UnitError::TooLarge),
    ] {
        assert_eq!(size(text), Err(error), "{text}");
    }
}

#[test]
fn writes_the_largest_unit_that_divides() {
    for text in ["1ms", "1500ms", "90s", "5m", "25h", "36d", "2w"] {
        assert_eq!(shown_duration(duration(text).unwrap()), if text == "2w" { "14d" } else { text });
    }
    for text in ["1023B", "1KiB", "8MiB", "1537MiB", "3TiB"] {
        assert_eq!(shown_size(size(text).unwrap()), text);
    }
    assert_eq!(spelled_duration(duration("50405m").unwrap()), "35d 5m");
    assert_eq!(spelled_duration(Duration::ZERO), "0ms");
}

#[test]
fn rounds_up_to_what_a_person_would_write() {
    for (text, rounded) in [("50405m", "36d"), ("36d", "36d"), ("61m", "2h"), ("59m", "59m"), ("1ms", "1ms")] {
        assert_eq!(shown_duration(rounded_up(duration(text).unwrap())), rounded, "{text}");
    }
}
