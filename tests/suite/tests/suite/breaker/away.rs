//! While Redis is away each process decides for itself, by the same rules and by what it heard last.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use huntaze_breaker::{Breaker, Denied, Keeper, Name, Permit, Report, State, Token};
use huntaze_tests::{App, eventually};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{BOUND, OPEN_MS, age, asked, breaker, call, name, open, permitted, standing, told, waits};
use crate::support::closed_port;

/// Asks a process whose Redis is away.
async fn alone(breaker: &Breaker, name: &Name) -> Result<Permit, Denied> {
    let said = breaker.ask(name, Token::random()).await;
    assert_eq!(said.by, Keeper::Process);
    said.permit
}

/// Five failures, with nobody to tell.
async fn open_alone(breaker: &Breaker, name: &Name) -> Result<()> {
    for n in 1..=5 {
        let permit = alone(breaker, name).await?;
        // Said twice it counts once.
        let first = breaker.report(&permit, Report::Failure).await?;
        assert_eq!((first.changed, breaker.report(&permit, Report::Failure).await?.changed), (n == 5, false));
    }
    Ok(())
}

#[tokio::test]
async fn design_redis_away_the_same_machine_runs_in_the_process() -> Result<()> {
    let app = App::start().await?;
    let url = format!("redis://{}", closed_port()?);
    let breaker = breaker(&app, &[("REDIS_URL", &url), ("BREAKER_OPEN_MS", "300")])?;
    let name = name("azure:gpt");
    let early = alone(&breaker, &name).await?;
    open_alone(&breaker, &name).await?;
    // When it is over, one probe is let through.
    let probe = eventually(BOUND, async || Ok(alone(&breaker, &name).await?)).await?;
    assert!(probe.is_probe() && alone(&breaker, &name).await.is_err());
    assert!(!breaker.report(&early, Report::Success).await?.changed, "it is of an older epoch");
    assert_eq!(breaker.report(&probe, Report::Success).await?.standing.state, State::Closed);
    let next = alone(&breaker, &name).await?;
    assert!(!next.is_probe() && next.epoch() > probe.epoch());
    let limited = Report::RateLimited { retry_after: Some(std::time::Duration::from_secs(60)) };
    assert!(!breaker.report(&next, limited).await?.changed);
    assert!(matches!(alone(&breaker, &name).await, Err(Denied::Paced { .. })));
    let peeked = breaker.peek(&[name, self::name("openai:gpt")]).await;
    assert_eq!(peeked.by, Keeper::Process);
    assert!(peeked.standings.iter().all(|circuit| circuit.state == State::Closed));
    assert!(!peeked.standings[0].paced.is_zero() && peeked.standings[1].paced.is_zero());
    Ok(())
}

/// A way to Redis with a gate: where that is shut, connections end and no new one passes.
#[expect(clippy::disallowed_methods, reason = "no Lambda function: nothing freezes it")]
async fn gated(target: SocketAddr) -> Result<(SocketAddr, watch::Sender<bool>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (addr, gate) = (listener.local_addr()?, watch::Sender::new(true));
    let mut opened = gate.subscribe();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            if *opened.borrow_and_update() {
                let mut shut = opened.clone();
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = shut.wait_for(|open| !open) => {}
                    }
                });
            }
        }
    });
    Ok((addr, gate))
}

/// Asks until the process decides for itself.
async fn until_alone(breaker: &Breaker, name: &Name) -> Result<Result<Permit, Denied>> {
    eventually(BOUND, async || {
        let said = breaker.ask(name, Token::random()).await;
        ensure!(said.by == Keeper::Process, "Redis is there");
        Ok(said.permit)
    })
    .await
}

#[tokio::test]
async fn what_redis_said_last_holds_while_it_is_away_and_what_it_says_when_it_is_back() -> Result<()> {
    let app = App::start().await?;
    let mut url = reqwest::Url::parse(&app.env()["REDIS_URL"])?;
    let target = tokio::net::lookup_host((url.host_str().unwrap(), url.port().unwrap())).await?.next().unwrap();
    let (addr, gate) = gated(target).await?;
    url.set_port(Some(addr.port())).unwrap();
    let (direct, cut_off) = (breaker(&app, &[])?, breaker(&app, &[("REDIS_URL", url.as_str())])?);
    let (opened, other, mut redis) = (name("azure:gpt"), name("openai:gpt"), app.stores.redis().await?);
    open(&direct, &opened).await?;
    assert!(asked(&cut_off, &opened).await?.permit.is_err());
    let permit = permitted(&cut_off, &other).await?;
    assert_eq!(call(&cut_off, &other, Report::Failure).await?.failures, 1);

    let _ = gate.send_replace(false);
    assert!(waits(until_alone(&cut_off, &opened).await?, 1..=OPEN_MS), "it knows that it is open");
    assert!(cut_off.report(&permit, Report::Failure).await.is_err(), "Redis let it through, and cannot be told");
    // It goes on from the failure that it told Redis.
    for n in 2..=5 {
        let permit = alone(&cut_off, &other).await?;
        let said = cut_off.report(&permit, Report::Failure).await?;
        assert_eq!((said.changed, said.standing.failures), (n == 5, n % 5));
    }
    assert!(waits(alone(&cut_off, &other).await, 1..=OPEN_MS));
    let local = cut_off.peek(&[opened.clone(), other.clone()]).await;
    assert!(local.standings.iter().all(|circuit| matches!(circuit.state, State::Open { .. })));
    // Meanwhile others have found that the service is back.
    age(&mut redis, &opened, OPEN_MS).await?;
    let probe = permitted(&direct, &opened).await?;
    let epoch = told(&direct, &probe, Report::Success).await?.standing.epoch;

    let _ = gate.send_replace(true);
    let back = permitted(&cut_off, &opened).await?;
    assert_eq!((back.is_probe(), back.epoch()), (false, epoch));
    assert!(!permitted(&cut_off, &other).await?.is_probe(), "what only this process knew is forgotten");
    assert_eq!(standing(&cut_off, &other).await?.failures, 1);
    Ok(())
}
