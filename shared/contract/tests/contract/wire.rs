use contract::json::JsonObject;
use contract::wire::{
    Accepted, Attempt, EventRecord, Message, MessageState, Outcome, Page, ReceiveAnswer, Ticket, TicketStatus,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes a value, compares it with the contract's text and reads it back.
fn is_written<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, expected: &str) {
    let text = serde_json::to_string(value).unwrap();
    assert_eq!(text, expected);
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value);
}

fn answer(outcome: Outcome, ticket_id: Option<&str>, payload_changed: Option<bool>) -> ReceiveAnswer {
    ReceiveAnswer {
        outcome,
        event_id: "e".to_owned(),
        webhook_id: "w".to_owned(),
        ticket_id: ticket_id.map(str::to_owned),
        payload_changed,
    }
}

#[test]
fn receives_answers_are_the_contracts() {
    is_written(
        &answer(Outcome::TicketCreated, Some("t"), None),
        r#"{"outcome":"ticket_created","event_id":"e","webhook_id":"w","ticket_id":"t"}"#,
    );
    is_written(
        &answer(Outcome::Duplicate, Some("t"), Some(false)),
        r#"{"outcome":"duplicate","event_id":"e","webhook_id":"w","ticket_id":"t","payload_changed":false}"#,
    );
    is_written(
        &answer(Outcome::Recorded, None, None),
        r#"{"outcome":"recorded","event_id":"e","webhook_id":"w","ticket_id":null}"#,
    );
}

#[test]
fn a_record_keeps_its_data_as_it_came() {
    let mut record = EventRecord {
        event_id: "e".to_owned(),
        received_at: "2026-11-24T10:15:30.123Z".to_owned(),
        webhook_id: "w".to_owned(),
        event: "a.b".to_owned(),
        session_id: String::new(),
        domain: "d".to_owned(),
        timestamp: None,
        data: JsonObject::parse(r#"{"z": 1e999, "a":[1.0]}"#).unwrap(),
        outcome: Outcome::Recorded,
        ticket_id: None,
        payload_changed: false,
        body: None,
        damaged: false,
    };
    let list = r#"{"event_id":"e","received_at":"2026-11-24T10:15:30.123Z","webhook_id":"w","event":"a.b","session_id":"","domain":"d","timestamp":null,"data":{"z": 1e999, "a":[1.0]},"outcome":"recorded","ticket_id":null,"payload_changed":false}"#;
    is_written(&record, list);
    is_written(
        &Page { items: vec![record.clone()], next_cursor: Some("c".to_owned()) },
        &format!(r#"{{"items":[{list}],"next_cursor":"c"}}"#),
    );
    record.body = Some("{}".to_owned());
    is_written(&record, &list.replace("changed\":false}", "changed\":false,\"body\":\"{}\"}"));
    (record.body, record.damaged) = (None, true);
    is_written(&record, &list.replace("changed\":false}", "changed\":false,\"damaged\":true}"));
}

#[test]
fn a_ticket_and_a_message_have_all_their_fields() {
    let ticket = Ticket {
        ticket_id: "t".to_owned(),
        subject: "[a] d".to_owned(),
        status: TicketStatus::Open,
        event: "a".to_owned(),
        session_id: "s".to_owned(),
        domain: "d".to_owned(),
        email: None,
        event_id: "e".to_owned(),
        created_at: "c".to_owned(),
        updated_at: "u".to_owned(),
        closed_at: None,
        damaged: false,
    };
    is_written(
        &ticket,
        r#"{"ticket_id":"t","subject":"[a] d","status":"open","event":"a","session_id":"s","domain":"d","email":null,"event_id":"e","created_at":"c","updated_at":"u","closed_at":null}"#,
    );
    let attempt =
        Attempt { at: "t".to_owned(), status: None, error: Some("timeout".to_owned()), ms: 5_000, answer: None };
    let message = Message {
        webhook_id: "w".to_owned(),
        state: MessageState::Pending,
        event: "a".to_owned(),
        session_id: "s".to_owned(),
        domain: "d".to_owned(),
        accepted_at: "x".to_owned(),
        next_attempt_at: Some("n".to_owned()),
        delivered_at: None,
        attempts: vec![attempt],
        attempts_total: 1,
    };
    is_written(
        &message,
        r#"{"webhook_id":"w","state":"pending","event":"a","session_id":"s","domain":"d","accepted_at":"x","next_attempt_at":"n","delivered_at":null,"attempts":[{"at":"t","status":null,"error":"timeout","ms":5000,"answer":null}],"attempts_total":1}"#,
    );
}

#[test]
fn an_accepted_event_has_an_id_and_a_disabled_one_has_none() {
    let accepted = Accepted { webhook_id: Some("w".to_owned()), state: "pending".to_owned() };
    is_written(&accepted, r#"{"webhook_id":"w","state":"pending"}"#);
    is_written(&Accepted { webhook_id: None, state: "disabled".to_owned() }, r#"{"state":"disabled"}"#);
}

#[test]
fn names_are_the_same_in_json_and_in_text() {
    for outcome in [Outcome::TicketCreated, Outcome::Duplicate, Outcome::Recorded] {
        is_written(&outcome, &format!("\"{}\"", outcome.as_str()));
        assert_eq!(Outcome::parse(outcome.as_str()), Some(outcome));
    }
    for status in [TicketStatus::Open, TicketStatus::Closed] {
        is_written(&status, &format!("\"{}\"", status.as_str()));
        assert_eq!(TicketStatus::parse(status.as_str()), Some(status));
    }
    for state in [MessageState::Pending, MessageState::Delivered, MessageState::Parked, MessageState::Dead] {
        is_written(&state, &format!("\"{}\"", state.as_str()));
        assert_eq!(MessageState::parse(state.as_str()), Some(state));
    }
    assert_eq!((Outcome::parse("Recorded"), TicketStatus::parse(""), MessageState::parse("lost")), (None, None, None));
}
