//! Sessions with the platform in DynamoDB: sealed, bound to their account, opened with the keys that there are.

use anyhow::{Result, ensure};
use huntaze_messaging::session::{MAX_SESSION_BYTES, Session, SessionError, SessionParts};
use huntaze_tests::{App, now};
use serde_json::{Map, Value, json};

use crate::support::{sessions, text};

const OTHER_KEY: &str = "newer:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn parts() -> SessionParts {
    SessionParts {
        platform_user_id: "12345".to_owned(),
        user_agent: Some("Browser/1.0".to_owned()),
        cookie: "sess=s3cret-cookie; auth_id=12345".to_owned(),
        headers: [("x-bc".to_owned(), "s3cret-header \"quoted\"".to_owned())].into(),
    }
}

fn session() -> Session {
    Session::from_parts(parts()).unwrap()
}

/// A key that an app's functions have, before those that it has.
fn with_key(app: App, key: &str) -> App {
    let keys = format!("{key},{}", app.env()["OF_SESSION_KEYS"]);
    app.set("OF_SESSION_KEYS", keys)
}

/// The only item of the table, each attribute with its type.
async fn item(app: &App) -> Result<Map<String, Value>> {
    let items = app.stores.of_session_items().await?;
    ensure!(items.len() == 1, "{} items", items.len());
    let typed = |(name, value): (&String, &Value)| {
        let kind = if ["nonce", "sealed"].contains(&name.as_str()) { "B" } else { "S" };
        (name.clone(), json!({ kind: value }))
    };
    Ok(items[0].iter().map(typed).collect())
}

#[tokio::test]
async fn a_session_comes_back_as_it_was_and_only_its_seal_is_kept() -> Result<()> {
    let app = App::start().await?;
    let table = sessions(&app);
    assert_eq!(table.load("acc-1").await.unwrap_err(), SessionError::Missing);
    table.store("acc-1", &session(), now()).await?;
    assert!(table.load("acc-1").await? == session());
    assert_eq!(table.load("acc-2").await.unwrap_err(), SessionError::Missing);

    let kept = Value::Object(item(&app).await?);
    let names: Vec<_> = kept.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["accountId", "keyId", "nonce", "platformUserId", "sealed", "updatedAt", "userAgent"]);
    assert!(!kept.to_string().contains("s3cret"), "{kept}");

    // What is stored anew is what is loaded from then on.
    let renewed = SessionParts { cookie: "sess=renewed".to_owned(), user_agent: None, headers: [].into(), ..parts() };
    let renewed = Session::from_parts(renewed).unwrap();
    table.store("acc-1", &renewed, now()).await?;
    assert!(table.load("acc-1").await? == renewed);
    assert!(!item(&app).await?.contains_key("userAgent"));
    Ok(())
}

#[tokio::test]
async fn the_largest_session_comes_back() -> Result<()> {
    let app = App::start().await?;
    // Every character one that JSON escapes.
    let quotes = |bytes: usize| "\"".repeat(bytes);
    let headers = (0..3).map(|n| (format!("x-{n}"), quotes(2_700))).collect();
    let largest = Session::from_parts(SessionParts { cookie: quotes(8_192), headers, ..parts() }).unwrap();
    let table = sessions(&app);
    table.store("acc-1", &largest, now()).await?;
    assert!(table.load("acc-1").await? == largest);
    let sealed = item(&app).await?["sealed"]["B"].as_str().map_or(0, str::len);
    assert!(sealed > 2 * MAX_SESSION_BYTES, "{sealed}");
    Ok(())
}

#[tokio::test]
async fn keys_are_rotated() -> Result<()> {
    let app = App::start().await?;
    sessions(&app).store("acc-1", &session(), now()).await?;
    let app = with_key(app, OTHER_KEY);
    let both = sessions(&app);
    assert!(both.load("acc-1").await? == session());
    assert_eq!(item(&app).await?["keyId"], json!({ "S": "test" }));
    both.store("acc-1", &session(), now()).await?;
    assert_eq!(item(&app).await?["keyId"], json!({ "S": "newer" }));
    // The older key is not needed any more; without the newer it does not open.
    let old = app.env()["OF_SESSION_KEYS"].rsplit(',').next().map(str::to_owned).unwrap();
    let app = app.set("OF_SESSION_KEYS", OTHER_KEY);
    assert!(sessions(&app).load("acc-1").await? == session());
    let app = app.set("OF_SESSION_KEYS", old);
    assert_eq!(sessions(&app).load("acc-1").await.unwrap_err(), SessionError::UnknownKey);
    // Another key under the same name.
    let app = app.set("OF_SESSION_KEYS", OTHER_KEY.replace("AAEC", "BBBB"));
    assert_eq!(sessions(&app).load("acc-1").await.unwrap_err(), SessionError::Refused);
    Ok(())
}

#[tokio::test]
async fn what_was_changed_or_is_anothers_does_not_open() -> Result<()> {
    let app = App::start().await?;
    let table = sessions(&app);
    table.store("acc-1", &session(), now()).await?;
    let own = item(&app).await?;
    let with = |name: &str, value: Value| {
        let mut changed = own.clone();
        changed.insert(name.to_owned(), value);
        changed
    };
    let flipped = |name: &str| {
        let text = text(&own[name]["B"]);
        let first = if text.starts_with('A') { "B" } else { "A" };
        json!({ "B": format!("{first}{}", &text[1..]) })
    };
    // Another's item, with one's own session in it.
    app.stores.put_of_session_item(with("accountId", json!({ "S": "acc-2" }))).await?;
    assert_eq!(table.load("acc-2").await.unwrap_err(), SessionError::Refused);
    for (name, value) in [
        ("sealed", flipped("sealed")),
        ("nonce", flipped("nonce")),
        ("nonce", json!({ "B": "AAAA" })),
        ("platformUserId", json!({ "S": "54321" })),
        ("userAgent", json!({ "S": "Browser/2.0" })),
    ] {
        app.stores.put_of_session_item(with(name, value)).await?;
        assert_eq!(table.load("acc-1").await.unwrap_err(), SessionError::Refused, "{name}");
    }
    let mut without = own.clone();
    without.remove("userAgent");
    app.stores.put_of_session_item(without).await?;
    assert_eq!(table.load("acc-1").await.unwrap_err(), SessionError::Refused);
    Ok(())
}

#[tokio::test]
async fn an_item_that_is_none_of_ours_cannot_be_read() -> Result<()> {
    let app = App::start().await?;
    let table = sessions(&app);
    table.store("acc-1", &session(), now()).await?;
    let own = item(&app).await?;
    for name in ["keyId", "nonce", "sealed", "platformUserId"] {
        let mut odd = own.clone();
        odd.remove(name);
        app.stores.put_of_session_item(odd.clone()).await?;
        assert_eq!(table.load("acc-1").await.unwrap_err(), SessionError::Unreadable, "without {name}");
        odd.insert(name.to_owned(), json!({ "N": "1" }));
        app.stores.put_of_session_item(odd).await?;
        assert_eq!(table.load("acc-1").await.unwrap_err(), SessionError::Unreadable, "{name} a number");
    }
    let mut large = own;
    large.insert("sealed".to_owned(), json!({ "B": "AAAA".repeat(MAX_SESSION_BYTES + 1) }));
    app.stores.put_of_session_item(large).await?;
    assert_eq!(table.load("acc-1").await.unwrap_err(), SessionError::Unreadable);
    Ok(())
}

#[tokio::test]
async fn an_error_of_the_table_passes_and_says_no_secret() -> Result<()> {
    let app = App::start().await?.set("DYNAMODB_OF_SESSIONS_TABLE", "no-such-table");
    let table = sessions(&app);
    let (loaded, stored) = (table.load("acc-1").await.unwrap_err(), table.store("acc-1", &session(), now()).await);
    for error in [loaded, stored.unwrap_err()] {
        assert!(error.is_passing(), "{error}");
        assert_eq!(error.to_string(), "the table of sessions did not answer: ResourceNotFoundException");
    }
    let printed = format!("{table:?} {:?} {:?}", session(), parts());
    assert!(!printed.contains("s3cret") && !printed.contains("12345"), "{printed}");
    assert!(!SessionError::Missing.is_passing() && !SessionError::Refused.is_passing());
    Ok(())
}
