//! Quantities such as `500m`, `1.5Gi` or `12e6`: exact, as billionths in an `i128`.
//!
//! As in Kubernetes, magnitudes are capped at 2^63-1 and what is finer than a billionth is rounded
//! away from zero: who asks for a little shall not get nothing.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

const NANO: i128 = 1_000_000_000;
// 2^63-1 billions.
const MAX: i128 = 9_223_372_036_854_775_807 * NANO;

/// An exact amount and the notation it prints in.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

/// The notation of a quantity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// `1Ki`, `1Mi`, ...
    BinarySi,
    /// `1e3`, `1e6`, ...
    DecimalExponent,
    /// `1m`, `1k`, ...
    DecimalSi,
}

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseQuantityError {
    /// The text as a whole has another shape.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// The digits cannot be read.
    #[error("unable to parse numeric part of quantity")]
    Number,
    /// The unit is unknown.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nano: 0, format: Format::DecimalSi };

    /// A whole number, printed as `format` says.
    pub fn from_value(value: i64, format: Format) -> Self {
        Self { nano: i128::from(value) * NANO, format }
    }

    /// A number of billionths, printed as `format` says.
    pub fn from_nano(nano: i128, format: Format) -> Self {
        Self { nano, format }.capped()
    }

    /// A number of thousandths.
    pub fn from_milli(milli: i64) -> Self {
        Self { nano: i128::from(milli) * (NANO / 1000), format: Format::DecimalSi }.capped()
    }

    /// Reads a quantity.
    pub fn parse(text: &str) -> Result<Self, ParseQuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, suffix) = unsigned.split_at(end.unwrap_or(unsigned.len()));
        if number.is_empty() || !suffix_has_shape(suffix) {
            return Err(ParseQuantityError::Format);
        }
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') {
            return Err(ParseQuantityError::Format);
        }
        if whole.is_empty() && fraction.is_empty() {
            return Err(ParseQuantityError::Number);
        }
        let (factor, exponent, format) = unit(suffix).ok_or(ParseQuantityError::Suffix)?;
        let nano = scale(whole, fraction, factor, exponent);
        let mut out = Self { nano: if negative { -nano } else { nano }, format }.capped();
        if out.format == Format::BinarySi && out.nano != 0 && out.nano.abs() < NANO {
            // Fractions of a byte have no binary unit.
            out.format = Format::DecimalSi;
        }
        Ok(out)
    }

    /// The whole number, rounded away from zero.
    pub fn value(self) -> i64 {
        clamp(div_away(self.nano, NANO))
    }

    /// The number of thousandths, rounded away from zero.
    pub fn milli_value(self) -> i64 {
        clamp(div_away(self.nano, NANO / 1000))
    }

    /// The exact number of billionths.
    pub fn nano_value(self) -> i128 {
        self.nano
    }

    /// The notation.
    pub fn format(self) -> Format {
        self.format
    }

    /// Whether this is nothing.
    pub fn is_zero(self) -> bool {
        self.nano == 0
    }

    /// Whether this is less than nothing.
    pub fn is_negative(self) -> bool {
        self.nano < 0
    }

    /// Rounds to thousandths, away from zero, as Kubernetes does with resources of containers.
    #[must_use]
    pub fn round_up_milli(self) -> Self {
        let unit = NANO / 1000;
        Self { nano: div_away(self.nano, unit) * unit, format: self.format }.capped()
    }

    fn capped(self) -> Self {
        Self { nano: self.nano.clamp(-MAX, MAX), format: self.format }
    }
}

impl std::ops::Add for Quantity {
    type Output = Self;

    /// The sum, capped. Zero takes the other's notation.
    fn add(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nano: self.nano + other.nano, format }.capped()
    }
}

impl std::ops::Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nano: self.nano - other.nano, format }.capped()
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, |a, b| a + b)
    }
}

// The amount alone decides: 1024 equals 1Ki.
impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Kubernetes' canonical form: no fraction, the largest unit that leaves none.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let small = self.nano.abs() < 1024 * NANO;
        match self.format {
            Format::BinarySi if !small => {
                let mut mantissa = div_away(self.nano, NANO);
                let mut unit = 0;
                while mantissa % 1024 == 0 && unit + 1 < BINARY.len() {
                    mantissa /= 1024;
                    unit += 1;
                }
                write!(f, "{mantissa}{}", BINARY[unit])
            }
            Format::BinarySi | Format::DecimalSi | Format::DecimalExponent => {
                let mut mantissa = self.nano;
                let mut unit = 0;
                while mantissa % 1000 == 0 && unit + 1 < DECIMAL.len() {
                    mantissa /= 1000;
                    unit += 1;
                }
                let (name, exponent) = DECIMAL[unit];
                match self.format {
                    Format::DecimalExponent if exponent != 0 => write!(f, "{mantissa}e{exponent}"),
                    Format::BinarySi | Format::DecimalSi | Format::DecimalExponent => {
                        write!(f, "{mantissa}{name}")
                    }
                }
            }
        }
    }
}

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

/// `[eEinumkKMGTP]*[-+]?[0-9]*`
fn suffix_has_shape(suffix: &str) -> bool {
    let rest = suffix.trim_start_matches(|c: char| "eEinumkKMGTP".contains(c));
    let digits = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    digits.bytes().all(|b| b.is_ascii_digit())
}

/// Factor, power of ten and notation of a unit.
fn unit(suffix: &str) -> Option<(i128, i32, Format)> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((1, *exponent, Format::DecimalSi));
    }
    if let Some(power) = BINARY.iter().position(|it| *it == suffix) {
        let bits = u32::try_from(power * 10).ok()?;
        return Some((1_i128 << bits, 0, Format::BinarySi));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    let exponent = exponent.parse::<i32>().ok().filter(|it| it.abs() <= 1_000_000)?;
    Some((1, exponent, Format::DecimalExponent))
}

/// `whole.fraction * factor * 10^exponent` in billionths, rounded away from zero, capped.
fn scale(whole: &str, fraction: &str, factor: i128, exponent: i32) -> i128 {
    // Beyond 2^63 everything is the cap, below a billionth everything is a billionth: few digits
    // decide, the rest only tells whether there is something left to round up.
    const DIGITS: usize = 38;
    let all = format!("{whole}{fraction}");
    let significant = all.trim_start_matches('0');
    let kept = &significant[..significant.len().min(DIGITS)];
    let dropped = &significant[kept.len()..];
    let mut rest = dropped.bytes().any(|b| b != b'0');
    let Ok(digits) = kept.parse::<i128>() else {
        return 0;
    };
    let length = |text: &str| i32::try_from(text.len()).unwrap_or(i32::MAX / 4);
    let mut power = exponent.saturating_add(9) + length(dropped) - length(fraction);
    let mut value = digits;
    // Divide only what must be divided, and only after multiplying what fits.
    let mut factor = factor;
    while power < 0 && value != 0 {
        if factor > 1 && value <= i128::MAX >> 10 {
            value <<= 10;
            factor >>= 10;
            continue;
        }
        rest |= value % 10 != 0;
        value /= 10;
        power += 1;
    }
    for _ in 0..power.max(0) {
        if value > MAX || value == 0 {
            break;
        }
        value *= 10;
    }
    value = value.min(MAX).saturating_mul(factor);
    value.saturating_add(i128::from(rest)).min(MAX)
}

fn div_away(value: i128, unit: i128) -> i128 {
    let quotient = value / unit;
    if value % unit == 0 { quotient } else { quotient + value.signum() }
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn canonical_forms() {
        for (text, expected) in [
            ("0", "0"),
            ("0Mi", "0"),
            ("1", "1"),
            ("+1", "1"),
            ("-1", "-1"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("5.", "5"),
            ("100m", "100m"),
            ("10000", "10k"),
            ("12345", "12345"),
            ("1000k", "1M"),
            ("1024Ki", "1Mi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Mi", "512Ki"),
            ("1Ki", "1Ki"),
            ("512Ki", "512Ki"),
            ("100Ki", "100Ki"),
            ("0.5Ki", "512"),
            ("1000Ki", "1000Ki"),
            ("1E", "1E"),
            ("8Ei", "9223372036854775807"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("12e6", "12e6"),
            ("1e-3", "1e-3"),
            ("100e0", "100"),
            ("0.1n", "1n"),
            ("1n", "1n"),
            ("1.0000000001", "1000000001n"),
            ("9223372036854775807", "9223372036854775807"),
            ("9223372036854775808", "9223372036854775807"),
            ("99999999999999999999999999999999999999999999999", "9223372036854775807"),
            ("0.00000000000000000000000000000000000000000000000001", "1n"),
            ("1e1000", "9223372036854775807"),
            ("1e-1000", "1e-9"),
        ] {
            let shown = Quantity::parse(text).map(|it| it.to_string());
            assert_eq!(shown.as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        use ParseQuantityError::{Format, Number, Suffix};
        for (text, expected) in [
            ("", Format),
            ("-", Format),
            ("a", Format),
            ("Mi", Format),
            (".", Number),
            ("1.2.3", Format),
            ("1 Mi", Format),
            ("1Mb", Format),
            ("1K", Suffix),
            ("1MiB", Format),
            ("1i", Suffix),
            ("1e", Suffix),
            ("1mm", Suffix),
            ("1Mi5", Suffix),
            ("1e99999999999", Suffix),
            ("0x1", Format),
        ] {
            assert_eq!(Quantity::parse(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn values_round_away_from_zero() {
        for (text, value, milli) in [
            ("1m", 1, 1),
            ("-1m", -1, -1),
            ("1.5", 2, 1500),
            ("1n", 1, 1),
            ("1Gi", 1 << 30, 1000 << 30),
        ] {
            let it = Quantity::parse(text).unwrap();
            assert_eq!((it.value(), it.milli_value()), (value, milli), "{text}");
        }
    }

    #[test]
    fn sums_keep_the_notation() {
        let sum = |a: &str, b: &str| {
            (Quantity::parse(a).unwrap() + Quantity::parse(b).unwrap()).to_string()
        };
        assert_eq!(sum("1Gi", "1Gi"), "2Gi");
        assert_eq!(sum("0", "1Gi"), "1Gi");
        assert_eq!(sum("1Gi", "500M"), "1573741824");
        assert_eq!(sum("100m", "1"), "1100m");
        assert_eq!(sum("8Ei", "8Ei"), "9223372036854775807");
    }

    proptest! {
        #[test]
        fn printing_and_parsing_return_the_same(
            whole in 0_u64..1 << 40,
            fraction in 0_u32..1000,
            unit in prop::sample::select(vec!["", "m", "k", "M", "Ki", "Mi", "Gi", "e3", "e-3"]),
        ) {
            let first = Quantity::parse(&format!("{whole}.{fraction:03}{unit}")).unwrap();
            let again = Quantity::parse(&first.to_string()).unwrap();
            if first.format() == Format::BinarySi {
                // Binary notation has no fractions: it prints the next whole number, and one
                // without a unit reads as decimal.
                prop_assert_eq!(again.value(), first.value());
            } else {
                prop_assert_eq!(again, first);
                prop_assert_eq!(again.to_string(), first.to_string());
            }
        }

        #[test]
        fn order_is_that_of_the_numbers(a in any::<i32>(), b in any::<i32>()) {
            let text = |it: i32| Quantity::parse(&format!("{it}m")).unwrap();
            prop_assert_eq!(text(a).cmp(&text(b)), a.cmp(&b));
            prop_assert_eq!((text(a) + text(b)).milli_value(), i64::from(a) + i64::from(b));
            prop_assert_eq!((text(a) - text(b)).milli_value(), i64::from(a) - i64::from(b));
        }

        #[test]
        fn parsing_never_panics(text in "[-+]?[0-9.]{0,50}[eEinumkKMGTP]{0,3}[-+]?[0-9]{0,4}") {
            if let Ok(it) = Quantity::parse(&text) {
                prop_assert!(Quantity::parse(&it.to_string()).is_ok());
            }
        }
    }
}
