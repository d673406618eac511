//! The completions of the shells.

use super::{Description, Opt, Value};

/// For bash: one function, with a branch for the options of each command, and one for the values
/// of each option. `=` is a word of its own, because it is in COMP_WORDBREAKS.
pub(super) fn bash(program: &Description, commands: &[&Description]) -> String {
    let mut script = "\
# bash completion for doorkeeper
_doorkeeper() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= words= i
    [[ $prev == = ]] && prev=${COMP_WORDS[COMP_CWORD-2]}
    [[ $cur == = ]] && cur=
    for ((i = 1; i < COMP_CWORD; i++)); do
        [[ ${COMP_WORDS[i]} != -* ]] && command=${COMP_WORDS[i]} && break
    done
    COMPREPLY=()
    case $command/$prev in
"
    .to_string();
    for command in commands {
        for option in command.options() {
            let action = match option.value {
                Value::None | Value::OptionalWord(_) => continue,
                Value::Any(_) => "return".to_string(),
                Value::File(_) => {
                    "compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); return"
                        .to_string()
                }
                Value::OneOf(words) => format!("words='{}'", words.join(" ")),
            };
            for name in option.names() {
                script += &format!("    {}/{name}) {action} ;;\n", command.command);
            }
        }
    }
    for command in [&[program], commands].concat() {
        let options = command.options().flat_map(Opt::names);
        let operands = command.operands.iter().map(ToString::to_string);
        let words: Vec<String> = options.chain(operands).collect();
        script += &format!(
            "    {}/*) words='{}' ;;\n",
            command.command,
            words.join(" ")
        );
    }
    script
        + "\
    esac
    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")
}
complete -F _doorkeeper doorkeeper
"
}

/// For zsh: _arguments for the program, and again for each command.
pub(super) fn zsh(program: &Description, commands: &[&Description]) -> String {
    let mut script = "\
#compdef doorkeeper
_doorkeeper() {
    local context state state_descr line
    typeset -A opt_args
    _arguments -C \\
"
    .to_string();
    script += &zsh_options(program);
    script += "        '1:command:((";
    for command in commands {
        let about = zsh_text(command.about.trim_end_matches('.'));
        script += &format!("{}\\:\"{about}\" ", command.command);
    }
    script += "))' \\\n        '*::argument:->argument'\n    [[ $state == argument ]] || return\n    case $line[1] in\n";
    for command in commands {
        script += &format!("    {})\n        _arguments \\\n", command.command);
        script += &zsh_options(command);
        let operands = match command.operands {
            [] => String::new(),
            words => format!("({})", words.join(" ")),
        };
        script += &format!("        '*:argument:{operands}' ;;\n");
    }
    script
        + "    esac\n}\n# It is loaded by its first call, or sourced.\nif [[ $funcstack[1] == _doorkeeper ]]; then _doorkeeper; else compdef _doorkeeper doorkeeper; fi\n"
}

fn zsh_options(command: &Description) -> String {
    let mut specs = String::new();
    for option in command.options() {
        let meaning = zsh_text(option.summary());
        for name in option.names() {
            let (mark, value) = match option.value {
                Value::None => ("", String::new()),
                Value::Any(value) => ("=", format!(":{value}: ")),
                Value::File(value) => ("=", format!(":{value}:_files")),
                Value::OneOf(words) => ("=", format!(":value:({})", words.join(" "))),
                Value::OptionalWord(word) => ("=-", format!("::value:({word})")),
            };
            specs += &format!("        '{name}{mark}[{meaning}]{value}' \\\n");
        }
    }
    specs
}

/// A text within single quotes and brackets.
fn zsh_text(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\'' => escaped += "'\\''",
            '[' | ']' | ':' | '\\' | '"' => escaped.extend(['\\', c]),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// For fish: one line an option.
pub(super) fn fish(program: &Description, commands: &[&Description]) -> String {
    let mut script = "# fish completion for doorkeeper\ncomplete -c doorkeeper -f\n".to_string();
    let first = "complete -c doorkeeper -n __fish_use_subcommand";
    script += &fish_options(first, program);
    for command in commands {
        let about = fish_text(command.about.trim_end_matches('.'));
        script += &format!("{first} -a {} -d '{about}'\n", command.command);
    }
    for command in commands {
        let seen = format!(
            "complete -c doorkeeper -n '__fish_seen_subcommand_from {}'",
            command.command
        );
        script += &fish_options(&seen, command);
        if !command.operands.is_empty() {
            script += &format!("{seen} -a '{}'\n", command.operands.join(" "));
        }
    }
    script
}

fn fish_options(start: &str, command: &Description) -> String {
    let mut lines = String::new();
    for option in command.options() {
        lines += start;
        if let Some(name) = option.short {
            lines += &format!(" -s {name}");
        }
        if let Some(name) = option.long {
            lines += &format!(" -l {name}");
        }
        lines += &match option.value {
            Value::None | Value::OptionalWord(_) => String::new(),
            Value::Any(_) => " -x".to_string(),
            Value::File(_) => " -r -F".to_string(),
            Value::OneOf(words) => format!(" -x -a '{}'", words.join(" ")),
        };
        lines += &format!(" -d '{}'\n", fish_text(option.summary()));
    }
    lines
}

fn fish_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}
