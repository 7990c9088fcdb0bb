//! Queue `huntaze-notifications-production`: a notification goes over each of its channels, once.

use huntaze_lambda::clients::{self, Aws};
use huntaze_lambda::queue::{self, Consumer, Message, Undone};
use huntaze_lambda::{config, logs};
use huntaze_notify::delivery::Receive;
use huntaze_notify::fanout::{Fanout, Unfinished};
use huntaze_notify::message::Told;

struct App {
    fanout: Fanout,
}

impl Consumer for App {
    async fn handle(&self, message: Message) -> Result<(), Undone> {
        let told = Told::read(&message.object()?).map_err(|faults| Undone::faulty(&faults))?;
        let receive = Receive::new(message.id, message.now, message.started);
        self.fanout.deliver(&told, &receive).await.map_err(|left| match left {
            Unfinished::Busy { after } => Undone::Later { after },
            Unfinished::Failed { after, .. } => Undone::Retry { after, cause: left.into() },
            Unfinished::Exhausted(_) => Undone::Reject(left.to_string()),
        })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let (aws, http) = (Aws::new(&env, &tls), clients::http(&tls)?);
    let fanout = Fanout::from_env(&env, http, aws.dynamodb(), aws.sns(), aws.sqs());
    let app = env.finish(Some(App { fanout }))?;
    queue::serve(&app, aws.sqs()).await
}
