//! The machine that a command runs on: its shell, the repository, and the way to root.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use cargo_metadata::MetadataCommand;
use xshell::{Cmd, Shell};

/// Where administrators' programs are; an ordinary user's PATH leaves these out.
const SYSTEM_PATHS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// The machine that a command runs on.
pub(crate) struct Host {
    /// Runs commands in the root of the repository.
    pub(crate) sh: Shell,
    /// Whether this process is root.
    pub(crate) root: bool,
    /// Where cargo puts what it builds.
    pub(crate) target: PathBuf,
}

impl Host {
    pub(crate) fn new() -> Result<Self> {
        let workspace = MetadataCommand::new().no_deps().exec().context("ask cargo for the workspace")?;
        let sh = Shell::new().context("find the current directory")?;
        sh.change_dir(&workspace.workspace_root);
        sh.set_var("PATH", search_path()?);
        let target = workspace.target_directory.into();
        Ok(Self { sh, root: nix::unistd::geteuid().is_root(), target })
    }

    /// The daemon as `cargo xtask build` leaves it.
    pub(crate) fn daemon(&self) -> PathBuf {
        self.target.join("release/tracker")
    }

    /// Where a program is, also when only an administrator's PATH has it.
    pub(crate) fn find(&self, program: &str) -> Option<PathBuf> {
        let path = self.sh.var_os("PATH");
        which::which_in(program, path, self.sh.current_dir()).ok()
    }

    /// Runs a command with its output shown.
    pub(crate) fn run(command: &Cmd<'_>) -> Result<()> {
        command.run().map_err(|error| match error.to_string() {
            // xshell's message repeats the command, which is wanted alone, to be copied.
            message if message.contains("non-zero") => anyhow!("this failed; to try it by hand: {command}"),
            message => anyhow!("{message}; to try it by hand: {command}"),
        })
    }

    /// Runs a command that is too long to be typed; `by_hand` is the short one that does the same.
    pub(crate) fn run_as(command: Cmd<'_>, by_hand: &str) -> Result<()> {
        println!("$ {by_hand}");
        command.quiet().run().map_err(|_| anyhow!("this failed; to try it by hand: {by_hand}"))
    }

    /// What a command writes, trimmed; `None` when it cannot be started or fails.
    pub(crate) fn ask(command: Cmd<'_>) -> Option<String> {
        command.quiet().ignore_stderr().read().ok()
    }

    /// What has to stand before a command to make it root's: nothing for root, sudo for others.
    pub(crate) fn root_prefix(&self) -> Result<Vec<OsString>> {
        if self.root {
            return Ok(Vec::new());
        }
        let Some(sudo) = self.find("sudo") else {
            bail!("this step needs root, and there is no sudo here: run the same command as root");
        };
        Ok(vec![sudo.into()])
    }

    /// A command as root. sudo clears the environment, so `variables` are set behind it.
    pub(crate) fn as_root(&self, variables: &[(OsString, OsString)], program: impl AsRef<OsStr>) -> Result<Cmd<'_>> {
        let mut words = self.root_prefix()?;
        words.extend(env_words(variables));
        words.push(program.as_ref().to_owned());
        Ok(self.sh.cmd(&words[0]).args(&words[1..]))
    }

    /// cargo's arguments that make it start what it builds as root, with `variables` set. cargo itself stays a user.
    pub(crate) fn root_runner(&self, variables: &[(OsString, OsString)]) -> Result<Vec<String>> {
        let mut words = self.root_prefix()?;
        words.extend(env_words(variables));
        if words.is_empty() {
            return Ok(Vec::new());
        }
        let words = words
            .into_iter()
            .map(|word| word.into_string().map_err(|word| anyhow!("{} is not UTF-8", word.display())))
            .collect::<Result<Vec<_>>>()?;
        // Debug of a list of strings is also an array of TOML.
        Ok(vec!["--config".to_owned(), format!("target.\"cfg(all())\".runner = {words:?}")])
    }

    /// What the lab gets: the daemon to test, and a PATH that reaches every program.
    pub(crate) fn lab_variables(&self) -> Vec<(OsString, OsString)> {
        let mut variables = forwarded(&["RUST_LOG", "RUST_BACKTRACE", "TRACKER_BLESS"]);
        variables.push(("TRACKER_BIN".into(), self.daemon().into()));
        variables.extend(self.sh.var_os("PATH").map(|path| ("PATH".into(), path)));
        variables
    }

    /// A path as the user would type it.
    pub(crate) fn shown(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.sh.current_dir()).unwrap_or(path).to_owned()
    }
}

/// The variables of this process whose names start with one of `prefixes`.
pub(crate) fn forwarded(prefixes: &[&str]) -> Vec<(OsString, OsString)> {
    let wanted =
        |name: &OsStr| name.to_str().is_some_and(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)));
    env::vars_os().filter(|(name, _)| wanted(name)).collect()
}

fn env_words(variables: &[(OsString, OsString)]) -> Vec<OsString> {
    if variables.is_empty() {
        return Vec::new();
    }
    let assignments = variables.iter().map(|(name, value)| {
        let mut word = name.clone();
        word.push("=");
        word.push(value);
        word
    });
    [OsString::from("env")].into_iter().chain(assignments).collect()
}

/// PATH with cargo's own programs, bpf-linker among them, and the administrator's.
fn search_path() -> Result<OsString> {
    let cargo = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
    let mut paths: Vec<PathBuf> = env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    for path in cargo.map(|cargo| cargo.join("bin")).into_iter().chain(SYSTEM_PATHS.map(PathBuf::from)) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    env::join_paths(paths).context("PATH has a directory with a colon in its name")
}
