//! The body as a whole: its size, its content type, its JSON (contract §1, §3).

use super::{assert_it_still_works, assert_nothing_is_stored, refuse};
use crate::harness::{World, account_created};
use crate::raw::{Raw, exchange};

const MOST: usize = 65_536;

/// An event of exactly so many bytes.
fn event_of(bytes: usize) -> String {
    let frame = r#"{"event":"account.created","session_id":"onb-big","data":{"pad":""}}"#;
    let pad = "x".repeat(bytes - frame.len());
    frame.replace(r#""pad":"""#, &format!(r#""pad":"{pad}""#))
}

#[tokio::test]
async fn a_body_may_have_64_kib_and_not_a_byte_more_however_it_is_framed() {
    let world = World::start().await;
    for over in [MOST + 1, MOST + 4_096, 3 * MOST, 12 * MOST] {
        let large = Raw::delivery(event_of(over));
        refuse(&world, &large, 413, "payload_too_large").await;
        // The size comes before the signature, and before the content type.
        let unsigned = large.clone().without("webhook-signature").with("content-type", "text/plain");
        refuse(&world, &unsigned, 413, "payload_too_large").await;
        let reply = exchange(world.receive.addr, &large.chunked(10_000)).await.unwrap();
        reply.assert_problem(413, "payload_too_large");
    }
    let endless = [&large_head(10_000_000_000)[..], &[b' '; 300 * 1024]].concat();
    exchange(world.receive.addr, &endless).await.unwrap().assert_problem(413, "payload_too_large");
    assert_nothing_is_stored(&world).await;

    let most = Raw::delivery(event_of(MOST));
    assert_eq!(most.body.len(), MOST);
    assert_eq!(most.send(world.receive.addr).await.status, 201);
    let reply = exchange(world.receive.addr, &most.chunked(1_000)).await.unwrap();
    assert_eq!(reply.body["outcome"], "duplicate", "{reply:?}");
}

fn large_head(length: u64) -> Vec<u8> {
    let mut bytes = Raw::delivery("").head();
    bytes.extend(format!("content-length: {length}\r\nconnection: close\r\n\r\n").as_bytes());
    bytes
}

#[tokio::test]
async fn a_length_that_is_a_lie_gets_nothing_stored() {
    let world = World::start().await;
    let good = Raw::delivery(account_created("onb-1", "example.com"));
    let length = good.body.len();
    // Less than there is: what is taken is not what was signed, and what follows is no request.
    for less in [0, 1, length - 1] {
        let bytes = [&good.head(), format!("content-length: {less}\r\n\r\n").as_bytes(), &good.body].concat();
        exchange(world.receive.addr, &bytes).await.unwrap().assert_problem(401, "signature_mismatch");
    }
    // Lengths that contradict each other or are none: hyper refuses these before there is a request.
    let twice = format!("content-length: {length}\r\ncontent-length: 1\r\n");
    for wrong in [&twice, "content-length: -1\r\n", "content-length: 1e2\r\n", "content-length: 0x10\r\n"] {
        let bytes = [&good.head(), wrong.as_bytes(), b"connection: close\r\n\r\n", &good.body].concat();
        let reply = exchange(world.receive.addr, &bytes).await;
        assert_eq!(reply.map(|reply| reply.status), Some(400), "{wrong}");
    }
    for broken in ["zz\r\n", "-1\r\n", "ffffffffffffffffff\r\n", "5\r\nab"] {
        let head = [&good.head(), &b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"[..]].concat();
        let reply = cut_off(&world, &[&head, broken.as_bytes()].concat()).await;
        assert!(reply.is_none_or(|status| (400..500).contains(&status)), "{broken:?}: {reply:?}");
    }
    // More than there is, and then the sender is gone.
    let bytes = [&good.head(), format!("content-length: {}\r\n\r\n", length + 1).as_bytes(), &good.body].concat();
    let reply = cut_off(&world, &bytes).await;
    assert!(reply.is_none_or(|status| (400..500).contains(&status)), "{reply:?}");
    assert_nothing_is_stored(&world).await;
    assert_it_still_works(&world).await;
}

/// Sends bytes, says that no more come, and answers with the status.
async fn cut_off(world: &World, bytes: &[u8]) -> Option<u16> {
    use tokio::io::AsyncWriteExt;
    let mut stream = tokio::net::TcpStream::connect(world.receive.addr).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    crate::raw::read(stream).await.map(|reply| reply.status)
}

#[tokio::test]
async fn who_closes_its_half_after_the_request_still_gets_the_answer() {
    let world = World::start().await;
    let delivery = Raw::delivery(account_created("onb-half", "example.com"));
    assert_eq!(cut_off(&world, &delivery.chunked(7)).await, Some(201));
    assert_eq!(cut_off(&world, &Raw::get("/ready").bytes()).await, Some(200));
}

#[tokio::test]
async fn a_request_with_many_headers_is_answered_like_one_with_few() {
    let world = World::start().await;
    let mut delivery = Raw::delivery(account_created("onb-many", "example.com"));
    for number in 0..130 {
        delivery = delivery.header(&format!("x-more-{number}"), "1");
    }
    assert_eq!(delivery.send(world.receive.addr).await.status, 201);
}

#[tokio::test]
async fn an_encoded_body_is_a_415_that_names_the_encoding_but_only_to_who_signed() {
    let world = World::start().await;
    let good = Raw::delivery(account_created("onb-1", "example.com"));
    for (encoding, named) in [("br", "br"), ("gzip, identity", "gzip"), ("identity,zstd", "zstd"), ("\"x\"", "unknown")]
    {
        let encoded = good.clone().header("content-encoding", encoding);
        let reply = refuse(&world, &encoded, 415, "unsupported_media_type").await;
        assert!(reply.body["detail"].as_str().unwrap().contains(named), "{reply:?}");
        let unsigned = encoded.without("webhook-signature");
        refuse(&world, &unsigned, 401, "signature_missing").await;
    }
    assert_nothing_is_stored(&world).await;
    let event = Raw::json("POST", crate::harness::EMIT, good.body.clone()).header("content-encoding", "compress");
    event.send(world.emit.addr).await.assert_problem(415, "unsupported_media_type");
    let plain = good.header("content-encoding", "identity");
    assert_eq!(plain.send(world.receive.addr).await.status, 201);
}

#[tokio::test]
async fn a_content_type_other_than_json_is_a_415_but_only_to_who_signed() {
    let world = World::start().await;
    let good = Raw::delivery(account_created("onb-1", "example.com"));
    let wrong = [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "application/json-seq",
        "application",
        "json",
        "",
        ";",
        "text/plain; application/json",
        "application/json, application/json",
        "application/json;charset=latin1",
        "application/json; charset=iso-8859-1",
        "application/json; charset=utf-16",
        "application/json; charset=utf-8; charset=latin1",
        "application/json; charset=",
        "*/*",
    ];
    for value in wrong {
        let request = good.clone().with("content-type", value);
        refuse(&world, &request, 415, "unsupported_media_type").await;
        refuse(&world, &request.without("webhook-signature"), 401, "signature_missing").await;
    }
    refuse(&world, &good.clone().without("content-type"), 415, "unsupported_media_type").await;
    let twice = good.clone().header("content-type", "application/json");
    refuse(&world, &twice, 415, "unsupported_media_type").await;
    refuse(&world, &good.clone().with("content-type", b"application/json\xff"), 415, "unsupported_media_type").await;
    assert_nothing_is_stored(&world).await;

    let right = [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON;Charset=\"UTF-8\"",
        "application/json ; charset=utf-8",
        "application/json; profile=x",
    ];
    for value in right {
        let reply = good.clone().with("content-type", value).send(world.receive.addr).await;
        assert!(reply.status < 300, "{value}: {reply:?}");
    }
}

#[tokio::test]
async fn what_is_not_strict_json_is_a_400() {
    let world = World::start().await;
    let event = account_created("onb-1", "example.com");
    let with_data = |data: &str| format!(r#"{{"event":"account.created","session_id":"s","data":{data}}}"#);
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let mut bodies: Vec<Vec<u8>> = [
        String::new(),
        " ".to_owned(),
        format!("\u{feff}{event}"),
        format!("{event}x"),
        format!("{event}{event}"),
        format!("{event}\0"),
        format!("{event},"),
        event[..event.len() - 1].to_owned(),
        event[..event.len() / 2].to_owned(),
        event.replace('"', "'"),
        event.replacen("{", "{,", 1),
        "{\"event\":\"account.created\",\"session_id\":\"s\",}".to_owned(),
        "{\"event\":\"account.created\" \"session_id\":\"s\"}".to_owned(),
        "{event:\"account.created\",\"session_id\":\"s\"}".to_owned(),
        "// comment\n{}".to_owned(),
        r#"{"event":"account.created","session_id":"a","session_id":"a"}"#.to_owned(),
        r#"{"event":"account.created","event":"account.created","session_id":"a"}"#.to_owned(),
        r#"{"event":"account.created","session_id":"a","\u0065vent":"account.created"}"#.to_owned(),
        r#"{"event":"account.created","session_id":"a","x":1,"x":2}"#.to_owned(),
        with_data(r#"{"a":1,"a":1}"#),
        with_data(r#"{"x":[{"y":{"a":1,"\u0061":2}}]}"#),
        with_data(r#"{"a":"\ud800"}"#),
        with_data(r#"{"a":"\udc00\ud800"}"#),
        with_data(r#"{"\udead":1}"#),
        r#"{"event":"account.created","session_id":"\ud83d"}"#.to_owned(),
        with_data("{\"a\":\"\u{1}\"}"),
        with_data("{\"a\":\"line\nbreak\"}"),
        with_data(r#"{"a":"\x41"}"#),
        with_data(r#"{"a":01}"#),
        with_data(r#"{"a":+1}"#),
        with_data(r#"{"a":.5}"#),
        with_data(r#"{"a":NaN}"#),
        with_data(r#"{"a":Infinity}"#),
        with_data(r#"{"a":undefined}"#),
        with_data(r#"{"a":True}"#),
        // The outermost object is level 1, and data level 2.
        with_data(&format!(r#"{{"a":{}}}"#, nested(63))),
        with_data(&format!(r#"{{"a":{}}}"#, nested(10_000))),
        format!(r#"{{"event":"account.created","session_id":"s","other":{}}}"#, nested(64)),
        nested(65),
        nested(10_000),
        "[".repeat(60_000),
        r#"{"a":"#.repeat(13_000),
    ]
    .map(String::into_bytes)
    .into();
    for sequence in [&b"\xff"[..], b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"] {
        bodies.push([b"{\"event\":\"account.created\",\"session_id\":\"", sequence, b"\"}"].concat());
        bodies.push([event.as_bytes(), sequence].concat());
    }
    bodies.push(event.encode_utf16().flat_map(u16::to_le_bytes).collect());
    for body in bodies {
        let reply = refuse(&world, &Raw::delivery(body), 400, "malformed_json").await;
        assert!(reply.text.len() < 400, "{reply:?}");
    }
    assert_nothing_is_stored(&world).await;
    assert_it_still_works(&world).await;
}
