//! Nodes as processes of their own, to be killed, stopped and continued.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use orfeas::config::{Role, Settings};

use super::{PROGRAM, World};

/// A node in a process of its own; killed when dropped.
pub struct NodeProcess {
    child: Child,
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
        let Settings {
            database_url,
            orfeas_storage,
            orfeas_data_dir,
            orfeas_master_keys,
            orfeas_models_dir,
            orfeas_role,
            orfeas_listen,
            ..
        } = settings;
        let mut child = Command::new(PROGRAM)
            .arg("serve")
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
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.map(Result::unwrap).find_map(|line| {
            let (name, path) = match orfeas_role {
                Role::All | Role::Api => ("API", "/graphql"),
                Role::Worker => ("Metrics", "/metrics"),
            };
            let rest = line.strip_prefix(name)?.trim().strip_prefix("http://")?;
            rest.strip_suffix(path).map(str::to_owned)
        });
        let api = address
            .expect("the node prints where it listens")
            .parse()
            .unwrap();
        Self { child, api }
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

    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // It may have ended already; a test that cares asks before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
