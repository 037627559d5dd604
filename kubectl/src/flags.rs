//! Flags as Go's command lines take them: `--flag=false`, the last of several counts, and errors in Go's words.

use std::ffi::OsString;

use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Command, CommandFactory, FromArgMatches};
use jiff::SignedDuration;

use crate::error::Error;
use crate::options::Cli;

/// The whole command line's grammar.
pub fn command() -> Command {
    as_in_go(Cli::command())
}

/// Truth values take `=true` and `=false`, other flags take whatever follows them.
fn as_in_go(command: Command) -> Command {
    command
        .args_override_self(true)
        .mut_args(|arg| {
            if matches!(arg.get_action(), ArgAction::SetTrue) {
                return arg
                    .action(ArgAction::Set)
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_value("false")
                    .default_missing_value("true")
                    .hide_default_value(true)
                    .value_parser(ValueParser::new(truth));
            }
            let takes_one = arg.get_num_args().is_none_or(|range| range.min_values() == 1 && range.max_values() == 1);
            let valued = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
            if valued && takes_one && !arg.is_positional() { arg.allow_hyphen_values(true) } else { arg }
        })
        .mut_subcommands(as_in_go)
}

/// What `--user` of `create rolebinding` and `create clusterrolebinding` is called in the grammar: there the word means who is
/// bound, not the global flag, and a grammar of clap cannot have one word twice.
pub const BOUND_USER: &str = "bound-user";

/// Gives `--user` its other meaning where a binding is created.
fn rename_bound_user(args: Vec<OsString>) -> Vec<OsString> {
    let binds = |word: &OsString| word == "rolebinding" || word == "clusterrolebinding";
    let Some(create) = args.iter().position(|word| word == "create") else { return args };
    let Some(binding) = args.iter().skip(create).position(binds) else { return args };
    let rename = |(at, word): (usize, OsString)| match word.to_str().and_then(|text| text.strip_prefix("--user")) {
        Some(rest) if at > create + binding && (rest.is_empty() || rest.starts_with('=')) => {
            format!("--{BOUND_USER}{rest}").into()
        }
        _ => word,
    };
    args.into_iter().enumerate().map(rename).collect()
}

/// What a command line says, or what is to be printed instead: help, or an error.
///
/// # Errors
/// Flags and commands that there are not, and values that do not fit.
pub fn parse(args: Vec<OsString>) -> std::result::Result<Cli, Parsed> {
    let args = rename_bound_user(args);
    let mut grammar = command();
    let parsed = grammar.try_get_matches_from_mut(args.clone()).and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp => Parsed::Help(error.to_string()),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            Parsed::Help(error.to_string())
        }
        _ => Parsed::Wrong(explain(&error, &grammar, &args)),
    })
}

/// Why there is no command to run.
pub enum Parsed {
    Help(String),
    Wrong(Error),
}

/// The command that the words name, and its full name: `kubectl rollout status`.
fn named<'a>(grammar: &'a Command, args: &[OsString]) -> (&'a Command, String) {
    let mut path = String::from("kubectl");
    let mut at = grammar;
    for word in args.iter().skip(1).filter_map(|arg| arg.to_str()) {
        if let Some(below) = at.find_subcommand(word) {
            path.push(' ');
            path.push_str(below.get_name());
            at = below;
        }
    }
    (at, path)
}

/// A flag's name, with the letter that stands for it too: `-w, --watch`.
fn with_letter(command: &Command, name: &str) -> String {
    let is = |arg: &&clap::Arg| arg.get_long().is_some_and(|long| name.strip_prefix("--") == Some(long));
    match command.get_arguments().find(is).and_then(clap::Arg::get_short) {
        Some(letter) => format!("-{letter}, {name}"),
        None => name.to_owned(),
    }
}

fn explain(error: &clap::Error, grammar: &Command, args: &[OsString]) -> Error {
    let (command, path) = named(grammar, args);
    let text = |kind: ContextKind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let flag = text(ContextKind::InvalidArg);
    let name = flag.split([' ', '=', '[']).next().unwrap_or_default();
    let message = match error.kind() {
        ErrorKind::UnknownArgument if name.starts_with("--") => format!("unknown flag: {name}"),
        ErrorKind::UnknownArgument if name.starts_with('-') => {
            let letter = name.chars().nth(1).unwrap_or_default();
            format!("unknown shorthand flag: '{letter}' in {name}")
        }
        ErrorKind::UnknownArgument => return Error::Usage(format!("unknown command \"{name}\" for \"{path}\"")),
        ErrorKind::InvalidSubcommand => {
            let wrong = text(ContextKind::InvalidSubcommand);
            if path == "kubectl" {
                return Error::Usage(format!(
                    "unknown command \"{wrong}\" for \"kubectl\"{}",
                    suggestion(grammar, &wrong)
                ));
            }
            if path == "kubectl create" {
                let words = args.iter().filter_map(|word| word.to_str()).skip_while(|word| *word != "create").skip(1);
                let words: Vec<&str> = words.take_while(|word| !word.starts_with('-')).collect();
                return Error::Usage(format!(
                    "Unexpected args: [{}]\nSee '{path} -h' for help and examples",
                    words.join(" ")
                ));
            }
            return Error::Usage(format!("unknown command \"{wrong}\"\nSee '{path} -h' for help and examples"));
        }
        // A value that is missing has no value in its error.
        ErrorKind::InvalidValue if text(ContextKind::InvalidValue).is_empty() => {
            let last = args.last().and_then(|word| word.to_str()).unwrap_or_default();
            match last.strip_prefix('-').and_then(|letters| letters.chars().last()) {
                Some(letter) if !last.starts_with("--") => format!("flag needs an argument: {letter:?} in {last}"),
                _ => format!("flag needs an argument: {name}"),
            }
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            if matches!(name, "--dry-run" | "--request-timeout") {
                return Error::Usage(why);
            }
            let name = with_letter(command, name);
            format!("invalid argument \"{}\" for \"{name}\" flag: {why}", text(ContextKind::InvalidValue))
        }
        ErrorKind::MissingRequiredArgument => format!("required arguments are missing: {}", missing(error)),
        _ => return Error::Usage(error.to_string().trim_start_matches("error: ").trim_end().to_owned()),
    };
    Error::Usage(format!("{message}\nSee '{path} --help' for usage."))
}

fn missing(error: &clap::Error) -> String {
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(names)) => names.join(", "),
        _ => String::new(),
    }
}

/// Commands that begin with the word, or differ from it by few letters.
fn suggestion(grammar: &Command, wrong: &str) -> String {
    const FAR: usize = 2;
    let near = |name: &&str| name.starts_with(&wrong.to_lowercase()) || distance(wrong, name) <= FAR;
    let names = grammar.get_subcommands().map(Command::get_name).filter(near);
    let lines: String = names.map(|name| format!("\t{name}\n")).collect();
    if lines.is_empty() { lines } else { format!("\n\nDid you mean this?\n{}", lines.trim_end()) }
}

/// How many letters are to be added, taken away or replaced to make one word of another.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = corner + usize::from(a != *b);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[other.len()]
}

/// A truth value as Go reads it.
///
/// # Errors
/// What is none.
pub fn truth(text: &str) -> std::result::Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        other => Err(format!("strconv.ParseBool: parsing \"{other}\": invalid syntax")),
    }
}

/// A whole number as Go reads it.
///
/// # Errors
/// What is none.
pub fn whole(text: &str) -> std::result::Result<i64, String> {
    text.parse().map_err(|_| format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))
}

/// As [`whole`], and what is less than nothing is nothing.
///
/// # Errors
/// What is no whole number.
pub fn count(text: &str) -> std::result::Result<u64, String> {
    whole(text).map(|number| u64::try_from(number).unwrap_or(0))
}

/// A duration as Go reads it: `30s`, `1m30s`, `500ms`, `-2h`; only zero goes without a unit.
///
/// # Errors
/// What is none.
pub fn duration(text: &str) -> std::result::Result<SignedDuration, String> {
    let wrong = || format!("time: invalid duration \"{text}\"");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let value: f64 = rest[..number].parse().map_err(|_| wrong())?;
        let unit = rest[number..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |end| number + end);
        seconds += value
            * match &rest[number..unit] {
                "" => return Err(format!("time: missing unit in duration \"{text}\"")),
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                other => return Err(format!("time: unknown unit \"{other}\" in duration \"{text}\"")),
            };
        rest = &rest[unit..];
    }
    SignedDuration::try_from_secs_f64(sign * seconds).map_err(|_| wrong())
}

const INVALID_TIMEOUT: &str = "Invalid timeout value. Timeout must be a single integer in seconds, or an integer followed by a corresponding time unit (e.g. 1s | 2m | 3h)";

/// As [`duration`], but a bare number is in seconds.
///
/// # Errors
/// What is none.
pub fn text_duration(text: &str) -> std::result::Result<SignedDuration, String> {
    match text.parse::<u32>() {
        Ok(seconds) => Ok(SignedDuration::from_secs(i64::from(seconds))),
        Err(_) => duration(text).map_err(|_| INVALID_TIMEOUT.to_owned()),
    }
}

/// A time limit of a command that waits: none where it is zero, a week where it is negative.
pub fn limit(timeout: SignedDuration) -> Option<std::time::Duration> {
    const WEEK: u64 = 7 * 24 * 60 * 60;
    let week = std::time::Duration::from_secs(WEEK);
    (!timeout.is_zero()).then(|| std::time::Duration::try_from(timeout).unwrap_or(week))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(line: &str) -> String {
        let args = line.split_whitespace().map(OsString::from).collect();
        match parse(args) {
            Err(Parsed::Wrong(error)) => error.report(),
            Err(Parsed::Help(_)) => "help".to_owned(),
            Ok(_) => String::new(),
        }
    }

    #[test]
    fn errors_of_flags_are_in_gos_words() {
        for (line, text) in [
            ("kubectl get pods -A=false --watch=true", ""),
            ("kubectl get pods --watch --watch=false -o yaml -o json", ""),
            ("kubectl logs x --tail -1", ""),
            ("kubectl get --foo", "error: unknown flag: --foo\nSee 'kubectl get --help' for usage."),
            ("kubectl get -z", "error: unknown shorthand flag: 'z' in -z\nSee 'kubectl get --help' for usage."),
            ("kubectl get pods -o", "error: flag needs an argument: 'o' in -o\nSee 'kubectl get --help' for usage."),
            ("kubectl config foo", "error: unknown command \"foo\"\nSee 'kubectl config -h' for help and examples"),
        ] {
            assert_eq!(wrong(line), text, "{line}");
        }
        assert!(wrong("kubectl nonsense").starts_with("error: unknown command \"nonsense\" for \"kubectl\""));
        assert_eq!(wrong("kubectl"), "help");
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!(duration("1m30s"), Ok(SignedDuration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(SignedDuration::from_millis(500)));
        assert_eq!(duration("-1.5h"), Ok(SignedDuration::from_secs(-5400)));
        assert_eq!(duration("0"), Ok(SignedDuration::ZERO));
        assert_eq!(duration("5"), Err("time: missing unit in duration \"5\"".into()));
        assert_eq!(duration("5x"), Err("time: unknown unit \"x\" in duration \"5x\"".into()));
        assert_eq!(duration("x"), Err("time: invalid duration \"x\"".into()));
        assert_eq!(text_duration("5"), Ok(SignedDuration::from_secs(5)));
    }
}
