//! The official library as our peer, at both ends.

use contract::id::WebhookId;
use contract::signature::{
    DEVELOPMENT_SECRET, ID_HEADER, SIGNATURE_HEADER, Secrets, SignatureHeaders, TIMESTAMP_HEADER,
};
use http::HeaderMap;
use standardwebhooks::Webhook;

const ID: &str = "msg_0198a1c2-6b7e-7c3d-9f00-2b1a4c5d6e7f";
const BODY: &str = r#"{"event":"account.created","domain":"bücher.example"}"#;
const OTHER_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// The library reads the system's clock, so we do.
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[test]
fn it_verifies_what_we_sign() {
    let secrets = Secrets::parse(&format!("{OTHER_SECRET},{DEVELOPMENT_SECRET}")).unwrap();
    let now = now();
    let mut headers = HeaderMap::new();
    headers.insert(ID_HEADER, ID.parse().unwrap());
    headers.insert(TIMESTAMP_HEADER, now.to_string().parse().unwrap());
    let signature = secrets.sign(&WebhookId::parse(ID).unwrap(), now, BODY.as_bytes());
    headers.insert(SIGNATURE_HEADER, signature.parse().unwrap());
    for secret in [OTHER_SECRET, DEVELOPMENT_SECRET] {
        Webhook::new(secret).unwrap().verify(BODY.as_bytes(), &headers).unwrap();
        assert!(Webhook::new(secret).unwrap().verify(b"{}", &headers).is_err());
    }
}

#[test]
fn we_verify_what_it_signs() {
    let secrets = Secrets::parse(&format!("{OTHER_SECRET},{DEVELOPMENT_SECRET}")).unwrap();
    let now = now();
    for secret in [OTHER_SECRET, DEVELOPMENT_SECRET] {
        let signature = Webhook::new(secret).unwrap().sign(ID, now, BODY.as_bytes()).unwrap();
        let headers = SignatureHeaders {
            id: vec![ID.as_bytes()],
            timestamp: vec![now.to_string().leak().as_bytes()],
            signature: vec![signature.as_bytes()],
        };
        assert_eq!(secrets.verify(&headers, BODY.as_bytes(), now).unwrap().as_str(), ID);
    }
}
