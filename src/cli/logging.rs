//! The log: one line a record on standard error, whatever the record holds.

use super::json::Json::{self, Text};
use super::json::object;
use super::output;
use env_logger::{Builder, Env, Target, fmt::Formatter};
use jiff::Timestamp;
use log::kv::{self, Key, Value, VisitSource};
use log::{Level, Record};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;

/// The target of access records: one for each connection that a service has ended.
pub(crate) const ACCESS: &str = "doorkeeper::access";

/// The form of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    #[default]
    Text,
    /// A JSON object, in which the fields of an access record are fields.
    Json,
}

/// Hands each record to the thread that writes standard error, so that logging never blocks.
struct Queue;

impl Write for Queue {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        output::error_line(String::from_utf8_lossy(record).trim_end_matches('\n'));
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The form, once the log has started.
static FORM: OnceLock<Form> = OnceLock::new();

/// Starts the log, at `info` unless RUST_LOG says otherwise. Panics are logged too: the reactor
/// catches a panic of a callback, so it is an error to report and not the end of the program.
pub(crate) fn start(form: Form) {
    let default = match form {
        Form::Text => "info".to_string(),
        Form::Json => format!("info,{ACCESS}=debug"),
    };
    let in_journal = is_journal(io::stderr());
    Builder::from_env(Env::default().default_filter_or(default))
        .format(move |out, record| write(out, record, form, in_journal))
        .target(Target::Pipe(Box::new(Queue)))
        .init();
    if form == Form::Json {
        if let Some(writer) = output::stderr() {
            writer.set_left_out_line(output::left_out_json);
        }
    }
    FORM.get_or_init(|| form);
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
}

/// Reports the failure that ends the program. Programs that read the log as JSON get it as JSON.
pub(crate) fn fatal(message: &str) {
    if FORM.get() == Some(&Form::Json) {
        // Not a record, which RUST_LOG could leave out.
        let time = timestamp();
        let fields = [
            ("time", Text(&time)),
            ("level", Text("error")),
            ("target", Text("doorkeeper")),
            ("message", Text(message)),
        ];
        output::error_line(&object(&[&fields]));
    } else {
        output::error_line(&format!("doorkeeper: {}", one_line(message)));
    }
}

/// Whether this stream is the journal's: JOURNAL_STREAM holds its device and inode
/// (systemd.exec(5)). The journal has its own time stamps, and takes a level from the line's begin
/// (sd-daemon(3)).
fn is_journal(stream: impl AsFd) -> bool {
    let Ok(status) = rustix::fs::fstat(stream) else {
        return false;
    };
    let own = format!("{}:{}", status.st_dev, status.st_ino);
    std::env::var("JOURNAL_STREAM").is_ok_and(|journal| journal == own)
}

/// The level of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

fn timestamp() -> String {
    Timestamp::now().strftime("%FT%T%.3fZ").to_string()
}

fn write(out: &mut Formatter, record: &Record<'_>, form: Form, in_journal: bool) -> io::Result<()> {
    let (level, target, message) = (record.level(), record.target(), record.args().to_string());
    let time = timestamp();
    if in_journal {
        write!(out, "<{}>", priority(level))?;
    }
    match form {
        Form::Text if in_journal => writeln!(out, "{target}: {}", one_line(&message)),
        Form::Text => writeln!(out, "{time} {level:5} {target}: {}", one_line(&message)),
        Form::Json => {
            let level = level.as_str().to_lowercase();
            let mut fields = vec![
                ("time", Text(&time)),
                ("level", Text(&level)),
                ("target", Text(target)),
                ("message", Text(&message)),
            ];
            if in_journal {
                fields.remove(0);
            }
            writeln!(out, "{}", with_own_fields(&fields, record))
        }
    }
}

/// The object of these fields and of the record's own.
fn with_own_fields(fields: &[(&str, Json<'_>)], record: &Record<'_>) -> String {
    let mut own = Fields::default();
    // The visitor does not fail.
    let _ = record.key_values().visit(&mut own);
    let own: Vec<(&str, Json<'_>)> = own
        .0
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_json()))
        .collect();
    object(&[fields, &own])
}

/// The fields of a record, with their names.
#[derive(Default)]
struct Fields(Vec<(String, Field)>);

enum Field {
    Integer(u64),
    Text(String),
}

impl Field {
    fn as_json(&self) -> Json<'_> {
        match self {
            Field::Integer(number) => Json::Integer(*number),
            Field::Text(text) => Text(text),
        }
    }
}

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let field = match value.to_u64() {
            Some(number) => Field::Integer(number),
            None => Field::Text(value.to_string()),
        };
        self.0.push((key.to_string(), field));
        Ok(())
    }
}

/// Escapes control characters, because bytes of a peer or of a file name must neither look like
/// lines of the log nor control the terminal.
pub(crate) fn one_line(message: &str) -> String {
    let escape = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    message.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn a_message_stays_on_one_line_and_off_the_terminal() {
        assert_eq!(
            one_line("it's \"ü\"\r\nINFO fake\u{1b}[2J\u{9b}"),
            "it's \"ü\"\\r\\nINFO fake\\u{1b}[2J\\u{9b}"
        );
    }
}
