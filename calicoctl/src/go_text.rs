//! Numbers as Go's `fmt` prints them.

/// Decimal exponent from which on `%v` writes a float in exponent form.
const EXPONENT_MIN: i32 = 6;

/// `%v`: the fewest digits that mean the number.
pub(crate) fn float(value: f64) -> String {
    general(value, &format!("{value:e}"), EXPONENT_MIN)
}

/// `%.<precision>g`
pub(crate) fn float_with_digits(value: f64, precision: usize) -> String {
    let digits = format!("{value:.*e}", precision.saturating_sub(1));
    general(value, &digits, i32::try_from(precision).unwrap_or(i32::MAX))
}

/// Chooses between plain and exponent form; `scientific` holds the digits to use.
fn general(value: f64, scientific: &str, limit: i32) -> String {
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        // Not finite.
        return if value.is_nan() {
            "NaN".to_owned()
        } else {
            format!("{value:+}").replace("inf", "Inf")
        };
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mantissa = trim(mantissa);
    if exponent < -4 || exponent >= limit {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs());
    }
    let significant = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let decimals = i32::try_from(significant).unwrap_or(0) - 1 - exponent;
    format!("{value:.*}", usize::try_from(decimals).unwrap_or(0))
}

fn trim(mantissa: &str) -> &str {
    if mantissa.contains('.') {
        mantissa.trim_end_matches('0').trim_end_matches('.')
    } else {
        mantissa
    }
}

/// `part` of `whole` in percent, rounded to an integer, halves to even.
pub(crate) fn percent(part: f64, whole: f64) -> String {
    if whole == 0.0 {
        return "0".to_owned();
    }
    format!("{}", (100.0 * part / whole).round_ties_even())
}

/// At most `max` characters; what is longer ends in `...`.
pub(crate) fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(max.saturating_sub(3)).collect();
    format!("{kept}...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats() {
        for (value, text) in [
            (100.0, "100"),
            (0.0, "0"),
            (-1.5, "-1.5"),
            (999_999.0, "999999"),
            (1_000_000.0, "1e+06"),
            (10_000_000.0, "1e+07"),
            (1_234_567.0, "1.234567e+06"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(float(value), text);
        }
        for (value, text) in [
            (65_536.0, "65536"),
            (99_999.0, "99999"),
            (100_000.0, "1e+05"),
            (1_048_576.0, "1.0486e+06"),
            (18_446_744_073_709_551_616.0, "1.8447e+19"),
            (5.0, "5"),
            (0.0, "0"),
        ] {
            assert_eq!(float_with_digits(value, 5), text);
        }
    }

    #[test]
    fn percents() {
        for (part, whole, text) in [
            (5.0, 65536.0, "0"),
            (5.0, 64.0, "8"),
            (59.0, 64.0, "92"),
            (1.0, 200.0, "0"),
            (3.0, 200.0, "2"),
            (0.0, 0.0, "0"),
        ] {
            assert_eq!(percent(part, whole), text);
        }
    }

    #[test]
    fn cutting() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abc...");
    }
}
