use tempfile::TempDir;

use super::*;

fn identity() -> Identity {
    Identity {
        cluster: ClusterId(7),
        store: StoreId(2),
        incarnation: Incarnation(9),
    }
}

fn open(dir: &TempDir) -> DataDir {
    DataDir::open(dir.path()).unwrap()
}

fn formatted() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let data = open(&dir);
    data.begin_format().unwrap();
    data.end_format(&identity()).unwrap();
    dir
}

#[test]
fn p8_identity_survives_and_damage_is_named() {
    let bytes = encode(&identity());
    assert_eq!(decode(&bytes), Ok(identity()));
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(decode(&damaged).is_err(), "flipping byte {at} goes unnoticed");
        assert!(decode(&bytes[..at]).is_err(), "cutting at {at} goes unnoticed");
    }
    let mut newer = bytes;
    newer[8] = 2;
    assert!(decode(&newer).is_err_and(|reason| reason.contains("newer")));
}

#[test]
fn a_formatted_directory_tells_its_identity_and_a_missing_one_is_made() {
    let dir = formatted();
    assert_eq!(open(&dir).identity().unwrap(), Some(identity()));
    let inside = dir.path().join("a/b");
    assert_eq!(DataDir::open(&inside).unwrap().identity().unwrap(), None);
}

#[test]
fn a_directory_with_other_files_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    assert_eq!(
        open(&dir).identity().unwrap(),
        None,
        "a fresh file system counts as empty"
    );
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    assert!(matches!(
        open(&dir).identity(),
        Err(DataDirError::NotAStore { .. })
    ));
}

#[test]
fn a_store_file_that_is_damaged_or_newer_is_refused_and_nothing_is_touched() {
    let dir = formatted();
    let file = dir.path().join("STORE");
    let good = fs::read(&file).unwrap();
    for (at, flip, why) in [(8, 2, "newer"), (20, 1, "checksum"), (0, 1, "magic")] {
        let mut bytes = good.clone();
        bytes[at] ^= flip;
        fs::write(&file, &bytes).unwrap();
        let error = open(&dir).identity().unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("STORE"), "{error}");
        assert_eq!(fs::read(&file).unwrap(), bytes);
    }
    fs::write(&file, &good[..10]).unwrap();
    assert!(
        open(&dir)
            .identity()
            .unwrap_err()
            .to_string()
            .contains("10 bytes long")
    );
}

#[test]
fn p4_an_interrupted_formatting_begins_again_whatever_it_left() {
    let dir = tempfile::tempdir().unwrap();
    let data = open(&dir);
    data.begin_format().unwrap();
    // Killed behind any of these steps, the next start finds no identity and wipes what is there.
    for name in ["log", "engine", "engine.new"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("half"), "x").unwrap();
        assert_eq!(data.identity().unwrap(), None);
    }
    fs::write(dir.path().join("STORE.new"), "half an identity").unwrap();
    assert_eq!(data.identity().unwrap(), None);
    data.begin_format().unwrap();
    assert!(!data.log().exists() && !data.engine().exists());
    data.end_format(&identity()).unwrap();
    assert_eq!(data.identity().unwrap(), Some(identity()));
}

#[test]
fn p4_a_crash_behind_the_last_step_leaves_no_marker_that_could_wipe_the_store_later() {
    let dir = formatted();
    // Killed between the renaming of STORE and the removal of the marker.
    fs::write(dir.path().join("STORE.formatting"), "").unwrap();
    assert_eq!(open(&dir).identity().unwrap(), Some(identity()));
    fs::remove_file(dir.path().join("STORE")).unwrap();
    fs::create_dir(dir.path().join("log")).unwrap();
    assert!(matches!(
        open(&dir).identity(),
        Err(DataDirError::NotAStore { .. })
    ));
}

#[test]
fn a_directory_in_use_is_refused_until_it_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(&dir);
    assert!(matches!(
        DataDir::open(dir.path()),
        Err(DataDirError::InUse { .. })
    ));
    drop(first);
    open(&dir);
}

#[test]
fn peers_are_remembered_and_a_spoilt_list_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = open(&dir);
    assert_eq!(data.remembered_peers().unwrap(), BTreeMap::new());
    let peers = BTreeMap::from([
        (StoreId(1), "a.example:7101".into()),
        (StoreId(2), "[::1]:7102".into()),
    ]);
    data.remember_peers(&peers).unwrap();
    assert_eq!(data.remembered_peers().unwrap(), peers);
    fs::write(dir.path().join("PEERS"), "1=a:1\nnonsense\n").unwrap();
    assert!(matches!(
        data.remembered_peers(),
        Err(DataDirError::Damaged { .. })
    ));
}

/// P7: a store that dies before it hears its id asks again as the same one, and a new store in the directory does not.
#[test]
fn p7_a_store_that_joins_asks_as_the_same_one_until_it_is_formatted() {
    let dir = tempfile::tempdir().unwrap();
    let first = Incarnation(0xabc);
    assert_eq!(open(&dir).joining_as(first).unwrap(), first);
    let data = open(&dir);
    assert_eq!(data.identity().unwrap(), None, "still an empty directory");
    assert_eq!(data.joining_as(Incarnation(5)).unwrap(), first);
    data.begin_format().unwrap();
    assert_eq!(
        data.joining_as(Incarnation(6)).unwrap(),
        first,
        "nor does formatting end it"
    );
    data.end_format(&identity()).unwrap();
    assert_eq!(data.joining_as(Incarnation(7)).unwrap(), Incarnation(7));
    fs::write(dir.path().join("JOINING"), "not a number").unwrap();
    let error = data.joining_as(first).unwrap_err().to_string();
    assert!(
        error.contains("JOINING") && error.contains("remove it"),
        "{error}"
    );
}
