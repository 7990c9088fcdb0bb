//! The platform's API over the wire: what every end of a call means, and whether the fan has the message then.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::Result;
use huntaze_domain::env::Env;
use huntaze_lambda::clients;
use huntaze_messaging::platform::{Found, Platform, ReadError, Reason, SendCall, SendEnd, Wanted};
use huntaze_messaging::session::Session;
use huntaze_tests::now;
use huntaze_world::{ANY_PORT, Author, Fault, Operation, Provider, World};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{closed_port, signed};

const ACCOUNT: &str = "acc-1";
const FAN: &str = "77";
const TEXT: &str = "Lanterns at the lake, tonight";
/// Far above what the world takes for an answer.
const BOUND: Duration = Duration::from_secs(20);
/// Of calls that are not answered.
const SOON: Duration = Duration::from_millis(300);

/// The platform as a function has it, at an address.
fn platform_at(url: &str) -> Platform {
    let variables =
        [("ONLYFANS_API_URL", url), ("ONLYFANS_USER_AGENT", "Browser/1.0"), ("ONLYFANS_TIMEOUT_MS", "30000")];
    let env = Env::from_pairs(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let http = clients::http(&clients::tls(&env).unwrap()).unwrap();
    env.finish(Platform::from_env(&env, http)).unwrap()
}

struct Fixture {
    world: World,
    platform: Platform,
    session: Session,
}

impl Fixture {
    fn start() -> Result<Self> {
        let world = World::start(ANY_PORT)?;
        let (platform, session) = (platform_at(&world.onlyfans_api_url()), signed(&world, ACCOUNT));
        Ok(Self { world, platform, session })
    }

    async fn send_to(&self, recipient: &str, within: Duration) -> SendEnd {
        let call = SendCall { message_id: "msg_1", attempt: 2, recipient, text: TEXT };
        self.platform.send(&self.session, &call, Instant::now() + within, now()).await
    }

    async fn send(&self) -> SendEnd {
        self.send_to(FAN, BOUND).await
    }

    /// The end of a send that meets with a fault, and whether the fan has the message. It was one call in any case.
    async fn meets(&self, fault: Fault, within: Duration) -> (SendEnd, bool) {
        self.world.reset();
        self.world.fault(fault.on(Provider::OnlyFans));
        let end = self.send_to(FAN, within).await;
        assert_eq!(self.world.onlyfans_calls(Operation::Message).len(), 1, "{end:?}");
        (end, self.world.fan_messages().len() == 1)
    }

    async fn find(&self, since: Timestamp, known: &[String]) -> Result<Found, ReadError> {
        let wanted = Wanted { recipient: FAN, text: TEXT, since, known };
        self.platform.find(&self.session, &wanted, Instant::now() + BOUND, now()).await
    }
}

fn with_status(status: u16, body: Value, headers: &[(&str, &str)]) -> Fault {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Fault::Status { status, body: Some(body), headers }
}

fn answered(status: u16, code: Option<&str>) -> Reason {
    Reason::Answered { status, code: code.map(str::to_owned) }
}

fn raw(body: &str) -> Fault {
    Fault::Raw { body: body.to_owned() }
}

#[tokio::test]
async fn end_200_and_201_with_an_id_is_sent() -> Result<()> {
    let fixture = Fixture::start()?;
    let end = fixture.send().await;
    let reached = fixture.world.fan_messages();
    assert_eq!(end, SendEnd::Sent { platform_id: reached[0].id.to_string(), http_status: 200 });
    assert_eq!((reached.len(), reached[0].recipient.as_str(), reached[0].text.as_str()), (1, FAN, TEXT));

    let call = &fixture.world.onlyfans_calls(Operation::Message)[0];
    assert_eq!(call.body, json!({ "text": TEXT, "price": 0, "mediaFiles": [] }));
    for (name, value) in [
        ("cookie", "redacted"),
        ("user-agent", "Browser/1.0"),
        ("x-request-id", "msg_1.2"),
        ("idempotency-key", "msg_1"),
        ("content-type", "application/json"),
        ("content-length", call.body.to_string().len().to_string().as_str()),
        // No connection is used twice: one that died in silence would leave it open what became of a message.
        ("connection", "close"),
    ] {
        assert_eq!(call.headers.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!call.headers.contains_key("transfer-encoding"));

    let (end, _) = fixture.meets(with_status(201, json!({ "id": "m-5" }), &[]), BOUND).await;
    assert_eq!(end, SendEnd::Sent { platform_id: "m-5".to_owned(), http_status: 201 });
    Ok(())
}

#[tokio::test]
async fn end_connection_refused_no_such_host_and_tls_failure_is_not_delivered() -> Result<()> {
    let Fixture { world, session, .. } = Fixture::start()?;
    let call = SendCall { message_id: "msg_1", attempt: 1, recipient: FAN, text: TEXT };
    let in_the_clear = world.url().replace("http://", "https://");
    for url in [format!("http://{}", closed_port()?), "https://nobody.invalid".to_owned(), in_the_clear] {
        let end = platform_at(&url).send(&session, &call, Instant::now() + BOUND, now()).await;
        assert_eq!(end, SendEnd::NotDelivered { reason: Reason::NoConnection }, "{url}");
    }
    assert!(world.onlyfans_calls(Operation::Message).is_empty());
    Ok(())
}

#[tokio::test]
async fn end_request_not_yet_written_is_not_delivered() -> Result<()> {
    let Fixture { world, platform, session } = Fixture::start()?;
    let call = SendCall { message_id: "msg_1", attempt: 1, recipient: FAN, text: TEXT };
    // It is connected to and never says a word of TLS.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("https://{}", silent.local_addr()?);
    let end = platform_at(&url).send(&session, &call, Instant::now() + SOON, now()).await;
    assert_eq!(end, SendEnd::NotDelivered { reason: Reason::NoTime });
    // Nothing is begun that has no time.
    let end = platform.send(&session, &call, Instant::now(), now()).await;
    assert_eq!(end, SendEnd::NotDelivered { reason: Reason::NoTime });
    assert!(world.onlyfans_calls(Operation::Message).is_empty());
    Ok(())
}

#[tokio::test]
async fn end_429_waits_as_long_as_it_says_or_45_seconds() -> Result<()> {
    let fixture = Fixture::start()?;
    let in_a_minute = now() + Duration::from_secs(60);
    let date = in_a_minute.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let older = in_a_minute.strftime("%A, %d-%b-%y %H:%M:%S GMT").to_string();
    let oldest = in_a_minute.strftime("%a %b %e %H:%M:%S %Y").to_string();
    for (headers, seconds) in [
        (vec![], 45..=45),
        (vec![("retry-after", "7")], 7..=7),
        (vec![("retry-after", date.as_str())], 30..=60),
        (vec![("retry-after", older.as_str())], 30..=60),
        (vec![("retry-after", oldest.as_str())], 30..=60),
        (vec![("retry-after", "soon")], 45..=45),
    ] {
        let (end, reached) = fixture.meets(with_status(429, json!({}), &headers), BOUND).await;
        let SendEnd::Paced { retry_after } = &end else { panic!("{headers:?}: {end:?}") };
        assert!(seconds.contains(&retry_after.as_secs()) && !reached, "{headers:?}: {end:?}");
        assert_eq!(end.http_status(), Some(429));
    }
    Ok(())
}

#[tokio::test]
async fn end_400_404_413_and_422_is_refused_with_its_reason() -> Result<()> {
    let fixture = Fixture::start()?;
    for (status, code) in [(400, "invalid_request"), (404, "not_found"), (413, "too_large"), (422, "unprocessable")] {
        let end = fixture.meets(Fault::status(status), BOUND).await;
        assert_eq!(end, (SendEnd::Refused { reason: answered(status, Some(code)) }, false));
    }
    // The platform's own judgement, with nothing scripted.
    fixture.world.reset();
    let call = SendCall { message_id: "m", attempt: 1, recipient: FAN, text: &"x".repeat(1_001) };
    let end = fixture.platform.send(&fixture.session, &call, Instant::now() + BOUND, now()).await;
    assert_eq!(end, SendEnd::Refused { reason: answered(422, Some("text_too_long")) });
    Ok(())
}

#[tokio::test]
async fn end_401_is_a_session_that_is_not_good_any_more() -> Result<()> {
    let fixture = Fixture::start()?;
    fixture.world.expire_onlyfans_session(ACCOUNT);
    assert_eq!(fixture.send().await, SendEnd::SessionRefused);
    assert!(fixture.world.fan_messages().is_empty());
    let call = SendCall { message_id: "msg_1", attempt: 3, recipient: FAN, text: TEXT };
    let renewed = signed(&fixture.world, ACCOUNT);
    let end = fixture.platform.send(&renewed, &call, Instant::now() + BOUND, now()).await;
    assert!(matches!(end, SendEnd::Sent { .. }), "{end:?}");
    Ok(())
}

#[tokio::test]
async fn end_403_is_forbidden() -> Result<()> {
    let fixture = Fixture::start()?;
    let end = fixture.meets(Fault::status(403), BOUND).await;
    assert_eq!(end, (SendEnd::Forbidden { reason: answered(403, Some("forbidden")) }, false));
    Ok(())
}

#[tokio::test]
async fn end_5xx_and_408_is_ambiguous_for_it_may_have_been_sent() -> Result<()> {
    let fixture = Fixture::start()?;
    for status in [500, 502, 503, 504, 520, 408] {
        let code = if status == 408 { "timeout" } else { "unavailable" };
        let ambiguous = SendEnd::Ambiguous { reason: answered(status, Some(code)) };
        assert_eq!(fixture.meets(Fault::status(status), BOUND).await, (ambiguous.clone(), false));
        assert_eq!(fixture.meets(Fault::status(status).after_accepting(), BOUND).await, (ambiguous, true));
    }
    Ok(())
}

#[tokio::test]
async fn end_connection_lost_after_the_request_was_written_is_ambiguous() -> Result<()> {
    let fixture = Fixture::start()?;
    let lost = SendEnd::Ambiguous { reason: Reason::Lost };
    assert_eq!(fixture.meets(Fault::Reset, BOUND).await, (lost.clone(), false));
    assert_eq!(fixture.meets(Fault::Reset.after_accepting(), BOUND).await, (lost, true));
    Ok(())
}

#[tokio::test]
async fn end_deadline_after_the_request_was_written_is_ambiguous() -> Result<()> {
    let fixture = Fixture::start()?;
    let silent = SendEnd::Ambiguous { reason: Reason::NoAnswer };
    assert_eq!(fixture.meets(Fault::Hang, SOON).await, (silent.clone(), false));
    assert_eq!(fixture.meets(Fault::Hang.after_accepting(), SOON).await, (silent, true));
    // The answer begins in time and does not end.
    let unread = SendEnd::Ambiguous { reason: Reason::Unreadable { status: 200 } };
    assert_eq!(fixture.meets(Fault::Drip { ms: 60_000 }, SOON).await, (unread, true));
    Ok(())
}

#[tokio::test]
async fn end_200_without_an_id_or_with_a_body_that_cannot_be_read_is_ambiguous() -> Result<()> {
    let fixture = Fixture::start()?;
    let no_id = SendEnd::Ambiguous { reason: Reason::NoId { status: 200 } };
    for body in ["{}", r#"{"id": null}"#, r#"{"id": 0, "text": "x"}"#, r#"{"error": {"code": "x"}}"#, "[]"] {
        assert_eq!(fixture.meets(raw(body).after_accepting(), BOUND).await, (no_id.clone(), true), "{body}");
    }
    let unreadable = SendEnd::Ambiguous { reason: Reason::Unreadable { status: 200 } };
    for fault in [Fault::Garbage.after_accepting(), Fault::Truncate, raw("").after_accepting()] {
        assert_eq!(fixture.meets(fault.clone(), BOUND).await, (unreadable.clone(), true), "{fault:?}");
    }
    // Longer than anybody reads, whatever it says.
    assert_eq!(fixture.meets(Fault::Flood { bytes: 1_000_000 }, BOUND).await, (unreadable, false));
    Ok(())
}

#[tokio::test]
async fn end_with_any_other_status_is_ambiguous_and_no_redirect_is_followed() -> Result<()> {
    let fixture = Fixture::start()?;
    let location = fixture.world.onlyfans_api_url() + "/chats/78/messages";
    for status in [301, 302, 303, 307, 308] {
        let end = fixture.meets(with_status(status, json!({}), &[("location", &location)]), BOUND).await;
        assert_eq!(end, (SendEnd::Ambiguous { reason: answered(status, None) }, false));
    }
    for status in [202, 204, 206, 402, 405, 409, 410, 425, 451] {
        let (end, _) = fixture.meets(with_status(status, json!({ "id": 5 }), &[]), BOUND).await;
        assert_eq!(end, SendEnd::Ambiguous { reason: answered(status, None) });
    }
    Ok(())
}

#[tokio::test]
async fn a_hostile_recipient_is_one_segment_of_the_path_or_none() -> Result<()> {
    let fixture = Fixture::start()?;
    for recipient in
        ["../users", "a/b", "77?price=5#x", "%2e%2e", "..%2f", "a\\b", "77;x=1", "a b", "é", "a&b=c", "..."]
    {
        fixture.world.reset();
        assert!(matches!(fixture.send_to(recipient, BOUND).await, SendEnd::Sent { .. }), "{recipient}");
        assert_eq!(fixture.world.fan_messages()[0].recipient, recipient);
    }
    fixture.world.reset();
    for recipient in ["", ".", ".."] {
        let end = fixture.send_to(recipient, BOUND).await;
        assert_eq!(end, SendEnd::Refused { reason: Reason::Unaddressable }, "{recipient:?}");
        let wanted = Wanted { recipient, text: TEXT, since: now(), known: &[] };
        let look = fixture.platform.find(&fixture.session, &wanted, Instant::now() + BOUND, now()).await;
        assert_eq!(look, Err(ReadError::Unaddressable));
    }
    assert!(fixture.world.onlyfans_calls(Operation::Message).is_empty());
    Ok(())
}

#[tokio::test]
async fn an_ambiguous_end_is_resolved_by_the_conversation() -> Result<()> {
    let fixture = Fixture::start()?;
    let began = now();
    for (fault, within) in [
        (Fault::Hang.after_accepting(), SOON),
        (Fault::Reset.after_accepting(), BOUND),
        (Fault::status(502).after_accepting(), BOUND),
        (raw("{}").after_accepting(), BOUND),
        (Fault::Truncate, BOUND),
    ] {
        let (end, reached) = fixture.meets(fault, within).await;
        assert!(matches!(end, SendEnd::Ambiguous { .. }) && reached, "{end:?}");
        let id = fixture.world.fan_messages()[0].id.to_string();
        assert_eq!(fixture.find(began, &[]).await, Ok(Found::Sent { platform_id: id.clone() }));
        assert_eq!(fixture.find(began, &[id]).await, Ok(Found::Absent));
    }
    let (end, reached) = fixture.meets(Fault::Reset, BOUND).await;
    assert!(matches!(end, SendEnd::Ambiguous { .. }) && !reached, "{end:?}");
    assert_eq!(fixture.find(began, &[]).await, Ok(Found::Absent));
    Ok(())
}

#[tokio::test]
async fn what_others_wrote_or_we_wrote_before_is_not_found() -> Result<()> {
    let fixture = Fixture::start()?;
    let began = now();
    let write = |author, text: &str, at| fixture.world.write_to_conversation(ACCOUNT, FAN, author, text, at);
    write(Author::Fan, TEXT, began);
    write(Author::Creator, TEXT, began - Duration::from_secs(120));
    write(Author::Creator, "something else", began);
    fixture.world.write_to_conversation(ACCOUNT, "78", Author::Creator, TEXT, began);
    fixture.world.write_to_conversation("acc-2", FAN, Author::Creator, TEXT, began);
    assert_eq!(fixture.find(began, &[]).await, Ok(Found::Absent));
    // More has been written since than is shown: nobody can say that it is not there.
    for n in 0..20 {
        write(Author::Fan, "and then", began + Duration::from_secs(n));
    }
    assert_eq!(fixture.find(began, &[]).await, Ok(Found::NotAllShown));
    let id = write(Author::Creator, "Lanterns at the lake,<br /> tonight ", began + Duration::from_secs(30));
    assert_eq!(fixture.find(began, &[]).await, Ok(Found::Sent { platform_id: id.to_string() }));
    let asked = &fixture.world.onlyfans_calls(Operation::Conversation)[0];
    assert!(asked.path.ends_with("/chats/77/messages?limit=20&order=desc"), "{}", asked.path);
    Ok(())
}

#[tokio::test]
async fn a_look_that_fails_says_why_and_that_nothing_is_known() -> Result<()> {
    let fixture = Fixture::start()?;
    for (fault, error) in [
        (Fault::status(401), ReadError::SessionRefused),
        (Fault::status(403), ReadError::Forbidden),
        (Fault::rate_limited(7), ReadError::Paced { retry_after: Duration::from_secs(7) }),
        (Fault::status(503), ReadError::Answered { status: 503 }),
        (Fault::status(404), ReadError::Answered { status: 404 }),
        (Fault::Reset, ReadError::Unreachable),
        (Fault::Garbage, ReadError::Unreadable),
        (Fault::Truncate, ReadError::Unreadable),
        (Fault::Flood { bytes: 1_000_000 }, ReadError::Unreadable),
        (raw("{}"), ReadError::Unreadable),
    ] {
        fixture.world.fault(fault.clone().on(Provider::OnlyFans).of(Operation::Conversation));
        assert_eq!(fixture.find(now(), &[]).await, Err(error), "{fault:?}");
    }
    fixture.world.fault(Fault::Hang.on(Provider::OnlyFans).of(Operation::Conversation));
    let wanted = Wanted { recipient: FAN, text: TEXT, since: now(), known: &[] };
    let look = fixture.platform.find(&fixture.session, &wanted, Instant::now() + SOON, now()).await;
    assert_eq!(look, Err(ReadError::NoAnswer));
    Ok(())
}

#[tokio::test]
async fn a_session_says_whose_it_is() -> Result<()> {
    let fixture = Fixture::start()?;
    let me = fixture.platform.me(&fixture.session, Instant::now() + BOUND, now()).await?;
    assert_eq!(
        (me.platform_user_id.as_str(), me.username.as_deref()),
        (fixture.session.platform_user_id(), Some(ACCOUNT))
    );
    fixture.world.expire_onlyfans_session(ACCOUNT);
    let me = fixture.platform.me(&fixture.session, Instant::now() + BOUND, now()).await;
    assert_eq!(me, Err(ReadError::SessionRefused));
    Ok(())
}

#[tokio::test]
async fn no_end_says_anything_of_the_text_the_fan_the_session_or_the_address() -> Result<()> {
    let fixture = Fixture::start()?;
    let fan = "fanofthelake";
    let secret = json!({ "error": { "code": fan, "message": format!("{TEXT} {fan} sess=world") } });
    let mut said = Vec::new();
    for status in [400, 403, 404, 409, 422, 429, 500, 503] {
        fixture.world.fault(with_status(status, secret.clone(), &[]).on(Provider::OnlyFans));
        said.push(format!("{:?}", fixture.send_to(fan, BOUND).await));
    }
    let call = SendCall { message_id: "msg_1", attempt: 1, recipient: fan, text: TEXT };
    let closed = platform_at(&format!("http://{}", closed_port()?));
    let end = closed.send(&fixture.session, &call, Instant::now() + BOUND, now()).await;
    let SendEnd::NotDelivered { reason } = &end else { panic!("{end:?}") };
    said.push(format!("{end:?} {reason}"));
    let wanted = Wanted { recipient: fan, text: TEXT, since: now(), known: &[] };
    let error = closed.find(&fixture.session, &wanted, Instant::now() + BOUND, now()).await.unwrap_err();
    said.push(format!("{error:?} {error} {:?}", fixture.session));
    for line in &said {
        for secret in [fan, "Lanterns", "sess=", "127.0.0.1", "0123456789abcdef"] {
            assert!(!line.contains(secret), "{line}");
        }
    }
    Ok(())
}

#[test]
fn an_address_that_would_tell_the_session_to_others_is_refused() {
    let read = |url: &str, agent: &str| {
        let variables = [("ONLYFANS_API_URL", url), ("ONLYFANS_USER_AGENT", agent)];
        let env = Env::from_pairs(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let http = clients::http(&clients::tls(&env).unwrap()).unwrap();
        env.finish(Platform::from_env(&env, http)).map(drop).map_err(|error| error.to_string())
    };
    for fine in
        ["", "https://gateway.huntaze.test/api2/v2/", "http://127.0.0.1:4010/onlyfans/api2/v2", "http://localhost:1"]
    {
        assert_eq!(read(fine, "Browser/1.0"), Ok(()), "{fine}");
    }
    for wrong in [
        "http://gateway.huntaze.test/api2",
        "ftp://127.0.0.1",
        "gateway",
        "https://s3cret:s3cret@gateway.huntaze.test",
        "https://gateway.huntaze.test/?key=s3cret",
        "https://gateway.huntaze.test/#s3cret",
    ] {
        let said = read(wrong, "Browser/1.0").unwrap_err();
        assert!(said.contains("ONLYFANS_API_URL") && !said.contains("s3cret"), "{said}");
    }
    for agent in ["", "s3cret\r\nX-Other: 1"] {
        let said = read("", agent).unwrap_err();
        assert!(said.contains("ONLYFANS_USER_AGENT") && !said.contains("s3cret"), "{said}");
    }
}
