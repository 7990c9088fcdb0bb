//! The configuration's variables as plain values: who reads the environment is the edge.
//!
//! A reader asks for each variable by name; faults are collected and reported together, so that one look at the log mends
//! them all.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

/// Everything that is wrong with the configuration. No value is repeated: it may be a secret.
#[derive(Debug, thiserror::Error)]
#[error("the configuration cannot be used: {}", .0.join("; "))]
pub struct ConfigError(pub Vec<String>);

/// The variables of the environment, over those of the secret.
pub struct Env {
    variables: HashMap<String, String>,
    faults: RefCell<Vec<String>>,
}

impl Env {
    /// An environment of these variables. An empty one counts as absent.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let variables = pairs.into_iter().filter(|(_, value)| !value.trim().is_empty()).collect();
        Self { variables, faults: RefCell::new(Vec::new()) }
    }

    /// The same over other variables, which count where it has none of that name. Faults are kept.
    #[must_use]
    pub fn over(mut self, others: impl IntoIterator<Item = (String, String)>) -> Self {
        let others = Self::from_pairs(others).variables;
        self.variables = others.into_iter().chain(self.variables).collect();
        self
    }

    /// A variable that may be absent.
    #[must_use]
    pub fn optional(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    /// A variable with a default.
    #[must_use]
    pub fn or(&self, name: &str, default: &str) -> String {
        self.optional(name).unwrap_or_else(|| default.to_owned())
    }

    /// A variable that must be there. Its absence is a fault; the empty text stands in until [`Self::finish`].
    #[must_use]
    pub fn required(&self, name: &str) -> String {
        self.optional(name).unwrap_or_else(|| {
            self.fault(name, "is required");
            String::new()
        })
    }

    /// What is made of a variable that must be there. Its absence is one fault, and so is a text that nothing can be made of.
    pub fn required_as<T, E: Display>(&self, name: &str, make: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        match self.variables.get(name) {
            Some(text) => self.check(name, make(text)),
            None => {
                self.fault(name, "is required");
                None
            }
        }
    }

    /// A variable of another type, or its default. A text that cannot be read is a fault.
    #[must_use]
    pub fn parsed<T: FromStr<Err: Display>>(&self, name: &str, default: T) -> T {
        match self.variables.get(name).map(|text| text.trim().parse()) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err(fault)) => {
                self.fault(name, fault);
                default
            }
        }
    }

    /// A duration in milliseconds, between 1 ms and 15 minutes.
    #[must_use]
    pub fn millis(&self, name: &str, default: u64) -> Duration {
        let millis = self.parsed(name, default);
        if !(1..=900_000).contains(&millis) {
            self.fault(name, "must be 1 to 900000 milliseconds");
        }
        Duration::from_millis(millis)
    }

    /// The parts of a comma-separated variable, trimmed, without empty ones.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<String> {
        let text = self.optional(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    /// Notes what is wrong with a variable.
    pub fn fault(&self, name: &str, fault: impl Display) {
        self.faults.borrow_mut().push(format!("{name}: {fault}"));
    }

    /// A value, or the fault that kept it from being made.
    pub fn check<T, E: Display>(&self, name: &str, value: Result<T, E>) -> Option<T> {
        value.map_err(|fault| self.fault(name, fault)).ok()
    }

    /// Ends the reading with what was built from it.
    ///
    /// # Errors
    /// [`ConfigError`] with every fault, if there was one.
    pub fn finish<T>(&self, built: Option<T>) -> Result<T, ConfigError> {
        let faults = self.faults.take();
        match built {
            Some(built) if faults.is_empty() => Ok(built),
            _ => Err(ConfigError(faults)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Env {
        Env::from_pairs(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn every_fault_is_reported_and_no_value() {
        let env = env(&[("PORT", "s3cret"), ("EMPTY", " ")]);
        let _ = env.required("EMPTY");
        let _ = env.required("ABSENT");
        let _: u16 = env.parsed("PORT", 1);
        let _ = env.millis("WAIT", 0);
        assert_eq!(env.required_as("GONE", str::parse::<u16>), None);
        let error = env.finish(Some(())).unwrap_err().to_string();
        for name in ["EMPTY", "ABSENT", "PORT", "WAIT", "GONE"] {
            assert!(error.contains(name), "{error}");
        }
        assert!(!error.contains("s3cret"), "{error}");
    }

    #[test]
    fn a_variable_of_its_own_wins_and_an_empty_one_is_none() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let first = env(&[("A", "own"), ("B", "")]);
        first.fault("A", "is odd");
        let both = first.over([pair("A", "other"), pair("B", "other"), pair("C", " ")]);
        assert_eq!((both.or("A", ""), both.or("B", ""), both.optional("C")), ("own".into(), "other".into(), None));
        assert_eq!(both.finish(Some(())).unwrap_err().0, ["A: is odd"]);
    }

    #[test]
    fn lists_are_trimmed() {
        assert_eq!(env(&[("A", " x, ,y,")]).list("A"), ["x", "y"]);
    }
}
