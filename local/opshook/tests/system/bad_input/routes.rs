//! Routes and methods that there are not (contract §6).

use super::{assert_it_still_works, assert_nothing_is_stored, refuse};
use crate::harness::{ONBOARD, World, account_created};
use crate::raw::Raw;

#[tokio::test]
async fn an_unknown_route_is_a_404_and_another_method_a_405_that_names_the_right_one() {
    let world = World::start().await;
    let mut delivery = Raw::delivery(account_created("onb-1", "example.com"));
    let unknown = [
        "/".to_owned(),
        "/api".to_owned(),
        "/api/v1/webhooks".to_owned(),
        format!("{ONBOARD}/"),
        format!("{ONBOARD}/x"),
        format!("/{ONBOARD}"),
        format!("{ONBOARD}%2f"),
        ONBOARD.to_uppercase(),
        "/api/v1/../v1/webhooks/onboard".to_owned(),
        "/api/v2/webhooks/onboard".to_owned(),
        "/health/".to_owned(),
        "/%ff%00".to_owned(),
        "/metrics/../api".to_owned(),
        format!("/{}", "a/".repeat(5_000)),
    ];
    for target in unknown {
        for method in ["POST", "GET", "DELETE"] {
            delivery.method = method.to_owned();
            delivery.target.clone_from(&target);
            refuse(&world, &delivery, 404, "not_found").await;
        }
    }
    let others = [(ONBOARD, "POST", "GET"), ("/health", "GET,HEAD", "POST"), ("/metrics", "GET,HEAD", "DELETE")];
    for (target, allow, wrong) in others {
        for method in [wrong, "PUT", "PATCH", "OPTIONS", "TRACE", "BREW", "get"] {
            delivery.method = method.to_owned();
            delivery.target = target.to_owned();
            let reply = refuse(&world, &delivery, 405, "method_not_allowed").await;
            assert_eq!(reply.headers["allow"], allow, "{method} {target}");
        }
    }
    delivery.method = "HEAD".to_owned();
    delivery.target = ONBOARD.to_owned();
    let reply = delivery.send(world.receive.addr).await;
    assert_eq!((reply.status, reply.headers["allow"].to_str().unwrap(), reply.text.as_str()), (405, "POST", ""));
    assert_eq!(reply.headers["content-type"], "application/problem+json");
    assert_nothing_is_stored(&world).await;
    assert_it_still_works(&world).await;
}
