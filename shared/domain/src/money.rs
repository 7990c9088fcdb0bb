//! Exact money: whole picodollars (10⁻¹² USD).
//!
//! The cheapest listed price is $0.005 per million tokens, 5,000 picodollars a token; a price may have up to six decimals
//! per million tokens and every product with a token count stays whole.

use std::fmt;
use std::iter::Sum;
use std::num::NonZeroU64;
use std::ops::{Add, Sub};

use rust_decimal::Decimal;

const SCALE: u32 = 12;
const PICOS_PER_USD: i128 = 1_000_000_000_000;
/// No single amount is larger: $10¹². `i128` then holds 10¹⁴ of them, so no sum that can be made here overflows.
const MAX_PICOS: i128 = PICOS_PER_USD * PICOS_PER_USD;

/// An amount of US dollars, exact to 10⁻¹² dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Usd(i128);

/// A text or number that is no exact amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a dollar amount of at most 10^12 with at most 12 decimals")]
pub struct InvalidUsd;

impl Usd {
    /// No money.
    pub const ZERO: Self = Self(0);

    /// Reads plain decimal text, such as `0.0000025`.
    ///
    /// # Errors
    /// [`InvalidUsd`] for anything else, or more than 12 decimals.
    pub fn parse(text: &str) -> Result<Self, InvalidUsd> {
        Decimal::from_str_exact(text).map_err(|_| InvalidUsd)?.try_into()
    }

    /// Takes a JSON number by its shortest decimal text, which is what the sender wrote (up to 15 digits).
    ///
    /// # Errors
    /// [`InvalidUsd`] if it is not finite or not exact in picodollars.
    pub fn from_json_number(number: f64) -> Result<Self, InvalidUsd> {
        Self::parse(&number.to_string())
    }

    /// Takes a limit from a JSON number, rounded down to what is exact: `0.1 * 3` is a limit too.
    ///
    /// # Errors
    /// [`InvalidUsd`] if it is not finite or too large.
    pub fn limit_from_json_number(number: f64) -> Result<Self, InvalidUsd> {
        let decimal: Decimal = number.to_string().parse().map_err(|_| InvalidUsd)?;
        decimal.trunc_with_scale(SCALE).try_into()
    }

    /// The amount as the nearest JSON number. For the edge only: nothing is ever computed from it.
    #[must_use]
    pub fn to_json_number(self) -> f64 {
        // The text is always a number; NaN would be written as `null`.
        self.to_string().parse().unwrap_or(f64::NAN)
    }

    /// An even part of the amount, to the nearest picodollar.
    #[must_use]
    pub fn divided_by(self, parts: NonZeroU64) -> Self {
        let parts = i128::from(parts.get());
        Self((self.0.saturating_mul(2) + parts).div_euclid(parts * 2))
    }

    /// The amount as a decimal, for a `NUMERIC` column.
    #[must_use]
    pub fn to_decimal(self) -> Decimal {
        Decimal::from_i128_with_scale(self.0.clamp(-MAX_PICOS, MAX_PICOS), SCALE)
    }
}

impl TryFrom<Decimal> for Usd {
    type Error = InvalidUsd;

    fn try_from(value: Decimal) -> Result<Self, InvalidUsd> {
        let value = value.normalize();
        let lift = SCALE.checked_sub(value.scale()).ok_or(InvalidUsd)?;
        let picos = value.mantissa().checked_mul(10_i128.pow(lift)).ok_or(InvalidUsd)?;
        if picos.abs() <= MAX_PICOS { Ok(Self(picos)) } else { Err(InvalidUsd) }
    }
}

impl Add for Usd {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Usd {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

/// Plain decimal text without trailing zeros: `0.0000025`.
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, rest) =
            (self.0.unsigned_abs() / PICOS_PER_USD as u128, self.0.unsigned_abs() % PICOS_PER_USD as u128);
        if rest == 0 {
            return write!(f, "{sign}{whole}");
        }
        let decimals = format!("{rest:012}");
        write!(f, "{sign}{whole}.{}", decimals.trim_end_matches('0'))
    }
}

/// What one token costs: whole picodollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenPrice(i128);

impl TokenPrice {
    /// Reads a price in dollars per million tokens, as price pages give it.
    ///
    /// # Errors
    /// [`InvalidUsd`] if it is negative, no decimal text, or has more than six decimals.
    pub fn per_million(text: &str) -> Result<Self, InvalidUsd> {
        let Usd(picos) = Usd::parse(text)?;
        if picos < 0 || picos % 1_000_000 != 0 { Err(InvalidUsd) } else { Ok(Self(picos / 1_000_000)) }
    }

    /// The price of this many tokens.
    #[must_use]
    pub fn of(self, tokens: u64) -> Usd {
        Usd(self.0.saturating_mul(i128::from(tokens)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_exact_or_refused() {
        assert_eq!(Usd::parse("0.0000025").unwrap().to_string(), "0.0000025");
        assert_eq!(Usd::parse("-1.50").unwrap().to_string(), "-1.5");
        assert_eq!(Usd::parse("1000000000000").unwrap().to_string(), "1000000000000");
        for bad in ["", "x", "1e-3", "NaN", "0.0000000000001", "1000000000000.1", "99999999999999999999999999999999"] {
            assert_eq!(Usd::parse(bad), Err(InvalidUsd), "{bad}");
        }
        assert_eq!(Usd::limit_from_json_number(0.300_000_000_000_000_04).unwrap().to_string(), "0.3");
        assert_eq!(Usd::limit_from_json_number(1e-13), Ok(Usd::ZERO));
    }

    #[test]
    fn a_part_is_rounded_to_the_nearest_picodollar() {
        let part =
            |text: &str, parts| Usd::parse(text).unwrap().divided_by(NonZeroU64::new(parts).unwrap()).to_string();
        assert_eq!((part("1", 3), part("2", 3)), ("0.333333333333".to_owned(), "0.666666666667".to_owned()));
        assert_eq!((part("0.000000000001", 2), part("-1", 4)), ("0.000000000001".to_owned(), "-0.25".to_owned()));
        for bad in [f64::NAN, f64::INFINITY, 1e-13, 1e13] {
            assert_eq!(Usd::from_json_number(bad), Err(InvalidUsd), "{bad}");
        }
    }

    #[test]
    fn a_price_has_at_most_six_decimals_per_million() {
        assert_eq!(TokenPrice::per_million("0.005").unwrap().of(3).to_string(), "0.000000015");
        assert_eq!(TokenPrice::per_million("0.0000001"), Err(InvalidUsd));
        assert_eq!(TokenPrice::per_million("-1"), Err(InvalidUsd));
    }

    proptest! {
        #[test]
        fn text_and_decimal_round_trip(picos in -MAX_PICOS..=MAX_PICOS) {
            let amount = Usd(picos);
            prop_assert_eq!(Usd::parse(&amount.to_string()), Ok(amount));
            prop_assert_eq!(Usd::try_from(amount.to_decimal()), Ok(amount));
        }

        #[test]
        fn tokens_add_up_to_the_last_digit(price in 0_u64..1_000_000_000, a in 0_u64..1 << 40, b in 0_u64..1 << 40) {
            let price = TokenPrice(i128::from(price));
            prop_assert_eq!(price.of(a) + price.of(b), price.of(a + b));
        }

        #[test]
        fn a_json_number_of_fifteen_digits_keeps_its_text(digits in 1_i64..1_000_000_000_000_000, scale in 0_u32..=12) {
            let amount = Usd::try_from(Decimal::new(digits, scale));
            if let Ok(amount) = amount {
                prop_assert_eq!(Usd::from_json_number(amount.to_json_number()), Ok(amount));
            }
        }
    }
}
