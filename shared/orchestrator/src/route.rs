//! The steps of a request, who is asked in which order, and what may follow a failure. Pure.

use std::time::Duration;

use huntaze_costs::price::{Catalogue, Price, UnknownModel};
use huntaze_domain::error::ErrorCode;
use huntaze_domain::intent::{Preference, WorkflowIntent, WorkflowType};
use huntaze_domain::money::Usd;
use huntaze_domain::provider::{Provider, TokenUsage};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::answer::Failure;
use crate::matrix::Trigger;
use crate::prompt::{self, MAX_PLAN_BYTES};

/// What a model is asked to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Plans content and campaigns: the strongest model.
    Planner,
    /// Writes one short message: a quick and cheap model.
    ShortMessage,
    /// Judges a text.
    Validator,
}

impl Role {
    /// No answer has more output tokens. The prompts ask for 400 words, 900 characters and 250 words: about 550, 250 and
    /// 350 tokens in English, half as many again in other Latin scripts.
    pub(crate) fn max_output_tokens(self) -> u64 {
        match self {
            Self::Planner => 900,
            Self::ShortMessage => 400,
            Self::Validator => 600,
        }
    }
}

/// How long a call may take that somebody waits for. A provider's own time-out may be shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallTimes {
    /// A plan's.
    pub planner: Duration,
    /// A message's.
    pub short_message: Duration,
    /// A judgement's.
    pub validator: Duration,
}

impl CallTimes {
    /// Of a role's calls.
    #[must_use]
    pub fn of(&self, role: Role) -> Duration {
        match role {
            Role::Planner => self.planner,
            Role::ShortMessage => self.short_message,
            Role::Validator => self.validator,
        }
    }
}

/// A provider's model as it is called and priced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Who is called.
    pub provider: Provider,
    /// The name on the wire: the deployment at Azure, the model at OpenAI.
    pub deployment: String,
    /// The model that is priced.
    pub model: String,
}

/// A text that names no candidate. It is not repeated: what stands in the wrong variable may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("each candidate must be `azure:<deployment>[=<model>]` or `openai:<model>`")]
pub struct InvalidCandidate;

impl Candidate {
    /// Reads `azure:<deployment>[=<priced model>]` or `openai:<model>`.
    ///
    /// # Errors
    /// [`InvalidCandidate`]
    pub fn parse(text: &str) -> Result<Self, InvalidCandidate> {
        let (provider, name) = text.trim().split_once(':').ok_or(InvalidCandidate)?;
        let provider = Provider::from_name(provider).ok_or(InvalidCandidate)?;
        let (deployment, model) = name.split_once('=').unwrap_or((name, name));
        // The deployment becomes a part of a URL's path.
        let plain = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
                && !part.starts_with('.')
        };
        if !plain(deployment) || !plain(model) || (provider == Provider::OpenAi && deployment != model) {
            return Err(InvalidCandidate);
        }
        Ok(Self { provider, deployment: deployment.to_owned(), model: model.to_owned() })
    }

    /// Reads a comma-separated list, in the order in which they are tried.
    ///
    /// # Errors
    /// [`InvalidCandidate`] if one of them cannot be read.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, InvalidCandidate> {
        text.split(',').map(Self::parse).collect()
    }
}

/// Who plays which role, in the order in which they are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    /// For plans and campaigns.
    pub planner: Vec<Candidate>,
    /// For messages.
    pub short_message: Vec<Candidate>,
    /// For judgements.
    pub validator: Vec<Candidate>,
}

impl Roles {
    fn of(&self, role: Role) -> &[Candidate] {
        match role {
            Role::Planner => &self.planner,
            Role::ShortMessage => &self.short_message,
            Role::Validator => &self.validator,
        }
    }

    /// Who could have been asked first where a request of this type asked a model: the candidates of the role that the model
    /// played. Where it may have played several, those that all of them have; where it plays none any more, of the type's.
    #[must_use]
    pub fn instead_of(&self, kind: WorkflowType, provider: Provider, model: &str) -> Vec<&Candidate> {
        let roles = match kind {
            WorkflowType::ContentPlanning => &[Role::Planner][..],
            WorkflowType::MessageGeneration => &[Role::ShortMessage],
            WorkflowType::ContentValidation => &[Role::Validator],
            WorkflowType::CampaignExecution => &[Role::Planner, Role::ShortMessage],
        };
        let lists: Vec<_> = roles.iter().map(|role| self.of(*role)).collect();
        let plays = |list: &&[Candidate]| list.iter().any(|one| one.provider == provider && one.model == model);
        let played: Vec<_> = lists.iter().copied().filter(plays).collect();
        let lists = if played.is_empty() { lists } else { played };
        let (first, others) = lists.split_first().map_or((&[][..], &[][..]), |(first, others)| (*first, others));
        first.iter().filter(|one| others.iter().all(|list| list.contains(one))).collect()
    }

    /// Every candidate of every role.
    pub fn all(&self) -> impl Iterator<Item = &Candidate> {
        self.planner.iter().chain(&self.short_message).chain(&self.validator)
    }
}

/// One text to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// `plan`, `message`, `validation`, or `message:<platform>`.
    pub name: String,
    /// Who makes it.
    pub role: Role,
    /// Which system prompt it has.
    pub prompt: WorkflowType,
    /// For which platforms.
    pub platforms: Vec<String>,
    /// Whether it is written to the plan that an earlier step made.
    pub follows_plan: bool,
}

impl Step {
    /// Whether its text is what a fan can be sent.
    #[must_use]
    pub fn is_for_fans(&self) -> bool {
        matches!(self.name.as_str(), "message" | "message:onlyfans")
    }
}

/// What a request needs made, in order. A campaign on several platforms is planned once and has a message for each.
#[must_use]
pub fn steps(intent: &WorkflowIntent) -> Vec<Step> {
    let step = |name: &str, role, prompt| Step {
        name: name.to_owned(),
        role,
        prompt,
        platforms: intent.platforms.clone(),
        follows_plan: false,
    };
    let kind = intent.workflow_type;
    match kind {
        WorkflowType::ContentPlanning => vec![step("plan", Role::Planner, kind)],
        WorkflowType::MessageGeneration => vec![step("message", Role::ShortMessage, kind)],
        WorkflowType::ContentValidation => vec![step("validation", Role::Validator, kind)],
        WorkflowType::CampaignExecution => {
            let mut steps = vec![step("plan", Role::Planner, kind)];
            if intent.platforms.len() > 1 {
                steps.extend(intent.platforms.iter().map(|platform| Step {
                    name: format!("message:{platform}"),
                    role: Role::ShortMessage,
                    prompt: WorkflowType::MessageGeneration,
                    platforms: vec![platform.clone()],
                    follows_plan: true,
                }));
            }
            steps
        }
    }
}

/// A candidate for one step with its price and the most that its call can be billed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Who.
    pub candidate: Candidate,
    /// At which price.
    pub price: Price,
    /// No more tokens than these.
    pub bound: TokenUsage,
    /// Its call may take so long.
    pub time: Duration,
    /// Why it has its place: `forced`, `preferred`, `first_of_role` or `next_of_role`.
    pub reason: &'static str,
}

/// A candidate of a step that is not offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The step's name.
    pub step: String,
    /// Who is passed over.
    pub candidate: Candidate,
    /// Why: `not_forced`, `not_configured` or `no_price`.
    pub reason: &'static str,
}

impl Offer {
    /// What would be reserved.
    #[must_use]
    pub fn bound_cost(&self) -> Usd {
        self.price.cost(self.bound)
    }
}

/// A step and its offers, in the order in which they are tried; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutedStep {
    /// What is to be made.
    pub step: Step,
    /// By whom.
    pub offers: Vec<Offer>,
}

impl RouteError {
    /// The contract's error type.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::CostLimit { .. } => Trigger::MaxCost.alternatives().code,
            Self::NoProvider => Failure::NotConfigured.alternatives().code,
            Self::UnknownModel(_) => Trigger::NoPrice.alternatives().code,
        }
    }

    /// The limit that was met: its name, its value and what would be needed, in dollars.
    #[must_use]
    pub fn limit(&self) -> Option<Value> {
        let Self::CostLimit { limit, needed } = self else { return None };
        Some(json!({"name": "maxCost", "value": limit.to_json_number(), "needed": needed.to_json_number()}))
    }
}

/// The whole way of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// In order; never empty.
    pub steps: Vec<RoutedStep>,
    /// Who was passed over.
    pub skipped: Vec<Skipped>,
    max_cost: Option<Usd>,
}

/// Why a request has no way, or no way on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No provider that could serve it is configured.
    #[error("no configured provider can serve this request")]
    NoProvider,
    /// Only models without a price could serve it.
    #[error(transparent)]
    UnknownModel(#[from] UnknownModel),
    /// Its upper bound passes `maxCost`.
    #[error("the request may cost up to ${needed}, its maxCost is ${limit}")]
    CostLimit {
        /// The request's `maxCost`.
        limit: Usd,
        /// What it may cost at the most, by the cheapest way.
        needed: Usd,
    },
}

impl Route {
    /// Finds the way of a request. `time` says how long a provider's call may take in a role; `None`: it is not configured.
    ///
    /// # Errors
    /// [`RouteError`]; nothing was called.
    pub fn find(
        intent: &WorkflowIntent,
        roles: &Roles,
        time: impl Fn(Provider, Role) -> Option<Duration>,
        catalogue: &Catalogue,
        now: Timestamp,
    ) -> Result<Self, RouteError> {
        let mut skipped = Vec::new();
        let routed = steps(intent).into_iter().map(|step| {
            let plan = if step.follows_plan { 16 + MAX_PLAN_BYTES as u64 } else { 0 };
            let input = prompt::bound(&prompt::chat(step.prompt, intent, &step.platforms, None)) + plan;
            let (offers, passed_over) = offers(intent, roles.of(step.role), &time, catalogue, now, input, step.role)?;
            let name = || step.name.clone();
            skipped.extend(passed_over.into_iter().map(|(candidate, reason)| Skipped {
                step: name(),
                candidate,
                reason,
            }));
            Ok(RoutedStep { step, offers })
        });
        let steps = routed.collect::<Result<_, RouteError>>()?;
        Ok(Self { steps, skipped, max_cost: intent.max_cost })
    }

    /// Whether so much may not be spent.
    #[must_use]
    pub fn is_over_max_cost(&self, needed: Usd) -> bool {
        self.max_cost.is_some_and(|limit| needed > limit)
    }

    /// The step's first affordable offer from `from` on, where `committed` is spent or held and `rest` is kept for what follows.
    ///
    /// # Errors
    /// [`RouteError::CostLimit`] if offers are left and none is affordable, [`RouteError::NoProvider`] if none is left.
    pub fn next_offer(&self, step: usize, from: usize, committed: Usd, rest: Usd) -> Result<usize, RouteError> {
        let offers = self.steps.get(step).map_or(&[][..], |routed| &routed.offers[..]);
        let needed = |offer: &Offer| committed + offer.bound_cost() + rest;
        let mut left = offers.iter().enumerate().skip(from);
        let affordable = left.find(|(_, offer)| !self.is_over_max_cost(needed(offer)));
        let cheapest = offers.iter().skip(from).map(needed).min();
        match (affordable, cheapest, self.max_cost) {
            (Some((index, _)), _, _) => Ok(index),
            (None, Some(needed), Some(limit)) => Err(RouteError::CostLimit { limit, needed }),
            _ => Err(RouteError::NoProvider),
        }
    }

    /// What the steps from `step` on cost at the most, by their cheapest offers.
    #[must_use]
    pub fn rest(&self, step: usize) -> Usd {
        (step..self.steps.len()).map(|step| self.cheapest(step)).sum()
    }

    /// What a step costs at the most, by its cheapest offer.
    #[must_use]
    pub fn cheapest(&self, step: usize) -> Usd {
        let offers = self.steps.get(step).map_or(&[][..], |routed| &routed.offers[..]);
        offers.iter().map(Offer::bound_cost).min().unwrap_or_default()
    }

    /// How long it takes at the most where every call gives a text at once: the first step, and behind it all others side by
    /// side.
    #[must_use]
    pub fn time(&self) -> Duration {
        let first = |routed: &RoutedStep| routed.offers.first().map(|offer| offer.time);
        let plan = self.steps.first().and_then(first).unwrap_or_default();
        plan + self.steps.iter().skip(1).filter_map(first).max().unwrap_or_default()
    }
}

/// Who serves a step, in the order in which they are tried, and who was passed over and why.
type Offered = (Vec<Offer>, Vec<(Candidate, &'static str)>);

fn offers(
    intent: &WorkflowIntent,
    candidates: &[Candidate],
    time: &impl Fn(Provider, Role) -> Option<Duration>,
    catalogue: &Catalogue,
    now: Timestamp,
    input: u64,
    role: Role,
) -> Result<Offered, RouteError> {
    let preferred = match intent.preferred_provider {
        Preference::Azure => Some(Provider::Azure),
        Preference::OpenAi => Some(Provider::OpenAi),
        Preference::Auto => None,
    };
    let is_preferred = |candidate: &Candidate| preferred == Some(candidate.provider);
    let mut wanted: Vec<_> = candidates.iter().enumerate().collect();
    // Stable: among a provider's own candidates the role's order stays.
    wanted.sort_by_key(|(_, candidate)| preferred.is_some() && !is_preferred(candidate));
    let (mut unknown, mut offers, mut skipped) = (None, Vec::with_capacity(wanted.len()), Vec::new());
    for (place, candidate) in wanted {
        let mut skip = |reason| skipped.push((candidate.clone(), reason));
        if intent.force_provider.is_some_and(|forced| forced != candidate.provider) {
            skip("not_forced");
            continue;
        }
        let Some(time) = time(candidate.provider, role) else {
            skip("not_configured");
            continue;
        };
        match catalogue.price(candidate.provider, &candidate.model, now) {
            Ok(price) => offers.push(Offer {
                candidate: candidate.clone(),
                price: price.clone(),
                bound: TokenUsage {
                    // A model refuses more input than it takes, and bills nothing for it.
                    input_tokens: input.min(price.max_input_tokens),
                    cached_input_tokens: 0,
                    output_tokens: role.max_output_tokens().min(price.max_output_tokens),
                },
                time,
                reason: match place {
                    _ if intent.force_provider.is_some() => "forced",
                    _ if is_preferred(candidate) => "preferred",
                    0 => "first_of_role",
                    _ => "next_of_role",
                },
            }),
            Err(error) => {
                skip("no_price");
                unknown = Some(error);
            }
        }
    }
    match (offers.is_empty(), unknown) {
        (false, _) => Ok((offers, skipped)),
        (true, Some(unknown)) => Err(unknown.into()),
        (true, None) => Err(RouteError::NoProvider),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles() -> Roles {
        Roles {
            planner: Candidate::parse_list("azure:gpt-4-turbo,openai:gpt-4o").unwrap(),
            short_message: Candidate::parse_list("openai:gpt-4o-mini,azure:gpt-4-turbo").unwrap(),
            validator: Candidate::parse_list("openai:gpt-4o-mini").unwrap(),
        }
    }

    fn find_with(body: &Value, available: impl Fn(Provider) -> bool) -> Result<Route, RouteError> {
        let intent = WorkflowIntent::parse(body.to_string().as_bytes()).unwrap().intent;
        let now = "2026-11-21T00:00:00Z".parse().unwrap();
        let seconds = |role| Duration::from_secs(if role == Role::Planner { 16 } else { 8 });
        let time = |provider, role| available(provider).then(|| seconds(role));
        Route::find(&intent, &roles(), time, &Catalogue::built_in().unwrap(), now)
    }

    fn find(body: &Value) -> Result<Route, RouteError> {
        find_with(body, |_| true)
    }

    fn request(kind: &str, platforms: &[&str]) -> Value {
        json!({"type": kind, "platforms": platforms, "data": {"theme": "summer"}})
    }

    fn order(route: &Route) -> Vec<Vec<&str>> {
        let providers =
            |routed: &RoutedStep| routed.offers.iter().map(|offer| offer.candidate.provider.as_str()).collect();
        route.steps.iter().map(providers).collect()
    }

    #[test]
    fn each_type_starts_with_the_provider_of_its_role() {
        assert_eq!(order(&find(&request("content_planning", &["x"])).unwrap()), [["azure", "openai"]]);
        assert_eq!(order(&find(&request("message_generation", &["x"])).unwrap()), [["openai", "azure"]]);
        assert_eq!(order(&find(&request("content_validation", &["x"])).unwrap()), [["openai"]]);
        assert_eq!(order(&find(&request("campaign_execution", &["x"])).unwrap()), [["azure", "openai"]]);
        let names: Vec<_> = find(&request("campaign_execution", &["x", "y"])).unwrap().steps;
        let names: Vec<_> = names.iter().map(|routed| routed.step.name.as_str()).collect();
        assert_eq!(names, ["plan", "message:x", "message:y"]);
    }

    #[test]
    fn a_forced_provider_is_the_only_one_and_a_preferred_one_the_first() {
        let mut body = request("content_planning", &["x"]);
        body["preferredProvider"] = json!("openai");
        assert_eq!(order(&find(&body).unwrap()), [["openai", "azure"]]);
        body["forceProvider"] = json!("azure");
        assert_eq!(order(&find(&body).unwrap()), [["azure"]]);
        assert_eq!(find_with(&body, |provider| provider == Provider::OpenAi), Err(RouteError::NoProvider));
    }

    #[test]
    fn max_cost_chooses_the_cheaper_way_or_refuses() {
        let mut body = request("content_planning", &["x"]);
        let route = find(&body).unwrap();
        let [azure, openai] = [0, 1].map(|offer| route.steps[0].offers[offer].bound_cost());
        assert!(openai < azure);
        body["maxCost"] = json!(openai.to_json_number());
        assert_eq!(find(&body).unwrap().next_offer(0, 0, Usd::ZERO, Usd::ZERO), Ok(1));
        body["maxCost"] = json!(0.000001);
        let refused = find(&body).unwrap().next_offer(0, 0, Usd::ZERO, Usd::ZERO);
        assert!(matches!(refused, Err(RouteError::CostLimit { .. })));
    }

    #[test]
    fn a_candidate_cannot_leave_its_place_in_a_url() {
        for bad in
            ["", "azure", "azure:", "azure:a/b", "azure:..", "azure:a=b=c", "openai:a=b", "gemini:x", "azure:a?b"]
        {
            assert!(Candidate::parse(bad).is_err(), "{bad}");
        }
        let candidate = Candidate::parse("azure:my-plan=gpt-4o").unwrap();
        assert_eq!((candidate.deployment.as_str(), candidate.model.as_str()), ("my-plan", "gpt-4o"));
    }

    #[test]
    fn messages_are_made_side_by_side_behind_the_plan() {
        let time = |kind, platforms: &[&str]| find(&request(kind, platforms)).unwrap().time().as_secs();
        assert_eq!(time("content_planning", &["a", "b"]), 16);
        assert_eq!(time("message_generation", &["a"]), 8);
        assert_eq!(time("campaign_execution", &["a", "b", "c"]), 24);
    }
}
