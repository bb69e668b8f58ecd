//! Who runs a process: names and numbers looked up in the image's own `/etc/passwd` and `/etc/group`.
//!
//! The files are the image's word and nobody's promise: they are bounded, and lines that make no sense
//! are passed over. A number is always a number: an image that calls its root `1000` must not make root of
//! whoever is to be 1000. The C library is not asked; it would read the host's files, and a static program
//! has no resolver anyway.

use crate::types::User;

/// The largest number of a user or a group, as other runtimes have it. The largest that the kernel knows
/// would tell it to leave things as they are: root.
const MAX_ID: u32 = 0x7fff_ffff;

/// Numbers for the kernel, and a home directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups, sorted.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// A name that the image does not know, or a number that nobody can have.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum UnknownUser {
    #[error("could not use {0} as a user or group: numbers are 0 to {MAX_ID}")]
    Range(String),
    #[error("could not find user {0:?} in the image's /etc/passwd")]
    User(String),
    #[error("could not find group {0:?} in the image's /etc/group")]
    Group(String),
}

struct PasswdLine<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupLine<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn passwd_lines(text: &str) -> impl Iterator<Item = PasswdLine<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let home = fields.nth(1).unwrap_or("/");
        Some(PasswdLine { name, uid: id(uid)?, gid: id(gid)?, home })
    })
}

fn group_lines(text: &str) -> impl Iterator<Item = GroupLine<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
        let members = fields.next().unwrap_or("");
        Some(GroupLine { name, gid: id(gid)?, members })
    })
}

fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|it| *it <= MAX_ID)
}

/// The number that a text is; `None` for a name.
fn number(text: &str) -> Option<Result<u32, UnknownUser>> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit());
    is_number.then(|| id(text).ok_or_else(|| UnknownUser::Range(text.to_owned())))
}

/// Looks `user` up in the text of the two files.
pub(crate) fn resolve(user: &User, passwd: &str, group: &str) -> Result<Identity, UnknownUser> {
    let (user_part, group_part) = user.image.split_once(':').unwrap_or((&user.image, ""));
    let groups = user.supplementary_groups.iter().copied();
    let mut asked = user.uid.into_iter().chain(user.gid).chain(groups);
    if let Some(beyond) = asked.find(|it| *it > MAX_ID) {
        return Err(UnknownUser::Range(beyond.to_string()));
    }
    let (uid, line) = match (user.uid, user_part, number(user_part)) {
        (Some(uid), ..) => find_uid(passwd, uid),
        (None, "", _) => find_uid(passwd, 0),
        (None, _, Some(uid)) => find_uid(passwd, uid?),
        (None, name, None) => {
            let line = passwd_lines(passwd).find(|line| line.name == name);
            let line = line.ok_or_else(|| UnknownUser::User(name.to_owned()))?;
            (line.uid, Some(line))
        }
    };
    let gid = match (user.gid, group_part) {
        (Some(gid), _) => gid,
        // A group in the image belongs to the user in the image.
        (None, text) if !text.is_empty() && user.uid.is_none() => find_group(group, text)?,
        (None, _) => line.as_ref().map_or(0, |line| line.gid),
    };
    let mut groups = user.supplementary_groups.clone();
    if let Some(line) = &line {
        let is_member = |it: &GroupLine<'_>| it.members.split(',').any(|name| name == line.name);
        groups.extend(group_lines(group).filter(is_member).map(|it| it.gid));
    }
    groups.sort_unstable();
    groups.dedup();
    let home = line.map_or("/", |line| line.home).to_owned();
    Ok(Identity { uid, gid, groups, home: if home.is_empty() { "/".to_owned() } else { home } })
}

fn find_uid(passwd: &str, uid: u32) -> (u32, Option<PasswdLine<'_>>) {
    (uid, passwd_lines(passwd).find(|line| line.uid == uid))
}

fn find_group(group: &str, text: &str) -> Result<u32, UnknownUser> {
    if let Some(gid) = number(text) {
        return gid;
    }
    let by_name = group_lines(group).find(|line| line.name == text).map(|line| line.gid);
    by_name.ok_or_else(|| UnknownUser::Group(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34:w:/var/www:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlogs:x:40:web,root\n:::\nadm:x:41:web\n";

    fn check(user: User, expected: (u32, u32, &[u32], &str)) {
        let it = resolve(&user, PASSWD, GROUP).unwrap();
        assert_eq!((it.uid, it.gid, it.groups.as_slice(), it.home.as_str()), expected);
    }

    fn image(text: &str) -> User {
        User { image: text.to_owned(), ..User::default() }
    }

    #[test]
    fn names_and_numbers() {
        check(image(""), (0, 0, &[40], "/root"));
        check(image("web"), (33, 34, &[40, 41], "/var/www"));
        check(image("33"), (33, 34, &[40, 41], "/var/www"));
        check(image("web:logs"), (33, 40, &[40, 41], "/var/www"));
        check(image("1000:1001"), (1000, 1001, &[], "/"));
        check(User { uid: Some(7), ..image("web:logs") }, (7, 0, &[], "/"));
        check(
            User { uid: Some(33), gid: Some(5), ..image("root") },
            (33, 5, &[40, 41], "/var/www"),
        );
        let groups = User { supplementary_groups: vec![9, 9, 40], ..image("web") };
        check(groups, (33, 34, &[9, 40, 41], "/var/www"));
    }

    /// Who is to be 1000 is not to be whomever the image calls so.
    #[test]
    fn numbers_are_never_names() {
        let passwd = "1000:x:0:0:root:/root:/bin/sh\nmax:x:4294967295:0::/:\n";
        let group = "50:x:0:\n";
        let resolved = |text: &str| resolve(&image(text), passwd, group);
        let it = resolved("1000:50").unwrap();
        assert_eq!((it.uid, it.gid, it.home.as_str()), (1000, 50, "/"));
        for beyond in ["2147483648", "4294967295", "4294967296", "-1", "1:4294967295"] {
            assert!(matches!(resolved(beyond), Err(UnknownUser::Range(_))), "{beyond}");
        }
        assert!(matches!(resolved("max"), Err(UnknownUser::User(_))));
        let user = User { uid: Some(u32::MAX), ..User::default() };
        assert!(matches!(resolve(&user, passwd, group), Err(UnknownUser::Range(_))));
    }

    #[test]
    fn unknown_names_are_errors() {
        assert!(matches!(resolve(&image("nobody"), PASSWD, GROUP), Err(UnknownUser::User(_))));
        assert!(matches!(resolve(&image("web:none"), PASSWD, GROUP), Err(UnknownUser::Group(_))));
    }
}
