//! DynamoDB without a socket: the SDK's HTTP connector hands each call to the embedded engine in this thread, through a
//! layer that makes faults.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use dynoxide::Database;
use serde_json::Value;
use store::{Store, StoreConfig};
use tokio::time::sleep;

use super::life::Life;
use super::world::World;

/// More calls than this in one run, and something runs in circles.
const MOST_CALLS: u64 = 2_000_000;

/// An index lags behind its table by so many milliseconds at most.
const MOST_LAG: u64 = 3_000;

type Answer = (u16, String);

/// A database in memory, with its tables, and who may watch what is written to it.
#[derive(Clone)]
pub struct Engine {
    pub db: Arc<Database>,
    world: Arc<World>,
    /// The last answers to queries of an index: what a lagging index would answer.
    last: Arc<Mutex<BTreeMap<String, (u64, Answer)>>>,
}

/// Whose calls they are.
#[derive(Clone)]
enum Caller {
    /// One that meets no faults.
    Observer,
    /// Ops.
    Ops,
    /// A life of emit-retry.
    Life(Arc<Life>),
}

/// The way of one caller to the engine.
#[derive(Clone)]
struct Connector {
    engine: Engine,
    caller: Caller,
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    DiesBefore,
    DiesAfter,
    Refused,
    LostBefore,
    LostAfter,
    FailsBefore,
    FailsAfter,
    Throttled,
    HangsBefore,
    HangsAfter,
    Slow,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::DiesBefore => "process died before a store call",
            Self::DiesAfter => "process died after a store call took effect",
            Self::Refused => "store refused the connection",
            Self::LostBefore => "store call cut before it took effect",
            Self::LostAfter => "store answer cut after the effect",
            Self::FailsBefore => "store 500 before the effect",
            Self::FailsAfter => "store 500 after the effect",
            Self::Throttled => "store throttled",
            Self::HangsBefore => "store call hung before it took effect",
            Self::HangsAfter => "store call hung after the effect",
            Self::Slow => "store slow",
        }
    }
}

impl Engine {
    /// A database of its own, with the tables.
    pub async fn new(world: &Arc<World>) -> Self {
        let db = Arc::new(Database::memory().unwrap());
        let engine = Self { db, world: Arc::clone(world), last: Arc::default() };
        engine.observer().create_tables(store::tables::ALL).await.unwrap();
        engine
    }

    /// A store without faults.
    pub fn observer(&self) -> Store {
        self.store(Caller::Observer)
    }

    /// The store as ops has it.
    pub fn for_ops(&self) -> Store {
        self.store(Caller::Ops)
    }

    /// The store as a life of emit-retry has it.
    pub fn for_life(&self, life: &Arc<Life>) -> Store {
        self.store(Caller::Life(Arc::clone(life)))
    }

    fn store(&self, caller: Caller) -> Store {
        let connector = Connector { engine: self.clone(), caller };
        Store::connect_by(&config(), SharedHttpClient::new(connector))
    }

    /// Every row of a table, without faults.
    pub fn rows(&self, table: &str) -> Vec<Value> {
        let mut rows = Vec::new();
        let mut start = String::new();
        loop {
            let (status, text) =
                self.run("DynamoDB_20120810.Scan", &format!(r#"{{"TableName":"opshook_{table}"{start}}}"#));
            assert_eq!(status, 200, "{text}");
            let mut page: Value = serde_json::from_str(&text).unwrap();
            rows.append(page["Items"].as_array_mut().unwrap());
            match &page["LastEvaluatedKey"] {
                Value::Null => return rows,
                key => start = format!(r#","ExclusiveStartKey":{key}"#),
            }
        }
    }

    /// One row of a table, without faults.
    pub fn row(&self, table: &str, pk: &str) -> Option<Value> {
        let body = format!(r#"{{"TableName":"opshook_{table}","Key":{{"pk":{{"S":"{pk}"}}}},"ConsistentRead":true}}"#);
        let (status, text) = self.run("DynamoDB_20120810.GetItem", &body);
        assert_eq!(status, 200, "{text}");
        let mut answer: Value = serde_json::from_str(&text).unwrap();
        answer.get_mut("Item").map(Value::take)
    }

    /// Writes a row, without faults.
    pub fn put(&self, table: &str, row: &Value) {
        let body = format!(r#"{{"TableName":"opshook_{table}","Item":{row}}}"#);
        let (status, text) = self.run("DynamoDB_20120810.PutItem", &body);
        assert_eq!(status, 200, "{text}");
    }

    /// Deletes a row, without faults.
    pub fn delete(&self, table: &str, pk: &str) {
        let body = format!(r#"{{"TableName":"opshook_{table}","Key":{{"pk":{{"S":"{pk}"}}}}}}"#);
        let (status, text) = self.run("DynamoDB_20120810.DeleteItem", &body);
        assert_eq!(status, 200, "{text}");
    }

    fn run(&self, target: &str, body: &str) -> Answer {
        engine::answer(&self.db, target, body)
    }

    /// Runs a call, with the judge watching.
    fn act(&self, caller: &Caller, target: &str, body: &str) -> Answer {
        assert!(self.world.count("store calls") < MOST_CALLS, "something calls the store in circles");
        let answer = self.run(target, body);
        if let Caller::Life(life) = caller
            && answer.0 == 200
        {
            let row = |pk: String| (self.row("outbox", &pk), pk);
            let written: Vec<_> = written(target, body).into_iter().map(row).map(|(row, pk)| (pk, row)).collect();
            self.world.judge().wrote(&self.world, life, &written);
        }
        answer
    }

    /// A query of an index may answer what it answered to the same question before.
    fn query(&self, caller: &Caller, target: &str, body: &str) -> Answer {
        let question: Value = serde_json::from_str(body).unwrap();
        if !target.ends_with(".Query") || question["IndexName"].is_null() || matches!(caller, Caller::Observer) {
            return self.act(caller, target, body);
        }
        // As a value, for the SDK writes maps in any order.
        let question = question.to_string();
        let now = self.world.now();
        let old = self.last.lock().unwrap().get(&question).filter(|(at, _)| at + MOST_LAG >= now).cloned();
        if let Some((_, old)) = old.filter(|_| self.is_stale()) {
            self.world.count("index answered as before");
            return old;
        }
        let answer = self.act(caller, target, body);
        self.last.lock().unwrap().insert(question, (now, answer.clone()));
        answer
    }

    fn is_stale(&self) -> bool {
        !self.world.is_calm() && self.world.store_chance.happens(self.world.plan.rates.stale)
    }
}

/// The keys of the outbox's rows that a call wrote.
fn written(target: &str, body: &str) -> Vec<String> {
    let operation = target.rsplit('.').next().unwrap();
    let key = |part: &Value| {
        let key = if part["Item"].is_null() { &part["Key"]["pk"]["S"] } else { &part["Item"]["pk"]["S"] };
        key.as_str().map(str::to_owned)
    };
    match operation {
        "PutItem" | "UpdateItem" | "DeleteItem" => key(&serde_json::from_str(body).unwrap()).into_iter().collect(),
        "TransactWriteItems" => {
            let body: Value = serde_json::from_str(body).unwrap();
            let parts = body["TransactItems"].as_array().unwrap().iter();
            let parts = parts.flat_map(|part| ["Put", "Update", "Delete"].map(|kind| part.get(kind)));
            parts.flatten().filter_map(key).collect()
        }
        "BatchWriteItem" => panic!("the judge does not know how to watch a BatchWriteItem"),
        _ => Vec::new(),
    }
}

impl Connector {
    async fn exchange(self, target: String, body: String) -> Result<Answer, ConnectorError> {
        let engine = &self.engine;
        self.go_on().await;
        self.travel().await;
        let fault = self.fault(&target);
        if let Some(fault) = fault {
            engine.world.count(fault.name());
        }
        match fault {
            Some(Fault::DiesBefore) => self.die().await,
            Some(Fault::Refused | Fault::LostBefore) => return Err(cut()),
            Some(Fault::FailsBefore) => return Ok(failed()),
            Some(Fault::Throttled) => return Ok(throttled()),
            Some(Fault::HangsBefore) => std::future::pending().await,
            Some(Fault::Slow) => sleep(Duration::from_millis(engine.world.store_chance.spread(20..=1_500))).await,
            _ => {}
        }
        self.go_on().await;
        let answer = engine.query(&self.caller, &target, &body);
        match fault {
            Some(Fault::DiesAfter) => self.die().await,
            Some(Fault::LostAfter) => return Err(cut()),
            Some(Fault::FailsAfter) => return Ok(failed()),
            Some(Fault::HangsAfter) => std::future::pending().await,
            Some(Fault::Slow) => sleep(Duration::from_millis(engine.world.store_chance.spread(1..=900))).await,
            _ => {}
        }
        self.travel().await;
        self.go_on().await;
        self.saw(&target, &body, &answer);
        Ok(answer)
    }

    /// Who has read the row of the endpoint knows that it is down.
    fn saw(&self, target: &str, body: &str, (status, json): &Answer) {
        if let Caller::Life(life) = &self.caller
            && *status == 200
            && target.ends_with(".GetItem")
            && body.contains(r#""S":"endpoint""#)
        {
            let answer: Value = serde_json::from_str(json).unwrap();
            self.engine.world.judge().endpoint.was_read(&self.engine.world, life, answer.get("Item"));
        }
    }

    async fn travel(&self) {
        if !matches!(self.caller, Caller::Observer) {
            sleep(Duration::from_millis(self.engine.world.store_chance.between(0..=4))).await;
        }
    }

    async fn go_on(&self) {
        if let Caller::Life(life) = &self.caller {
            life.go_on().await;
        }
    }

    async fn die(&self) {
        if let Caller::Life(life) = &self.caller {
            life.die(&self.engine.world, "process died at a store call");
        }
        self.go_on().await;
    }

    fn fault(&self, target: &str) -> Option<Fault> {
        use Fault::{
            DiesAfter, DiesBefore, FailsAfter, FailsBefore, HangsAfter, HangsBefore, LostAfter, LostBefore, Refused,
            Slow, Throttled,
        };
        let world = &self.engine.world;
        let (plan, chance) = (&world.plan, &world.store_chance);
        if world.is_calm() {
            return None;
        }
        let rate = match &self.caller {
            Caller::Observer => return None,
            Caller::Ops => plan.rates.ops_store,
            Caller::Life(life) => {
                if let Some(away) = plan.is_away(world.now(), life.process) {
                    return Some(if away.hangs { HangsBefore } else { Refused });
                }
                // A process that only looks and finds nothing dies less often than one that works.
                let deaths = if target.ends_with(".Query") { plan.rates.death / 50.0 } else { plan.rates.death };
                if chance.happens(deaths) {
                    return Some(chance.pick(&[DiesBefore, DiesAfter]));
                }
                plan.rates.store
            }
        };
        let any =
            [Refused, LostBefore, LostAfter, FailsBefore, FailsAfter, Throttled, HangsBefore, HangsAfter, Slow, Slow];
        chance.happens(rate).then(|| chance.pick(&any))
    }
}

fn cut() -> ConnectorError {
    ConnectorError::io("the connection was cut".into())
}

fn failed() -> Answer {
    (500, r#"{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError","message":"try again"}"#.to_owned())
}

fn throttled() -> Answer {
    let kind = "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException";
    (400, format!(r#"{{"__type":"{kind}","message":"slow down"}}"#))
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap().to_owned();
        let body = String::from_utf8(request.body().bytes().unwrap().to_vec()).unwrap();
        let exchange = self.clone().exchange(target, body);
        HttpConnectorFuture::new(async move {
            let (status, json) = exchange.await?;
            let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(json));
            response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
            Ok(response)
        })
    }
}

impl HttpClient for Connector {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

/// Where the SDK believes the engine to be.
fn config() -> StoreConfig {
    let lookup = |name: &str| match name {
        "AWS_ENDPOINT_URL_DYNAMODB" => Some("http://127.0.0.1:1".to_owned()),
        _ => Some("simulated".to_owned()),
    };
    StoreConfig::from_lookup("opshook_".to_owned(), lookup).unwrap()
}
