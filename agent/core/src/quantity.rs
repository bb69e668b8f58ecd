//! Reads Kubernetes quantities as the numbers that a kernel wants.
//!
//! Rounds up, as Kubernetes does: `100u` of a processor is `1m`, not nothing.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const NANO: i128 = 1_000_000_000;
const NANO_PER_MILLI: i128 = 1_000_000;

/// Whole units, rounded up.
pub fn value(quantity: &Quantity) -> Option<i64> {
    i64::try_from(ceil_div(nano(&quantity.0)?, NANO)).ok()
}

/// Thousandths, rounded up.
pub fn milli_value(quantity: &Quantity) -> Option<i64> {
    i64::try_from(ceil_div(nano(&quantity.0)?, NANO_PER_MILLI)).ok()
}

fn ceil_div(a: i128, b: i128) -> i128 {
    a.div_euclid(b) + i128::from(a.rem_euclid(b) != 0)
}

fn nano(text: &str) -> Option<i128> {
    let end = text
        .char_indices()
        .find(|&(at, c)| !(c.is_ascii_digit() || c == '.' || (at == 0 && "+-".contains(c))))
        .map_or(text.len(), |(at, _)| at);
    let (number, suffix) = text.split_at(end);
    let (number, negative) = match number.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (number.strip_prefix('+').unwrap_or(number), false),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scaled = digits.checked_mul(scale(suffix)?)?;
    let nano = ceil_div(scaled, 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?);
    Some(if negative { -nano } else { nano })
}

/// Nano-units of one of what the suffix counts.
fn scale(suffix: &str) -> Option<i128> {
    const KI: i128 = 1024;
    Some(match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => NANO_PER_MILLI,
        "" => NANO,
        "k" => NANO * 1_000,
        "M" => NANO * 1_000_000,
        "G" => NANO * NANO,
        "T" => NANO * NANO * 1_000,
        "P" => NANO * NANO * 1_000_000,
        "E" => NANO * NANO * NANO,
        "Ki" => NANO * KI,
        "Mi" => NANO * KI.pow(2),
        "Gi" => NANO * KI.pow(3),
        "Ti" => NANO * KI.pow(4),
        "Pi" => NANO * KI.pow(5),
        "Ei" => NANO * KI.pow(6),
        _ => {
            let exponent: u32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            NANO.checked_mul(10_i128.checked_pow(exponent)?)?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_become_numbers() {
        let cases = [
            ("100m", 1, 100),
            ("1.5", 2, 1_500),
            ("64Mi", 64 << 20, 64_000 << 20),
            ("100u", 1, 1),
            ("2e3", 2_000, 2_000_000),
            (".5", 1, 500),
            ("1.5Gi", 1_610_612_736, 1_610_612_736_000),
        ];
        for (text, whole, milli) in cases {
            let quantity = Quantity(text.to_owned());
            assert_eq!(value(&quantity), Some(whole), "{text}");
            assert_eq!(milli_value(&quantity), Some(milli), "{text}");
        }
        for text in ["", "x", "1Zi", "m", "1.2.3"] {
            assert_eq!(value(&Quantity(text.to_owned())), None, "{text}");
        }
    }
}
