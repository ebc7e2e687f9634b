//! `serve`: one node.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use quorate_server::config::{ConfigLayer, LogFormat, ServerConfig};
use signal_hook::consts::{SIGINT, SIGTERM};
use tracing_subscriber::EnvFilter;

use crate::cli::Failure;

/// `serve`: the settings of [`ConfigLayer`], and where to read more of them.
#[derive(Args, Debug)]
#[command(
    after_help = "Flags come before environment variables, these before the file (TOML, the same names with \
                        _ for -), that before the defaults. Sizes are bytes, or 64KiB, 16MiB, 1GiB.\n\n\
                        SIGTERM or SIGINT: the node finishes what is under way, hands its leaderships over and \
                        exits with 0; a second one ends it at once."
)]
pub struct ServeArgs {
    /// Read settings from this TOML file
    #[arg(long, env = "QUORATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Stop when standard input ends: `dev` holds the other end, so that no node outlives it
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
    #[command(flatten)]
    layer: ConfigLayer,
}

/// Runs the node until it is told to stop.
pub fn run(args: ServeArgs) -> Result<(), Failure> {
    let config = ServerConfig::load(args.layer, args.config.as_deref())
        .map_err(|error| Failure::usage(error.to_string()))?;
    init_logs(&config)?;

    let shutdown = Arc::new(AtomicBool::new(false));
    watch_signals(&shutdown).map_err(|error| Failure::new(format!("cannot watch for signals: {error}")))?;
    if args.exit_with_stdin {
        watch_stdin(shutdown.clone())
            .map_err(|error| Failure::new(format!("cannot start a thread: {error}")))?;
    }
    quorate_server::run(config, shutdown).map_err(|error| Failure::new(error.to_string()))
}

fn init_logs(config: &ServerConfig) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&config.log_level).map_err(|error| {
        Failure::usage(format!(
            "log_level is `{}`, but it must be error, warn, info, debug, trace, or a list such as \
             info,quorate_store=debug: {error}",
            config.log_level
        ))
    })?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => {
            logs.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
                .init();
        }
        LogFormat::Json => logs.json().init(),
    }
    Ok(())
}

/// The first SIGTERM or SIGINT sets the flag, a second one ends the process at once with exit code 1.
fn watch_signals(shutdown: &Arc<AtomicBool>) -> std::io::Result<()> {
    for signal in [SIGTERM, SIGINT] {
        // In this order: the conditional exit must look at the flag before the same signal sets it.
        signal_hook::flag::register_conditional_shutdown(signal, 1, shutdown.clone())?;
        signal_hook::flag::register(signal, shutdown.clone())?;
    }
    Ok(())
}

fn watch_stdin(shutdown: Arc<AtomicBool>) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let mut nothing = [0u8; 64];
            let mut stdin = std::io::stdin();
            // Whatever is not more input means that nobody holds the other end any more.
            while matches!(stdin.read(&mut nothing), Ok(n) if n > 0) {}
            tracing::info!("parent process is gone, stopping");
            shutdown.store(true, Ordering::Relaxed);
        })?;
    Ok(())
}
