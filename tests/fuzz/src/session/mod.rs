//! Sessions, in any request's headers.
//!
//! An input is a method, a line for each header, and stands for tokens by name, since no fuzzer finds a key:
//!
//! ```text
//! POST
//! origin: https://app.huntaze.com
//! cookie: theme=dark; authjs.session-token.0=<part v5-valid-minimal 0 200>; authjs.session-token.1=<part v5-valid-minimal 200 999>
//! authorization: Bearer <flip v4-valid-role 1203>
//! ```
//!
//! `script.rs` lists what may stand between the angles. What must hold is that the code and `model.rs` agree on each request, and
//! the model lets in nobody but by a good token, byte for byte, in a place that is its own.

mod model;
mod script;
mod tokens;

use std::sync::LazyLock;

use http::{HeaderMap, Method};
use huntaze_domain::principal::Principal;
use huntaze_lambda::session::{AuthError, ServiceTokens, SessionConfig, Sessions};
use jiff::Timestamp;

use crate::MAX_INPUT_BYTES;
use crate::message::Message;
use model::Verdict;
use tokens::Token;

/// The sites that may use a cookie.
const ORIGINS: [&str; 2] = ["https://app.huntaze.com", "http://localhost:3000"];

static SESSIONS: LazyLock<Sessions> = LazyLock::new(sessions);

#[expect(clippy::expect_used, reason = "the configuration is a constant, and a test reads it")]
fn sessions() -> Sessions {
    let config = SessionConfig {
        // One secret is about to replace the other, as in the vector `v5-rotated-secret`.
        secrets: vec!["new-secret".to_owned(), tokens::fixture()["secret"].as_str().unwrap_or_default().to_owned()],
        role_claim: "role".to_owned(),
        service: Some(ServiceTokens {
            hs256_secret: Some(tokens::HS256_SECRET.to_owned()),
            rs256_public_key_pem: Some(tokens::RS256_PUBLIC_KEY.to_owned()),
            issuer: tokens::ISSUER.to_owned(),
            audience: tokens::AUDIENCE.to_owned(),
        }),
        allowed_origins: ORIGINS.map(str::to_owned).to_vec(),
    };
    Sessions::new(config).expect("the configuration is valid")
}

/// Holds the code's answer to a request against the model's. Returns whether somebody was let in.
///
/// # Panics
/// If the two differ, or the code answers differently when asked again.
pub fn check(data: &[u8]) -> bool {
    if data.len() > MAX_INPUT_BYTES {
        return false;
    }
    let (method, headers, minted) = request(data);
    let now = Timestamp::from_second(tokens::NOW).unwrap_or_default();
    let answer = SESSIONS.authenticate(&method, &headers, now);
    assert_eq!(answer, SESSIONS.authenticate(&method, &headers, now), "the same request, asked again");

    let Verdict { expected, certain } = model::verdict(&method, &headers, &minted);
    let found: Result<&Principal, bool> = answer.as_ref().map_err(|error| *error == AuthError::ForbiddenOrigin);
    let agrees = found == expected.as_ref().map_err(|refusal| refusal.is_of_origin()) || (!certain && found.is_err());
    assert!(agrees, "{method} {headers:?}\nthe code says {answer:?}\nthe model says {expected:?}");
    answer.is_ok()
}

/// The request that an input stands for, and the good tokens that it made itself.
fn request(data: &[u8]) -> (Method, HeaderMap, Vec<Token>) {
    let message = Message::read(data);
    let method = Method::from_bytes(message.first_line.trim().as_bytes()).unwrap_or(Method::POST);
    let mut script = script::Script::default();
    let headers = message.header_map(|value| script.expand(value));
    (method, headers, script.minted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_good_token_lets_in_where_it_belongs() {
        let good: Vec<_> = tokens::all().iter().filter(|token| token.good.is_some()).collect();
        assert_eq!(good.len(), 10, "9 vectors and a signed one");
        for token in good {
            assert!(check(format!("POST\nauthorization: Bearer <token {}>", token.name).as_bytes()), "{}", token.name);
            for cookie in token.good.as_ref().unwrap().cookies {
                let chunks = format!("{cookie}.1=<part {0} 90 99999>; {cookie}.0=<part {0} 0 90>", token.name);
                for cookies in [format!("{cookie}=<token {}>", token.name), chunks] {
                    assert!(check(format!("GET\ncookie: {cookies}").as_bytes()), "{cookies}");
                    assert!(!check(format!("POST\ncookie: {cookies}").as_bytes()), "{cookies} from nowhere");
                }
            }
        }
    }

    #[test]
    fn no_bad_token_and_no_bent_one_lets_in() {
        for token in tokens::all() {
            let bits = token.text.len() * 8;
            let bent = (0..12).map(|step| format!("<flip {} {}>", token.name, step * bits / 12));
            let bad = token.good.is_none().then(|| format!("<token {}>", token.name));
            for value in bent.chain(bad) {
                assert!(!check(format!("GET\nauthorization: Bearer {value}").as_bytes()), "{value}");
                for cookie in model::COOKIES {
                    assert!(!check(format!("GET\ncookie: {cookie}={value}").as_bytes()), "{cookie}={value}");
                }
            }
        }
    }

    #[test]
    fn a_signed_token_of_the_inputs_own_lets_in() {
        let claims = r#"{"aud":"huntaze-orchestrator","exp":1795288310,"iss":"huntaze-platform","sub":"svc"}"#;
        let with = |header: &str| format!("GET\nauthorization: Bearer <hs256 {header}|{claims}>");
        assert!(check(with(r#"{"alg":"HS256"}"#).as_bytes()));
        assert!(!check(with(r#"{"alg":"HS256","crit":["exp"]}"#).as_bytes()));
        assert!(!check(with(r#"{"alg":"none"}"#).as_bytes()));
    }
}
