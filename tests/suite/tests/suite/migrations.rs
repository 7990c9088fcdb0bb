//! The schema comes from the migrations alone.

use std::time::Duration;

use anyhow::Result;
use huntaze_tests::App;
use serde_json::json;

#[tokio::test]
async fn migrations_apply_to_an_empty_database_once_even_side_by_side() -> Result<()> {
    let app = App::start().await?;
    app.stores.execute("DROP SCHEMA orchestrator CASCADE", &[]).await?;
    let fleet = app.fleet("migrate", 2).await?;
    let [first, second] = fleet.functions() else { unreachable!() };
    let (event, bound) = (json!({}), Duration::from_secs(30));
    let (one, two) = tokio::join!(first.invoke(&event, bound), second.invoke(&event, bound));
    let mut applied = [one?["applied"].as_array().unwrap().len(), two?["applied"].as_array().unwrap().len()];
    applied.sort_unstable();
    assert_eq!(applied[0], 0);
    assert!(applied[1] > 0);
    assert_eq!(first.invoke(&event, bound).await?, json!({"applied": []}));
    // Beside another program's tables nothing is touched.
    let foreign = app.stores.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", &[]).await?;
    assert!(foreign.is_empty(), "{foreign:?}");
    Ok(())
}
