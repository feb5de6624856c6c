//! What emit-retry and query-events are asked wrongly, and what every function answers alike (contract §4–§7).

mod emit;
mod frame;
mod query;
mod settings;

use crate::harness::{Reply, TOKEN};
use crate::raw::Raw;

/// With ops's token.
fn ops(request: Raw) -> Raw {
    request.header("authorization", format!("Bearer {TOKEN}"))
}

/// Checks a 401 that asks for a bearer token.
#[track_caller]
fn assert_asks_for_a_token(reply: &Reply, code: &str) {
    reply.assert_problem(401, code);
    assert!(reply.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"), "{reply:?}");
}

/// What is under `/api/`, whether it exists or not.
const UNDER_API: &[&str] = &[
    "/api/",
    "/api/v1/events",
    "/api/v1/outbox/msg_1",
    "/api/v1/webhooks/events",
    "/api/v1/webhooks/events/?x=1",
    "/api/v1/webhooks/events?limit=0",
    "/api/v1/webhooks/events/01a20f9c-51b0-755e-a0fb-acc9e3d02a82",
    "/api/v1/desk/tickets",
    "/api/v1/desk/tickets/tkt_00000000000000000000000000000000",
    "/api/v1/outbox",
    "/api/v1/activity?limit=0",
    "/api/nothing",
    "/api/v1/../../health",
    "/api/%ff",
    "http://localhost/api/v1/events",
];

/// Headers that let nobody in, with the code of the 401.
fn wrong_tokens() -> Vec<(Vec<(&'static str, String)>, &'static str)> {
    let bearer = |token: &str| vec![("authorization", format!("Bearer {token}"))];
    let [missing, mismatch] = ["token_missing", "token_mismatch"];
    let longer = format!("{TOKEN}x");
    vec![
        (Vec::new(), missing),
        (vec![("authorization", String::new())], missing),
        (vec![("authorization", TOKEN.to_owned())], missing),
        (vec![("authorization", "Basic YTpi".to_owned())], missing),
        (vec![("authorization", format!("Basic {TOKEN}"))], missing),
        (vec![("authorization", "Bearer".to_owned())], missing),
        (vec![("authorization", format!("Bearer{TOKEN}"))], missing),
        (vec![("authorization", format!("Bearer\t{TOKEN}"))], missing),
        (vec![("x-authorization", format!("Bearer {TOKEN}")), ("cookie", TOKEN.to_owned())], missing),
        (bearer("a-wrong-token-of-24-or-more"), mismatch),
        (bearer(&TOKEN[..TOKEN.len() - 1]), mismatch),
        (bearer(&longer), mismatch),
        (bearer(&TOKEN.to_uppercase()), mismatch),
        (bearer(&format!("{TOKEN} {TOKEN}")), mismatch),
        (bearer(&format!("\"{TOKEN}\"")), mismatch),
        // On API Gateway these are one value with a comma: the same answer on both.
        ([bearer(TOKEN), bearer(TOKEN)].concat(), mismatch),
        ([bearer("a-wrong-token-of-24-or-more"), bearer(TOKEN)].concat(), mismatch),
    ]
}

/// Checks that everything under `/api/` wants a token of this server.
async fn assert_all_under_api_wants_a_token(server: std::net::SocketAddr) {
    for target in UNDER_API {
        for method in ["GET", "POST", "PATCH", "DELETE"] {
            assert_asks_for_a_token(&Raw::json(method, target, "{}").send(server).await, "token_missing");
        }
    }
    for (headers, code) in wrong_tokens() {
        println!("{code} is due to {headers:?}");
        let request = headers.iter().fold(Raw::get(UNDER_API[3]), |raw, (name, value)| raw.header(name, value));
        assert_asks_for_a_token(&request.send(server).await, code);
    }
}
