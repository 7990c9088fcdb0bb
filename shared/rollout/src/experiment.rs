//! An A/B test among those whom a flag takes in: who is given which variant, and what a variant does otherwise.

use huntaze_domain::ids::UserId;
use huntaze_domain::json::Fields;
use huntaze_domain::provider::Provider;
use serde_json::{Value, json};

use crate::body::whole;
use crate::bucket::hash;
use crate::flag::{FlagName, NAME};

/// The seed of the Unleash SDKs for variants: who gets which says nothing of who is in.
const SEED: u32 = 86_028_157;
const MOST_VARIANTS: usize = 8;
const MOST_WEIGHT: u64 = 1_000;
/// Of a variant's instructions, in characters. They are paid for with every request.
const MOST_INSTRUCTIONS: usize = 2_000;

/// One of the ways that are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Its name.
    pub name: FlagName,
    /// Its share of the users is its share of all weights.
    pub weight: u32,
    /// Who is asked first, where the request does not say.
    pub provider: Option<Provider>,
    /// What the model is told besides.
    pub instructions: Option<String>,
}

/// What is compared. Its variants are given when it is made, and stay: others under its name would mix what was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experiment {
    /// Its name: with it users are dealt anew.
    pub name: FlagName,
    /// Two or more.
    pub variants: Vec<Variant>,
}

impl Experiment {
    /// The user's variant, always the same one.
    #[must_use]
    pub fn variant(&self, user: &UserId) -> &Variant {
        let all: u32 = self.variants.iter().map(|variant| variant.weight).sum();
        let mut place = hash(SEED, format!("{}:{user}", self.name.as_str()).as_bytes()) % all.max(1);
        for variant in &self.variants {
            match place.checked_sub(variant.weight) {
                Some(rest) => place = rest,
                None => return variant,
            }
        }
        // Not reached: the place is below the sum of the weights.
        &self.variants[0]
    }

    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.required("name", NAME, |v| FlagName::parse(v.as_str()?));
        let expected = format!("a list of 2 to {MOST_VARIANTS} variants");
        let fits = |list: &&Vec<Value>| (2..=MOST_VARIANTS).contains(&list.len());
        let list = fields.required("variants", &expected, |v| v.as_array().filter(fits))?;
        let mut variants: Vec<Variant> = Vec::new();
        for index in 0..list.len() {
            let Some(variant) = fields.within_list("variants", index, Variant::read) else { continue };
            if variants.iter().any(|other| other.name == variant.name) {
                fields.fault_at("variants", index, "must have another name than those before it");
            }
            variants.push(variant);
        }
        Some(Self { name: name?, variants }).filter(|experiment| experiment.variants.len() == list.len())
    }

    pub(crate) fn to_json(&self) -> Value {
        let variants: Vec<_> = self.variants.iter().map(Variant::to_json).collect();
        json!({"name": self.name.as_str(), "variants": variants})
    }
}

impl Variant {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let weights = format!("a whole number from 1 to {MOST_WEIGHT}");
        let texts = format!("a text of 1 to {MOST_INSTRUCTIONS} characters");
        let instructions = |value: &Value| {
            let text = value.as_str()?;
            (1..=MOST_INSTRUCTIONS).contains(&text.chars().count()).then(|| text.to_owned())
        };
        let name = fields.required("name", NAME, |v| FlagName::parse(v.as_str()?));
        let weight = fields.required("weight", &weights, |v| whole(v, 1, MOST_WEIGHT));
        let provider = fields.optional("provider", "`azure` or `openai`", |v| Provider::from_name(v.as_str()?));
        let instructions = fields.optional("instructions", &texts, instructions);
        Some(Self { name: name?, weight: weight?, provider, instructions })
    }

    fn to_json(&self) -> Value {
        let all = [
            ("name", Some(json!(self.name.as_str()))),
            ("weight", Some(json!(self.weight))),
            ("provider", self.provider.map(|provider| json!(provider.as_str()))),
            ("instructions", self.instructions.as_ref().map(|text| json!(text))),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::{Bucket, Percentage};

    fn experiment(name: &str, weights: &[u32]) -> Experiment {
        let variant = |(index, weight): (usize, &u32)| Variant {
            name: FlagName::parse(&format!("v{index}")).unwrap(),
            weight: *weight,
            provider: None,
            instructions: None,
        };
        Experiment { name: FlagName::parse(name).unwrap(), variants: weights.iter().enumerate().map(variant).collect() }
    }

    /// How many of 100,000 users it is so of, in tenths of a percent.
    fn tenths(is_so: impl Fn(&UserId) -> bool) -> u64 {
        let users = (0..100_000).map(|n| UserId::parse(&format!("user-{n}")).unwrap());
        users.filter(is_so).count() as u64 / 100
    }

    #[test]
    fn each_variant_has_its_share() {
        let uneven = experiment("e", &[1, 2, 7]);
        for (name, share) in [("v0", 100), ("v1", 200), ("v2", 700)] {
            let tenths = tenths(|user| uneven.variant(user).name.as_str() == name);
            assert!(tenths.abs_diff(share) < 5, "{name}: {tenths} in 1,000");
        }
    }

    #[test]
    fn a_variant_says_nothing_of_the_bucket_or_of_another_experiments() {
        let (one, other) = (experiment("e", &[1, 1]), experiment("f", &[1, 1]));
        let first = |experiment: &Experiment, user: &UserId| experiment.variant(user).name.as_str() == "v0";
        let quarter = Percentage::new(25).unwrap();
        let of_the_first = tenths(|user| first(&one, user) && Bucket::of("e", user).is_in(quarter));
        assert!(of_the_first.abs_diff(125) < 5, "{of_the_first} in 1,000");
        let of_both = tenths(|user| first(&one, user) && first(&other, user));
        assert!(of_both.abs_diff(250) < 5, "{of_both} in 1,000");
    }
}
