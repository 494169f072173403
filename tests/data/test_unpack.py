import errno
import gzip
import io
import os
import random
import stat
import struct
import tarfile
import warnings
import zipfile

import pytest

from tmkt_braincog.data import unpack as module
from tmkt_braincog.data.unpack import unpack
from tmkt_braincog.errors import UserError

FILES = {
    "a.txt": b"first",
    "b/c/d.bin": random.Random(0).randbytes(3000),
    "b/empty": b"",
    "b/zeros": bytes(5000),
}
ROOM = 10_000  # max_bytes that the files fit into
KINDS = ["zip", "tar", "tar.gz"]


def make_zip(entries, method=zipfile.ZIP_DEFLATED):
    """A zip of (name or ZipInfo, bytes) pairs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # duplicate names
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def make_tar(entries, **options):
    """A tar of (name or TarInfo, bytes) pairs."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as archive:
        for name, data in entries:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if info.isreg():
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def make(kind, entries):
    if kind == "zip":
        return make_zip(entries)
    return gzip.compress(make_tar(entries), mtime=0) if kind == "tar.gz" else make_tar(entries)


def named(name, **fields):
    """A TarInfo with these fields."""
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


@pytest.fixture
def archive(tmp_path):
    return tmp_path / "data.bin"  # a name that says nothing of the kind


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def run(archive, out, max_bytes=ROOM):
    unpack(archive, out, max_bytes=max_bytes, progress=False)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def assert_refused(archive, out, match, max_bytes=ROOM):
    with pytest.raises(UserError, match=match) as error:
        run(archive, out, max_bytes)
    assert str(archive) in str(error.value)
    assert os.listdir(archive.parent) == [archive.name]


@pytest.mark.parametrize("kind", KINDS)
def test_unpacks_every_kind(archive, out, tmp_path, kind):
    archive.write_bytes(make(kind, FILES.items()))
    run(archive, out, max_bytes=sum(map(len, FILES.values())))
    assert contents(out) == FILES
    assert sorted(os.listdir(tmp_path)) == ["data.bin", "out"]


def test_other_spellings_of_the_formats(archive, tmp_path):
    spellings = [make_zip(FILES.items(), zipfile.ZIP_STORED)]
    spellings += [
        make_tar(FILES.items(), format=f) for f in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT)
    ]
    spellings += [
        b"".join(gzip.compress(spellings[1][i::][:4096]) for i in range(0, len(spellings[1]), 4096))
    ]
    for i, data in enumerate(spellings):
        archive.write_bytes(data)
        run(archive, tmp_path / str(i))
        assert contents(tmp_path / str(i)) == FILES


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_long_names_and_folders(archive, out, kind):
    name = "/".join(["folder" * 10] * 5) + "/file"
    folders = [(named("./", type=tarfile.DIRTYPE), b""), (named("./x/", type=tarfile.DIRTYPE), b"")]
    archive.write_bytes(make(kind, [*folders, *folders, ("./" + name, b"1")]))
    run(archive, out)
    assert contents(out) == {name: b"1"}
    assert (out / "x").is_dir()


def test_zip_with_folders(archive, out):
    archive.write_bytes(make_zip([("x/", b""), ("x/y/", b""), ("z/f", b"1")]))
    run(archive, out)
    assert contents(out) == {"z/f": b"1"}
    assert (out / "x" / "y").is_dir()


@pytest.mark.parametrize("kind", KINDS)
def test_clutter_is_left_out(archive, out, kind):
    clutter = ["__MACOSX/a", "x/__MACOSX/b/c", "x/._a", "._a", "x/.DS_Store", ".DS_Store"]
    archive.write_bytes(
        make(kind, [(name, b"junk") for name in clutter] + [("x/a", b"1"), (".hidden", b"2")])
    )
    run(archive, out)
    assert contents(out) == {"x/a": b"1", ".hidden": b"2"}
    assert sorted(os.listdir(out)) == [".hidden", "x"]


@pytest.mark.parametrize("kind", KINDS)
def test_permissions_are_those_of_new_files(archive, out, tmp_path, kind):
    if kind == "zip":
        info = zipfile.ZipInfo("f")
        info.external_attr = (stat.S_IFREG | 0o6777) << 16
    else:
        info = named("f", mode=0o6777)
    archive.write_bytes(make(kind, [(info, b"1")]))
    run(archive, out)
    (tmp_path / "new").write_bytes(b"")
    (tmp_path / "newfolder").mkdir()
    assert (out / "f").stat().st_mode == (tmp_path / "new").stat().st_mode
    assert out.stat().st_mode == (tmp_path / "newfolder").stat().st_mode


def test_empty_folder_and_link_to_one_are_fine(archive, out, tmp_path):
    archive.write_bytes(make("zip", FILES.items()))
    out.mkdir()
    run(archive, out)
    assert contents(out) == FILES
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    run(archive, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert contents(tmp_path / "real") == FILES


def test_folder_in_use_is_refused_and_kept(archive, out, tmp_path):
    archive.write_bytes(make("zip", FILES.items()))
    out.mkdir()
    (out / "mine").write_bytes(b"1")
    with pytest.raises(UserError, match=r"in the way.*Remove it"):
        run(archive, out)
    assert contents(out) == {"mine": b"1"}
    with pytest.raises(UserError, match="in the way"):
        run(archive, out / "mine")
    assert sorted(os.listdir(tmp_path)) == ["data.bin", "out"]


def test_parents_are_made(archive, out):
    archive.write_bytes(make("zip", FILES.items()))
    run(archive, out / "x" / "y")
    assert contents(out / "x" / "y") == FILES


PATHS = [
    "/etc/x",
    "../x",
    "a/../../x",
    "a/..",
    "C:/x",
    "c:x",
    "a/c:x",
    "..\\x",
    "\\x",
    "a\\b",
    "//host/x",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PATHS)
def test_path_that_leads_elsewhere_is_refused(archive, out, kind, name):
    archive.write_bytes(make(kind, [("good", b"1"), (name, b"2")]))
    assert_refused(archive, out, "absolute|outside|no plain path")


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_name_is_quoted_in_the_message(archive, out, kind):
    archive.write_bytes(make(kind, [("../\x1b[2J", b"")]))
    assert_refused(archive, out, r"'\.\./\\x1b\[2J'")


def test_nul_in_a_name_is_refused(archive, out):
    archive.write_bytes(make_zip([("good!.exe", b"1")]).replace(b"good!", b"good\0"))
    assert_refused(archive, out, "NUL")
    header = named("x", pax_headers={"path": "a\0b"})
    archive.write_bytes(make_tar([(header, b"")], format=tarfile.PAX_FORMAT))
    assert_refused(archive, out, "NUL")


@pytest.mark.parametrize("kind", KINDS)
def test_deep_folders_are_refused(archive, out, kind):
    archive.write_bytes(make(kind, [("a/" * 3000 + "f", b"1")]))
    assert_refused(archive, out, "more than 64 folders deep")


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
@pytest.mark.parametrize(
    "special",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z"],
)
def test_special_tar_entry_is_refused(archive, out, kind, special):
    archive.write_bytes(
        make(kind, [("good", b"1"), (named("x", type=special, linkname="good"), b"")])
    )
    assert_refused(archive, out, "entry 'x' is a link, a device")


def test_sparse_tar_entry_is_refused(archive, out):
    headers = {"GNU.sparse.size": "9", "GNU.sparse.numblocks": "1", "GNU.sparse.map": "0,0"}
    archive.write_bytes(
        make_tar([(named("x", pax_headers=headers), b"1")], format=tarfile.PAX_FORMAT)
    )
    assert_refused(archive, out, "sparse")


@pytest.mark.parametrize(
    "mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK]
)
def test_special_zip_entry_is_refused(archive, out, mode):
    info = zipfile.ZipInfo("x")
    info.external_attr = (mode | 0o777) << 16
    archive.write_bytes(make_zip([("good", b"1"), (info, b"/etc/passwd")]))
    assert_refused(archive, out, "entry 'x' is a link or a device")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("names", [("x/a", "x/a"), ("x/a", "./x//a"), ("x", "x/a"), ("x/a", "x")])
def test_path_held_twice_is_refused(archive, out, kind, names):
    archive.write_bytes(make(kind, [(name, b"1") for name in names]))
    assert_refused(archive, out, "twice|is a file")


@pytest.mark.parametrize("kind", KINDS)
def test_names_that_differ_in_case_are_two(archive, out, kind):
    archive.write_bytes(make(kind, [("a", b"1"), ("A", b"2")]))
    run(archive, out)
    assert contents(out) == {"a": b"1", "A": b"2"}


class Nameless(zipfile.ZipInfo):
    def is_dir(self):  # the original looks at the last letter of the name
        return False


def test_file_without_name_is_refused(archive, out):
    info = Nameless("x")
    info.filename = ""
    archive.write_bytes(make_zip([(info, b"1")]))
    assert_refused(archive, out, "a file ''")
    archive.write_bytes(make_tar([(".", b"1")]))
    assert_refused(archive, out, "a file '.'")


def test_encrypted_zip_is_refused(archive, out):
    data = bytearray(make_zip([("x", b"1")]))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    assert_refused(archive, out, "entry 'x' is encrypted")


@pytest.mark.parametrize("kind", KINDS)
def test_too_many_entries_are_refused(archive, out, monkeypatch, kind):
    archive.write_bytes(make(kind, FILES.items()))
    monkeypatch.setattr(module, "MAX_ENTRIES", 3)
    assert_refused(archive, out, "more than 3 entries")


@pytest.mark.parametrize("kind", KINDS)
def test_declared_size_over_the_limit_is_refused(archive, out, kind):
    archive.write_bytes(make(kind, FILES.items()))
    assert_refused(archive, out, "8005 bytes or more; at most 8004", max_bytes=8004)


def test_zip_over_the_limit_is_refused_before_anything_is_written(archive, out, monkeypatch):
    archive.write_bytes(make("zip", FILES.items()))
    written = []
    monkeypatch.setattr(module, "_write_file", lambda *args: written.append(args))
    assert_refused(archive, out, "8005 bytes or more", max_bytes=8004)
    assert written == []


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_counted_whatever_is_declared(archive, out, monkeypatch, kind):
    archive.write_bytes(make(kind, [("x", bytes(5_000_000))]))
    monkeypatch.setattr(module, "_check_amount", lambda *args: None)
    assert_refused(archive, out, "breaks the size limit", max_bytes=2_000_000)


def test_zip_bomb_that_declares_little(archive, out, monkeypatch):
    """5 MB that declare 100 bytes, in both headers: reading stops there, and the checksum is wrong."""
    data = bytearray(make_zip([("x", bytes(5_000_000))]))
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(mark) + offset
        assert struct.unpack_from("<I", data, at) == (5_000_000,)
        struct.pack_into("<I", data, at, 100)
    archive.write_bytes(data)
    written = []
    monkeypatch.setattr(module, "_show", lambda bar, file: written.append(1))
    assert_refused(archive, out, "is damaged: Bad CRC", max_bytes=1000)
    assert written == []


def test_zip_that_declares_too_much(archive, out):
    data = bytearray(make_zip([("x", b"12345")]))
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 6)
    archive.write_bytes(data)
    assert_refused(archive, out, "gave 5 bytes and not 6")


def tar_header(**fields):
    info = named("x", **fields)
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("size", [-512, -1024, -1])
@pytest.mark.parametrize("name", ["x", "._x"])
def test_negative_size_does_not_go_round_in_circles(archive, out, size, name):
    header = named(name, size=size).tobuf(tarfile.GNU_FORMAT)
    archive.write_bytes(make_tar([("a", b"1")])[:1024] + header + bytes(10240))
    assert_refused(archive, out, "damaged.*size|has -")


def test_reading_never_goes_back():
    stream = module._Forward(io.BytesIO(bytes(2000)))
    stream.seek(1000)
    assert stream.tell() == 1000
    with pytest.raises(module._Damaged, match="negative"):
        stream.seek(999)


def test_name_of_gigabytes_is_not_read(archive, out):
    archive.write_bytes(tar_header(type=tarfile.GNUTYPE_LONGNAME, size=2**33) + bytes(10240))
    assert_refused(archive, out, "a header claims 8589934592 bytes")


def test_endless_chain_of_headers(archive, out):
    one = make_tar([(named("x", pax_headers={"comment": "y"}), b"")], format=tarfile.PAX_FORMAT)[
        :1024
    ]
    archive.write_bytes(gzip.compress(one * 5000))
    assert_refused(archive, out, "is damaged")


@pytest.mark.parametrize("kind", KINDS)
def test_archive_without_files_is_damaged(archive, out, kind):
    archive.write_bytes(
        make(kind, []) if kind != "tar" else make_tar([(named("d", type=tarfile.DIRTYPE), b"")])
    )
    assert_refused(archive, out, "it holds no file")


@pytest.mark.parametrize(
    "data", [b"", b"<!DOCTYPE html><title>404</title>", b"PK\x03\x04", b"\x1f\x8b\x08", bytes(10240),
             gzip.compress(b"no tar file"), b"BZh91AY&SY", b"x"],
)  # fmt: skip
def test_other_files_are_no_archives(archive, out, data):
    archive.write_bytes(data)
    assert_refused(archive, out, r"damaged: .*\. Remove it and download it again")


def test_method_that_cannot_be_read(archive, out):
    archive.write_bytes(make_zip([("x", b"12345")], zipfile.ZIP_BZIP2))
    assert_refused(archive, out, "damaged: entry 'x' is packed by method 12")


def test_missing_archive_and_folder_for_one(archive, out):
    with pytest.raises(UserError, match="No archive at"):
        run(archive, out)
    archive.mkdir()
    assert_refused(archive, out, "Cannot read")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flaw", ["cut", "flipped"])
def test_damaged_copies_unpack_rightly_or_not_at_all(archive, out, kind, flaw):
    random_ = random.Random(kind + flaw)
    whole = make(kind, FILES.items())
    end = whole.rstrip(b"\0") if kind == "tar" else whole
    refused = 0
    for _ in range(100):
        data = bytearray(whole)
        if flaw == "cut":
            del data[random_.randrange(len(end)) :]
        else:
            for _ in range(random_.choice([1, 1, 1, 10])):
                data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
        archive.write_bytes(data)
        try:
            run(archive, out)
        except UserError:
            refused += 1
            assert os.listdir(archive.parent) == [archive.name]
        else:
            assert_intact(kind, contents(out))
            assert sorted(os.listdir(archive.parent)) == [archive.name, "out"]
            module.shutil.rmtree(out)
    assert refused == 100 if flaw == "cut" else 0 < refused <= 100


def assert_intact(kind, found):
    """What each format's checksums promise: all of it, the bytes (zip) or the names (tar)."""
    if kind == "tar.gz":
        assert found == FILES
    elif kind == "zip":
        assert sorted(found.values()) == sorted(FILES.values())
    else:
        assert {n: len(d) for n, d in found.items()} == {n: len(d) for n, d in FILES.items()}


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_bad_header_in_the_middle_is_not_taken_for_the_end(archive, out, kind):
    data = bytearray(make_tar(FILES.items()))
    at = data.index(b"b/empty")
    for header in (b"\xff" * 512, bytes(512)):
        data[at : at + 512] = header
        archive.write_bytes(data if kind == "tar" else gzip.compress(data))
        assert_refused(archive, out, "end mark")


def test_endless_padding_is_not_read_to_its_end(archive, out, monkeypatch):
    monkeypatch.setattr(module, "MAX_PADDING_BYTES", 2**20)
    archive.write_bytes(gzip.compress(make_tar(FILES.items()) + bytes(2**22)))
    assert_refused(archive, out, "behind its end mark")


def test_full_disk_leaves_nothing(archive, out, monkeypatch):
    archive.write_bytes(make("zip", FILES.items()))

    def full(path, mode):
        if mode == "xb":
            raise OSError(errno.ENOSPC, "No space left on device")
        return open(path, mode)

    monkeypatch.setattr(module, "open", full, raising=False)
    with pytest.raises(UserError, match="The disk is full: nothing was unpacked into"):
        run(archive, out)
    assert os.listdir(archive.parent) == [archive.name]


def test_interrupt_leaves_nothing(archive, out, monkeypatch):
    archive.write_bytes(make("tar.gz", FILES.items()))
    seen = []

    def interrupt(bar, file):
        seen.extend(os.listdir(archive.parent))
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_show", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(archive, out)
    assert len(seen) == 2  # the archive and the temporary folder
    assert os.listdir(archive.parent) == [archive.name]


@pytest.mark.parametrize("kind", KINDS)
def test_bar_counts_bytes_of_the_archive(archive, out, capsys, kind):
    archive.write_bytes(make(kind, FILES.items()))
    unpack(archive, out, max_bytes=ROOM)
    assert "unpack data.bin: 100%" in capsys.readouterr().err
