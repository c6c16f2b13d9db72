//! `visplay completions`: shell completions.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::{Cli, Result, Ui};

/// Print shell completions.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay completions bash > ~/.local/share/bash-completion/completions/visplay
  visplay completions fish > ~/.config/fish/completions/visplay.fish")]
pub struct CompletionsArgs {
    /// The shell to print completions for.
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs `visplay completions`.
pub fn cmd_completions(args: &CompletionsArgs, ui: &Ui) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "visplay", &mut script);
    ui.result(String::from_utf8_lossy(&script).trim_end())
}
