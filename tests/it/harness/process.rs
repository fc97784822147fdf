//! Nodes as processes of their own, to be killed, stopped and continued.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};

use orfeas::config::{Role, Settings};

use super::{PROGRAM, World};

/// A node in a process of its own; killed when dropped.
pub struct NodeProcess {
    child: Child,
    /// Of one that only computes: where its metrics are.
    pub api: SocketAddr,
}

impl NodeProcess {
    /// Starts a node and waits until it serves.
    pub fn start(world: &World) -> Self {
        Self::with(world.settings())
    }

    /// The same with settings of its own, as far as processes are given them.
    pub fn with(settings: Settings) -> Self {
        Self::with_variables(settings, &[])
    }

    /// The same with these variables in its environment, too.
    pub fn with_variables(settings: Settings, variables: &[(&str, &str)]) -> Self {
        let variables = [&[("ORFEAS_LOG", "warn")], variables].concat();
        Self::start_with(settings, &variables, Stdio::inherit())
    }

    /// The same at the address of one that has ended.
    pub fn start_at(world: &World, address: SocketAddr) -> Self {
        Self::with(Settings {
            orfeas_listen: address,
            ..world.settings()
        })
    }

    /// The same with a log of its own, as detailed as asked.
    pub fn start_logging(world: &World, filter: &str, log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        Self::start_with(world.settings(), &[("ORFEAS_LOG", filter)], log.into())
    }

    /// A node that only answers clients, with these variables in its environment.
    pub fn start_api(world: &World, variables: &[(&str, &str)]) -> Self {
        let settings = Settings {
            orfeas_role: Role::Api,
            ..world.settings()
        };
        Self::with_variables(settings, variables)
    }

    /// The same with all of that; where it serves no clients, its address is the operators'.
    pub fn start_with(settings: Settings, variables: &[(&str, &str)], log: Stdio) -> Self {
        Self::try_start(settings, variables, log)
            .unwrap_or_else(|status| panic!("the node ended before it served: {status}"))
    }

    /// Starts a node that may end before it serves; how it ended then.
    pub fn try_start(
        settings: Settings,
        variables: &[(&str, &str)],
        log: Stdio,
    ) -> Result<Self, ExitStatus> {
        Self::launch(Command::new(PROGRAM), settings, variables, log)
    }

    /// The same by a command that the program's arguments are added to.
    pub fn launch(
        mut command: Command,
        settings: Settings,
        variables: &[(&str, &str)],
        log: Stdio,
    ) -> Result<Self, ExitStatus> {
        let Settings {
            database_url,
            orfeas_storage,
            orfeas_data_dir,
            orfeas_master_keys,
            orfeas_models_dir,
            orfeas_default_model,
            orfeas_egress_allow,
            orfeas_role,
            orfeas_listen,
            ..
        } = settings;
        if let Some(networks) = orfeas_egress_allow {
            command.env("ORFEAS_EGRESS_ALLOW", networks);
        }
        let mut child = command
            .arg("serve")
            .env("ORFEAS_DEFAULT_MODEL", orfeas_default_model)
            .env("DATABASE_URL", database_url.unwrap())
            .env("ORFEAS_STORAGE", orfeas_storage.unwrap())
            .env("ORFEAS_DATA_DIR", orfeas_data_dir)
            .env("ORFEAS_MASTER_KEYS", orfeas_master_keys.unwrap())
            .env("ORFEAS_MODELS_DIR", orfeas_models_dir.unwrap())
            .env("ORFEAS_LISTEN", orfeas_listen.to_string())
            .env("ORFEAS_METRICS_LISTEN", "127.0.0.1:0")
            .env("ORFEAS_ROLE", orfeas_role.as_str())
            .env("ORFEAS_DEVICE", "cpu")
            .envs(variables.iter().copied())
            .stderr(log)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (word, path) = match orfeas_role {
            Role::Worker => ("Metrics", "/metrics"),
            Role::All | Role::Api => ("API", "/graphql"),
        };
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.map(Result::unwrap).find_map(|line| {
            let rest = line.strip_prefix(word)?.trim().strip_prefix("http://")?;
            rest.strip_suffix(path).map(str::to_owned)
        });
        // Without one its output has ended, and so has it.
        match address {
            Some(address) => Ok(Self {
                api: address.parse().unwrap(),
                child,
            }),
            None => Err(child.wait().unwrap()),
        }
    }

    /// SIGKILL: no good-bye.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_raw(i32::try_from(self.id()).unwrap()).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // It may have ended already; a test that cares asks before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
