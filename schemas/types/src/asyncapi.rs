//! The `AsyncAPI` 3.0 document: every channel that a publisher, subscriber or operator may use, with its message and who of them may. Sending and
//! receiving are theirs, not ours. The file `schemas/json/asyncapi.json` is this, which a test compares; the schemas of the messages lie beside it.
//!
//! What only workers and bakeries tell each other is not in it: the buckets of leases and snapshots.

mod channels;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use crate::log;
use channels::{Action, CHANNELS, Channel, May, PARAMETERS, Stored};

/// The version of `AsyncAPI` that the document follows.
pub const VERSION: &str = "3.0.0";

/// The whole document.
pub fn document() -> Value {
    let channels = CHANNELS
        .iter()
        .map(|channel| (channel.name, channel.entry()));
    let operations = CHANNELS
        .iter()
        .map(|channel| (channel.operation, channel.operation()));
    json!({
        "asyncapi": VERSION,
        "info": {
            "title": "Sourdough",
            "version": "1",
            "description": "Hermetic builds in forked microVMs, asked for and answered over NATS JetStream. Within version 1 fields are only ever added. Send and receive are meant from the side of who wants something built.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": object(channels),
        "operations": object(operations),
        "components": {
            "messages": messages(),
            "parameters": parameters(),
            "schemas": {"messageHeaders": message_headers(), "logChunkHeaders": log_chunk_headers()},
        },
    })
}

impl Channel {
    fn entry(&self) -> Value {
        let parameters = parameters_of(self.address);
        let refer = |name| (name, reference(&["components", "parameters", name]));
        json!({
            "address": self.address,
            "summary": self.summary,
            "description": format!("{} {}", self.stored.in_words(), self.may.in_words()),
            "messages": object([(self.message, reference(&["components", "messages", self.message]))]),
            "parameters": object(parameters.map(refer)),
        })
    }

    fn operation(&self) -> Value {
        json!({
            "action": self.action.as_str(),
            "summary": self.summary,
            "channel": reference(&["channels", self.name]),
            "messages": [reference(&["channels", self.name, "messages", self.message])],
        })
    }
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Receive => "receive",
        }
    }
}

impl Stored {
    fn in_words(self) -> String {
        match self {
            Self::Stream(name) => format!("Stored in the stream {name}."),
            Self::Bucket(name) => format!("A key of the key-value bucket {name}."),
            Self::Not => "Not stored.".to_owned(),
        }
    }
}

impl May {
    fn in_words(self) -> &'static str {
        match self {
            Self::Publisher => {
                "For publishers of the tenant, each for its trust and pool, and the operator."
            }
            Self::Subscriber => "For publishers and subscribers of the tenant, and the operator.",
            Self::Operator => "For the operator alone.",
        }
    }
}

/// The parameters in an address, in their order.
fn parameters_of(address: &'static str) -> impl Iterator<Item = &'static str> {
    let words = address.split('.');
    words.filter_map(|word| word.strip_prefix('{')?.strip_suffix('}'))
}

fn messages() -> Value {
    let mut messages = Map::new();
    for (name, schema) in crate::json_schema::all() {
        let value = json!({
            "name": name,
            "title": schema.get("title"),
            "headers": reference(&["components", "schemas", "messageHeaders"]),
            "payload": {
                "schemaFormat": "application/schema+json;version=draft-2020-12",
                "schema": {"$ref": format!("./{name}.schema.json")},
            },
        });
        messages.insert(name.to_owned(), value);
    }
    messages.insert("log-chunk".to_owned(), log_chunk());
    messages.insert("cancel".to_owned(), cancel());
    Value::Object(messages)
}

fn log_chunk() -> Value {
    let limit = log::MAX_CHUNK_BYTES;
    json!({
        "name": "log-chunk",
        "title": "Log chunk",
        "summary": format!("Raw bytes, at most {limit}. The last chunk of an attempt has the header Eof, and maybe no bytes."),
        "contentType": "application/octet-stream",
        "headers": reference(&["components", "schemas", "logChunkHeaders"]),
        "payload": {"type": "string", "format": "binary", "maxLength": limit},
    })
}

fn cancel() -> Value {
    json!({
        "name": "cancel",
        "title": "Cancel",
        "summary": "Any bytes, or none: that the key is there is what cancels.",
        "contentType": "application/octet-stream",
        "payload": {"type": "string"},
    })
}

fn parameters() -> Value {
    object(PARAMETERS.iter().map(|(name, description, values)| {
        let mut parameter = json!({"description": description});
        if !values.is_empty() {
            parameter["enum"] = json!(values);
        }
        (*name, parameter)
    }))
}

/// None is required: `nats pub` by hand works.
fn message_headers() -> Value {
    json!({
        "type": "object",
        "properties": {
            "Nats-Msg-Id": {
                "type": "string",
                "description": "A second message with the same one within the stream's window is not stored.",
            },
            "traceparent": {
                "type": "string",
                "description": "W3C Trace Context: the trace that this is part of.",
                "examples": ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
            },
        },
    })
}

fn log_chunk_headers() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let properties = [
        (log::ATTEMPT, text("The attempt, from 1.")),
        (log::STEP, text("The step; absent where none wrote it.")),
        (
            log::STREAM,
            json!({"type": "string", "enum": ["stdout", "stderr", "system"], "description": "Which output; `system` is the worker's own remark."}),
        ),
        (
            log::SEQ,
            text("Place among the chunks of this attempt, from 1; a gap is a lost chunk."),
        ),
        (log::TIME, text("When the bytes were read, RFC 3339.")),
        (
            log::EOF,
            text("`true` on the last chunk of an attempt; absent on every other."),
        ),
    ];
    json!({
        "type": "object",
        "required": [log::ATTEMPT, log::STREAM, log::SEQ, log::TIME],
        "properties": object(properties),
    })
}

/// `{"$ref": "#/channels/jobs"}`.
fn reference(path: &[&str]) -> Value {
    json!({"$ref": format!("#/{}", path.join("/"))})
}

fn object<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let entries = entries.into_iter();
    Value::Object(
        entries
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}
