//! Whom Postgres runs as, and what that user can reach.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::{EmbeddedError, folder_error};

/// Where a Unix lists its users. A system whose users come from elsewhere still lists `nobody` here.
const USERS_FILE: &str = "/etc/passwd";

/// Asked for in this order: the user that a distribution's own Postgres runs as, then the one who owns nothing.
const NAMES: [&str; 2] = ["postgres", "nobody"];

/// The user that Postgres runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    uid: u32,
    gid: u32,
    /// Whether we are root and must change to this user.
    is_switched: bool,
}

impl Account {
    /// Ourselves, or an unprivileged user when we are root.
    ///
    /// # Errors
    /// [`EmbeddedError::NoAccount`] and [`EmbeddedError::Users`], as root only.
    pub fn for_postgres() -> Result<Self, EmbeddedError> {
        let uid = rustix::process::geteuid();
        if !uid.is_root() {
            let gid = rustix::process::getegid();
            return Ok(Self {
                uid: uid.as_raw(),
                gid: gid.as_raw(),
                is_switched: false,
            });
        }
        let users = fs::read_to_string(USERS_FILE).map_err(|source| EmbeddedError::Users {
            path: PathBuf::from(USERS_FILE),
            source,
        })?;
        let (uid, gid) = NAMES
            .iter()
            .find_map(|name| find_user(&users, name))
            .ok_or(EmbeddedError::NoAccount)?;
        Ok(Self {
            uid,
            gid,
            is_switched: true,
        })
    }

    /// The owner of what is there already, in place of the user that root would choose.
    #[must_use]
    pub fn of_owner(&self, metadata: &fs::Metadata) -> Self {
        Self {
            uid: metadata.uid(),
            gid: metadata.gid(),
            is_switched: self.is_switched,
        }
    }

    /// The user's number.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The number of the user's group.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Whether processes must change to this user.
    #[must_use]
    pub fn is_switched(&self) -> bool {
        self.is_switched
    }

    /// Whether the mode bits let this user read and enter `path` and pass through every folder above it. Without a
    /// switch of user this is left to the system to answer when the path is used.
    ///
    /// # Errors
    /// [`EmbeddedError::Folder`] when a part of the path can't be examined.
    pub fn can_reach(&self, path: &Path) -> Result<bool, EmbeddedError> {
        if !self.is_switched {
            return Ok(true);
        }
        Ok(self.has_bits(path, 0o5)? && self.can_pass_to(path)?)
    }

    /// Whether the mode bits let this user pass through every folder above `path`.
    ///
    /// # Errors
    /// As [`Self::can_reach`].
    pub fn can_pass_to(&self, path: &Path) -> Result<bool, EmbeddedError> {
        if !self.is_switched {
            return Ok(true);
        }
        for parent in path.ancestors().skip(1) {
            if !self.has_bits(parent, 0o1)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn has_bits(&self, path: &Path, wanted: u32) -> Result<bool, EmbeddedError> {
        let metadata =
            fs::metadata(path).map_err(|source| folder_error("examine", path, source))?;
        let shift = if metadata.uid() == self.uid {
            6
        } else if metadata.gid() == self.gid {
            3
        } else {
            0
        };
        Ok((metadata.mode() >> shift) & wanted == wanted)
    }

    /// Gives one file or folder to this user.
    ///
    /// # Errors
    /// [`EmbeddedError::Folder`].
    pub fn take(&self, path: &Path) -> Result<(), EmbeddedError> {
        if !self.is_switched {
            return Ok(());
        }
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
            .map_err(|source| folder_error("change the owner of", path, source))
    }
}

/// The user and group numbers of `name` in the text of a users file. Number 0 is refused whatever its name.
fn find_user(users: &str, name: &str) -> Option<(u32, u32)> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (found, _password) = (fields.next()?, fields.next()?);
        let uid: u32 = fields.next()?.parse().ok()?;
        let gid: u32 = fields.next()?.parse().ok()?;
        (found == name && uid != 0).then_some((uid, gid))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::{Account, find_user};

    const USERS: &str = "root:x:0:0:root:/root:/bin/bash\n\
        # a remark\n\
        nobody:x:65534:65533:nobody:/nonexistent:/usr/sbin/nologin\n\
        postgres:x:0:0:a trap:/:/bin/sh\n";

    #[test]
    fn users_are_found_by_their_whole_name_and_root_is_none() {
        assert_eq!(find_user(USERS, "nobody"), Some((65534, 65533)));
        assert_eq!(find_user(USERS, "nobod"), None);
        assert_eq!(
            find_user(USERS, "postgres"),
            None,
            "a second root was taken"
        );
    }

    #[test]
    fn a_closed_parent_is_noticed() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o700))
            .expect("its mode is set");
        let inner = parent.path().join("inner");
        fs::create_dir(&inner).expect("a folder in it");
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).expect("its mode is set");
        let stranger = Account {
            uid: 4_000_001,
            gid: 4_000_001,
            is_switched: true,
        };
        assert!(
            !stranger.can_reach(&inner).expect("the path is there"),
            "passed through a folder of mode 0700"
        );
        fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o711))
            .expect("its mode is set");
        assert!(stranger.can_reach(&inner).expect("the path is there"));
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o700)).expect("its mode is set");
        assert!(!stranger.can_reach(&inner).expect("the path is there"));
        assert!(stranger.can_pass_to(&inner).expect("the path is there"));
    }
}
