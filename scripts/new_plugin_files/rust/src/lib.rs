//! The plugin's logic. `callout.rs` connects it to the host.

mod callout;

use callout::{Answer, Header};

/// Called concurrently for several requests.
pub fn on_request_headers(headers: &[Header]) -> Answer {
    let mut answer = Answer::default();
    answer.set_header("x-seen-by", "@name@");
    if headers.iter().any(|header| header.is("x-internal")) {
        answer.remove_header("x-internal");
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'a>(key: &'a str, value: &'a str) -> Header<'a> {
        Header {
            key: key.as_bytes(),
            value: value.as_bytes(),
        }
    }

    #[test]
    fn stamps_every_request() {
        let answer = on_request_headers(&[header(":path", "/")]);
        assert_eq!(
            answer.set,
            [("x-seen-by".to_string(), "@name@".to_string())]
        );
        assert!(answer.remove.is_empty());
    }

    #[test]
    fn takes_the_internal_header_away() {
        let answer = on_request_headers(&[header("X-Internal", "1")]);
        assert_eq!(answer.remove, ["x-internal"]);
    }
}
