//! DynamoDB for one test: the embedded engine in memory; or a database of its own in DynamoDB Local, where
//! `OPSHOOK_TEST_DYNAMODB` names its address (`127.0.0.1:8000`).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

use engine::{Engine, Storage};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::task::JoinSet;

use crate::harness::{Reply, post};

/// It. The database goes with the test, or with DynamoDB Local.
pub struct Dynamo {
    addr: SocketAddr,
    host: Host,
}

enum Host {
    Embedded(Engine),
    Local(Relay),
}

/// DynamoDB Local can't be stopped for one test: this way to it can.
struct Relay(JoinHandle<()>);

impl Drop for Relay {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Dynamo {
    /// An empty database, without tables.
    pub async fn start() -> Self {
        match std::env::var("OPSHOOK_TEST_DYNAMODB") {
            Ok(local) => Self::relayed(local.parse().expect("OPSHOOK_TEST_DYNAMODB is HOST:PORT")).await,
            Err(_) => {
                let engine = Engine::start(Storage::Memory, "127.0.0.1:0".parse().unwrap()).await.unwrap();
                Self { addr: engine.addr(), host: Host::Embedded(engine) }
            }
        }
    }

    /// DynamoDB Local keeps a database for each access key, and here each address has a key of its own.
    async fn relayed(local: SocketAddr) -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let listener = TcpListener::bind((Ipv4Addr::new(127, 1, high, low), 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let accept = async move {
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                connections.spawn(async move {
                    let Ok(mut far) = TcpStream::connect(local).await else { return };
                    let _ = (near.set_nodelay(true), far.set_nodelay(true));
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        };
        Self { addr, host: Host::Local(Relay(tokio::spawn(accept))) }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Nobody reaches it any more.
    pub async fn stop(self) {
        match self.host {
            Host::Embedded(engine) => engine.stop().await,
            Host::Local(relay) => drop(relay),
        }
    }
}

/// The access key for an engine at that address: any for the embedded one.
pub fn access_key(engine: SocketAddr) -> String {
    format!("test{}", engine.ip().to_string().replace('.', "x"))
}

/// One operation, as DynamoDB's protocol has it, without the SDK: its status and answer.
pub async fn ask(engine: SocketAddr, operation: &str, body: &Value) -> Reply {
    let key = access_key(engine);
    let scope = "20261124/local/dynamodb/aws4_request";
    let signed = format!("AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders=host, Signature=0");
    let target = format!("DynamoDB_20120810.{operation}");
    let headers = [
        ("x-amz-target", target.as_str()),
        ("content-type", "application/x-amz-json-1.0"),
        // Neither engine looks at the signature; DynamoDB Local wants to see the key.
        ("authorization", signed.as_str()),
    ];
    post(&format!("http://{engine}/"), &headers, body.to_string()).await
}

/// The same where it must succeed: its answer.
pub async fn operation(engine: SocketAddr, operation: &str, body: &Value) -> Value {
    let reply = ask(engine, operation, body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body
}

/// How many items a table holds, by the engine itself.
pub async fn items(engine: SocketAddr, table: &str) -> u64 {
    let mut count = 0;
    let mut wanted = json!({"TableName": table, "Select": "COUNT"});
    loop {
        let answer = operation(engine, "Scan", &wanted).await;
        count += answer["Count"].as_u64().unwrap();
        match &answer["LastEvaluatedKey"] {
            Value::Null => return count,
            key => wanted["ExclusiveStartKey"] = key.clone(),
        }
    }
}
