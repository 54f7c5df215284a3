//! Packages and feeds as others read them: GNU tar, gzip, sha256sum, signify, and make for the
//! recipe of OpenWrt's build system.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod made;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use made::{ARCH, EPOCH, Feed, cross, daemon, run, said, top};

fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The fields of a stanza; lines that go on belong to the field above.
fn fields(stanza: &str) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in stanza.lines() {
        match (line.starts_with(' '), line.split_once(": "), fields.last_mut()) {
            (false, Some((name, value)), _) => fields.push((name.to_owned(), value.to_owned())),
            (true, _, Some((_, value))) => *value += &format!("\n{line}"),
            _ => panic!("no field: {line:?}"),
        }
    }
    fields
}

fn field(stanza: &str, name: &str) -> String {
    fields(stanza).into_iter().find(|(it, _)| it == name).map(|(_, value)| value).unwrap()
}

#[test]
fn tar_lists_the_members_in_opkgs_order_owned_by_root_and_dated() {
    let feed = Feed::make(&[]);
    let package = feed.package();
    let list = run(Path::new("/"), "tar", &["-tzf", package.to_str().unwrap()]);
    assert_eq!(list, "./debian-binary\n./data.tar.gz\n./control.tar.gz\n");
    let unpacked = feed.unpack();
    assert_eq!(text(unpacked.outer().join("debian-binary")), "2.0\n");
    let listed = |archive: &str| {
        let arguments = ["--utc", "--numeric-owner", "--full-time", "-tvzf", archive];
        run(&unpacked.outer(), "tar", &arguments)
    };
    let date = run(Path::new("/"), "date", &["-u", "-d", &format!("@{EPOCH}"), "+%F %T"]);
    let mut seen = Vec::new();
    for archive in ["data.tar.gz", "control.tar.gz"] {
        for line in listed(archive).lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(words[1], "0/0", "{line}");
            assert_eq!(format!("{} {}", words[3], words[4]), date.trim(), "{line}");
            seen.push(format!("{} {}", words[0], words[5]));
        }
    }
    let expected = [
        "drwxr-xr-x ./",
        "drwxr-xr-x ./etc/",
        "-rw------- ./etc/firmware-ctd.toml",
        "drwxr-xr-x ./etc/init.d/",
        "-rwxr-xr-x ./etc/init.d/firmware-ctd",
        "drwxr-xr-x ./lib/",
        "drwxr-xr-x ./lib/upgrade/",
        "-rw-r--r-- ./lib/upgrade/firmware-ctd.sh",
        "drwxr-xr-x ./usr/",
        "drwxr-xr-x ./usr/sbin/",
        "-rwxr-xr-x ./usr/sbin/firmware-ctd",
        "drwxr-xr-x ./",
        "-rw-r--r-- ./conffiles",
        "-rw-r--r-- ./control",
        "-rwxr-xr-x ./postinst",
        "-rwxr-xr-x ./prerm",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn gnu_tar_would_write_the_same_bytes() {
    let feed = Feed::make(&[]);
    let unpacked = feed.unpack();
    let date = format!("--mtime=@{EPOCH}");
    let options = ["--format=gnu", "--numeric-owner", "--sort=name", "--owner=0", "--group=0"];
    let packed = |directory: &Path, names: &[&str]| {
        let mut tar = Command::new("tar");
        tar.current_dir(directory).args(options).args([&date, "-cf", "-"]).args(names);
        tar.output().unwrap().stdout
    };
    let unzipped =
        |archive: PathBuf| Command::new("gzip").arg("-dc").arg(archive).output().unwrap().stdout;
    let outer = unpacked.outer();
    assert!(packed(&unpacked.files(), &["."]) == unzipped(outer.join("data.tar.gz")));
    assert!(packed(&unpacked.control(), &["."]) == unzipped(outer.join("control.tar.gz")));
    let members = ["./debian-binary", "./data.tar.gz", "./control.tar.gz"];
    assert!(packed(&outer, &members) == unzipped(feed.package()));
}

#[test]
fn each_file_is_its_source() {
    let unpacked = Feed::make(&[]).unpack();
    let sources = [
        ("usr/sbin/firmware-ctd", daemon().to_owned()),
        ("etc/init.d/firmware-ctd", top("config/openwrt/firmware-ctd.init")),
        ("lib/upgrade/firmware-ctd.sh", top("config/openwrt/upgrade.sh")),
        ("etc/firmware-ctd.toml", top("config/boards/medium-256mb.toml")),
    ];
    for (installed, source) in sources {
        let installed = fs::read(unpacked.files().join(installed)).unwrap();
        assert!(installed == fs::read(&source).unwrap(), "{}", source.display());
    }
    let other = Feed::make(&["--profile", "small-32mb"]).unpack();
    assert_eq!(
        text(other.files().join("etc/firmware-ctd.toml")),
        text(top("config/boards/small-32mb.toml"))
    );
}

#[test]
fn control_has_openwrts_fields_in_their_order() {
    let unpacked = Feed::make(&[]).unpack();
    let control = text(unpacked.control().join("control"));
    let names: Vec<String> = fields(&control).into_iter().map(|(name, _)| name).collect();
    let expected = [
        "Package",
        "Version",
        "Depends",
        "Source",
        "SourceName",
        "License",
        "LicenseFiles",
        "Section",
        "SourceDateEpoch",
        "Architecture",
        "Installed-Size",
        "Description",
    ];
    assert_eq!(names, expected);
    assert_eq!(field(&control, "Version"), format!("{}-r1", env!("CARGO_PKG_VERSION")));
    assert_eq!(field(&control, "Architecture"), ARCH);
    assert_eq!(field(&control, "SourceDateEpoch"), EPOCH.to_string());
    let size = run(&unpacked.outer(), "sh", &["-c", "gzip -dc data.tar.gz | wc -c"]);
    assert_eq!(field(&control, "Installed-Size"), size.trim());
    for file in field(&control, "LicenseFiles").split_whitespace() {
        assert!(top(file).is_file());
    }
    assert!(top(&field(&control, "Source")).join("Makefile").is_file());
    assert_eq!(text(unpacked.control().join("conffiles")), "/etc/firmware-ctd.toml\n");
}

#[test]
fn two_runs_give_the_same_bytes() {
    let keys = tempfile::tempdir().unwrap();
    said(&cross(&["key", keys.path().to_str().unwrap()]));
    let key = keys.path().join("feed.sec");
    let feeds = [(); 2].map(|()| Feed::make(&["--key", key.to_str().unwrap()]));
    for name in ["Packages", "Packages.gz", "Packages.sig"] {
        let [one, two] = feeds.each_ref().map(|feed| fs::read(feed.path().join(name)).unwrap());
        assert!(one == two, "{name}");
    }
    let [one, two] = feeds.each_ref().map(|feed| fs::read(feed.package()).unwrap());
    assert!(one == two);
}

/// Size and sum of a package in an index, against the file, by stat and sha256sum.
fn agrees(feed: &Path) -> bool {
    let index = text(feed.join("Packages"));
    let name = field(index.trim_end(), "Filename");
    let size = run(feed, "stat", &["-c", "%s", &name]);
    let sum = run(feed, "sha256sum", &[&name]);
    field(index.trim_end(), "Size") == size.trim()
        && field(index.trim_end(), "SHA256sum") == sum.split(' ').next().unwrap()
}

#[test]
fn the_index_tells_size_and_sum_and_a_changed_package_is_noticed() {
    let feed = Feed::make(&[]);
    let index = text(feed.path().join("Packages"));
    assert!(index.ends_with("\n\n") && index.matches("\n\n").count() == 1);
    let unzipped = run(&feed.path(), "gzip", &["-dc", "Packages.gz"]);
    assert_eq!(index, unzipped);
    let control = text(feed.unpack().control().join("control"));
    for (name, value) in fields(&control) {
        assert_eq!(field(index.trim_end(), &name), value);
    }
    assert!(agrees(&feed.path()));
    let mut package = fs::read(feed.package()).unwrap();
    let middle = package.len() / 2;
    package[middle] ^= 1;
    fs::write(feed.package(), package).unwrap();
    assert!(!agrees(&feed.path()));
}

/// Whether signify takes the feed's signature for that of its index, by the public key.
fn verified(feed: &Path, public: &Path) -> bool {
    let mut signify = Command::new("signify-openbsd");
    signify.current_dir(feed).args(["-V", "-q", "-p"]).arg(public);
    signify.args(["-x", "Packages.sig", "-m", "Packages"]).output().unwrap().status.success()
}

fn public_key(keys: &Path) -> PathBuf {
    let names = fs::read_dir(keys).unwrap().map(|it| it.unwrap().path());
    let mut public: Vec<PathBuf> = names.filter(|it| !it.ends_with("feed.sec")).collect();
    assert_eq!(public.len(), 1);
    public.remove(0)
}

#[test]
fn signify_verifies_the_index_and_refuses_a_changed_one() {
    let keys = [(); 2].map(|()| tempfile::tempdir().unwrap());
    for directory in &keys {
        said(&cross(&["key", directory.path().to_str().unwrap()]));
    }
    let key = keys[0].path().join("feed.sec");
    let feed = Feed::make(&["--key", key.to_str().unwrap()]);
    let public = public_key(keys[0].path());
    assert!(verified(&feed.path(), &public));
    assert!(!verified(&feed.path(), &public_key(keys[1].path())), "another key");
    // opkg looks for the key by the name that stands in the signature.
    let name = public.file_name().unwrap().to_str().unwrap();
    let comment = format!("untrusted comment: signed by key {name}");
    assert_eq!(text(feed.path().join("Packages.sig")).lines().next(), Some(comment.as_str()));
    let index = text(feed.path().join("Packages"));
    for changed in [index.replace("Size: ", "Size: 1"), index.replace("-r1", "-r2"), index + "\n"] {
        fs::write(feed.path().join("Packages"), changed).unwrap();
        assert!(!verified(&feed.path(), &public));
    }
}

#[test]
fn keys_of_signify_sign_feeds_and_ours_sign_for_signify() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let signify = |arguments: &[&str]| run(place.path(), "signify-openbsd", arguments);
    signify(&["-G", "-n", "-p", "their.pub", "-s", "their.sec"]);
    let feed = Feed::make(&["--key", &at("their.sec")]);
    assert!(verified(&feed.path(), Path::new(&at("their.pub"))));

    said(&cross(&["key", &at("ours")]));
    fs::write(at("message"), "text\n").unwrap();
    signify(&["-S", "-s", "ours/feed.sec", "-m", "message", "-x", "message.sig"]);
    let public = public_key(&place.path().join("ours"));
    signify(&["-V", "-q", "-p", public.to_str().unwrap(), "-x", "message.sig", "-m", "message"]);
}

#[test]
fn what_cannot_be_packed_is_refused_with_the_reason() {
    let place = tempfile::tempdir().unwrap();
    let feed = place.path().to_str().unwrap();
    let own = env!("CARGO_BIN_EXE_cross");
    let own_daemon = daemon().to_str().unwrap();
    let refused: [(&[&str], i32, &str); 5] = [
        (&["mips_24kc", "--binary", own_daemon], 70, "another machine than mips_24kc"),
        (&[ARCH, "--binary", own], 70, "which OpenWrt does not have"),
        (&[ARCH, "--binary", "/nonexistent"], 69, "/nonexistent is not there"),
        (&[ARCH, "--binary", own_daemon, "--profile", "huge"], 69, "config/boards/huge.toml"),
        (&[ARCH, "--binary", own_daemon, "--key", own], 70, own),
    ];
    for (arguments, code, named) in refused {
        let output = cross(&[&["package", "--feed", feed], arguments].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.contains(named) && error.lines().count() == 1, "{error}");
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nothing is left over");
}

/// What the recipe prints when make, with the test's files for OpenWrt's, makes `target` of it.
fn recipe(arch: &str, target: &str, variables: &[String]) -> String {
    recipe_in(&top(RECIPE), arch, target, variables)
}

const RECIPE: &str = "cross/openwrt/firmware-ctd";

fn recipe_in(directory: &Path, arch: &str, target: &str, variables: &[String]) -> String {
    let sdk = top("cross/tests/openwrt/sdk");
    let mut make = Command::new("make");
    make.arg("-s").arg("-C").arg(directory).arg(target);
    make.arg(format!("TOPDIR={}", sdk.display())).arg(format!("ARCH={arch}")).args(variables);
    said(&make.output().unwrap())
}

/// Path, mode and content of each file and directory below `root`.
fn all_files(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut places = vec![root.to_owned()];
    while let Some(place) = places.pop() {
        for entry in fs::read_dir(&place).unwrap() {
            let path = entry.unwrap().path();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            let content = if path.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), (mode, content));
            places.extend(path.is_dir().then_some(path));
        }
    }
    found
}

#[test]
fn the_recipe_of_openwrts_build_system_says_the_same() {
    let unpacked = Feed::make(&[]).unpack();
    let control = text(unpacked.control().join("control"));
    let of = |name: &str| field(&control, name);
    let joined = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let conffiles = text(unpacked.control().join("conffiles"));
    let told = recipe("x86_64", "tell", &[]);
    let expected = [
        format!("package {}", of("Package")),
        format!("name {}", of("SourceName")),
        format!("version {}", of("Version")),
        format!("licence {}", of("License")),
        format!("licence files {}", of("LicenseFiles")),
        format!("section {}", of("Section")),
        format!("depends {}", of("Depends")),
        format!("conffiles {}", joined(conffiles)),
        "compile cargo install --path firmware-ctd".to_owned(),
        format!("description {}", joined(of("Description"))),
    ];
    let told: Vec<String> = joined_lines(&told);
    assert_eq!(told, expected);
}

/// Lines; those that begin with a space belong to the line above.
fn joined_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        match lines.last_mut() {
            Some(last) if line.starts_with(' ') => *last += &format!(" {}", line.trim()),
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

#[test]
fn the_recipe_of_openwrts_build_system_installs_the_same() {
    let place = tempfile::tempdir().unwrap();
    let built = place.path().join("built/bin");
    fs::create_dir_all(&built).unwrap();
    fs::copy(daemon(), built.join("firmware-ctd")).unwrap();
    let install = |arch: &str| {
        let destination = place.path().join(arch);
        let variables = [
            format!("PKG_INSTALL_DIR={}", place.path().join("built").display()),
            format!("PKG_BUILD_DIR={}", top("").display()),
            format!("DESTINATION={}", destination.display()),
        ];
        recipe(arch, "install", &variables);
        all_files(&destination)
    };
    assert!(install("x86_64") == all_files(&Feed::make(&[]).unpack().files()));
    let small = Feed::make(&["--profile", "small-64mb"]).unpack();
    for arch in ["mips", "mipsel"] {
        assert!(install(arch) == all_files(&small.files()), "{arch}");
    }
    for arch in ["arm", "aarch64"] {
        let installed = install(arch).remove(Path::new("etc/firmware-ctd.toml")).unwrap().1;
        assert!(installed == fs::read(top("config/boards/medium-256mb.toml")).unwrap(), "{arch}");
    }
}

#[test]
fn the_recipe_builds_the_commit_of_the_checkout_that_it_lies_in() {
    let place = tempfile::tempdir().unwrap();
    let (checkout, build) = (place.path().join("checkout"), place.path().join("build"));
    let directory = checkout.join(RECIPE);
    fs::create_dir_all(&directory).unwrap();
    fs::copy(top(RECIPE).join("Makefile"), directory.join("Makefile")).unwrap();
    fs::write(checkout.join("Cargo.lock"), "committed").unwrap();
    let git = |arguments: &[&str]| run(&checkout, "git", arguments);
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    let author = ["-c", "user.name=test", "-c", "user.email=test@example.org"];
    git(&[&author[..], &["commit", "--quiet", "--message", "all"]].concat());
    fs::write(checkout.join("Cargo.lock"), "changed").unwrap();
    recipe_in(&directory, "x86_64", "prepare", &[format!("PKG_BUILD_DIR={}", build.display())]);
    assert_eq!(text(build.join("Cargo.lock")), "committed");
    assert!(build.join(RECIPE).join("Makefile").is_file());
}
