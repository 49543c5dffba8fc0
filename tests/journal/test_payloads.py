"""Large texts leave their records and come back."""

from pathlib import Path

from backstay.core.items import message
from backstay.core.record import Basis, Call, Codec, Compaction, Output, Prompt, Session
from backstay.journal import Blobs, Journal, PosixDisk, look, read
from backstay.journal.payloads import LARGEST, inlined, outlined

ID = "019aaaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee"
BASIS = Basis("a" * 64, "b" * 64)


def _written(home: Path, text: str) -> str:
    item = {"type": "function_call_output", "call_id": "c", "output": text}
    with Journal.create(PosixDisk(), str(home), ID, lambda: 1.0) as journal:
        journal.commit(
            [
                Session(n=1, id=ID, cwd="/", basis=BASIS),
                Call(n=2, attempt=1, index=0, item={"type": "function_call", "call_id": "c"}),
                Output(n=3, call=2, item=item),
                Prompt(n=4, id=ID, cwd="/", basis=BASIS, items=[item, item], model="m"),
            ]
        )
        return journal.folder


def test_large_text_is_stored_once_and_read_back_whole(home: Path) -> None:
    """Three records with the same large text leave one blob, and open with the text in place."""
    text = "é" * LARGEST
    folder = _written(home, text)
    assert (Path(folder) / "journal.jsonl").stat().st_size < 4096
    assert [path.stat().st_size for path in (home / "blobs").iterdir()] == [2 * LARGEST]
    journal, reading = Journal.open(PosixDisk(), folder, lambda: 2.0)
    journal.close()
    output, prompt = reading.records[2:]
    assert isinstance(output, Output)
    assert output.item["output"] == text
    assert isinstance(prompt, Prompt)
    assert [item["output"] for item in prompt.items] == [text, text]


def test_text_that_fits_stands_in_its_record(home: Path) -> None:
    """Up to the bound nothing is moved, and no blob is made."""
    folder = _written(home, "x" * LARGEST)
    assert not (home / "blobs").exists()
    assert "x" * LARGEST in (Path(folder) / "journal.jsonl").read_text()


def test_lost_blob_costs_its_text_and_says_so(home: Path) -> None:
    """A session whose blob is gone opens all the same; what is missing is named where it stood."""
    folder = _written(home, "x" * (LARGEST + 1))
    for blob in (home / "blobs").iterdir():
        blob.unlink()
    journal, reading = Journal.open(PosixDisk(), folder, lambda: 2.0)
    journal.close()
    output = reading.records[2]
    assert isinstance(output, Output)
    assert f"{LARGEST + 1} bytes stood here" in output.item["output"]
    assert "missing" in output.item["output"]


def test_reader_alone_shows_the_digest(home: Path) -> None:
    """Diagnosis sees the record as it is written."""
    folder = _written(home, "x" * (LARGEST + 1))
    output = read(PosixDisk(), f"{folder}/journal.jsonl").records[2]
    assert isinstance(output, Output)
    assert set(output.item["output"]) == {"$blob", "bytes"}


def test_a_look_shows_all_and_needs_no_lock(home: Path) -> None:
    """Large texts stand in place, while another one writes the session."""
    text = "x" * (LARGEST + 1)
    folder = _written(home, text)
    journal, _ = Journal.open(PosixDisk(), folder, lambda: 2.0)
    with journal:
        before = sorted(path for path in home.rglob("*"))
        reading = look(PosixDisk(), folder)
        assert sorted(path for path in home.rglob("*")) == before
    output = reading.records[2]
    assert isinstance(output, Output)
    assert output.item["output"] == text
    assert len(reading.records) == 4


def test_a_look_goes_back_behind_a_compaction(home: Path) -> None:
    """What a summary replaced is shown as well; who resumes reads from the summary on."""
    folder = _written(home, "x")
    journal, _ = Journal.open(PosixDisk(), folder, lambda: 2.0)
    with journal:
        journal.commit([Compaction(n=5, id=ID, cwd="/", basis=BASIS, items=[])])
    assert [record.n for record in look(PosixDisk(), folder).records] == [1, 2, 3, 4, 5]
    assert [record.n for record in read(PosixDisk(), f"{folder}/journal.jsonl").records] == [5]


def test_records_that_a_compaction_carries_keep_their_large_texts_outside(home: Path) -> None:
    """A long prompt that waits, or whose turn goes on, is stored once, however often it is held."""
    text = "p" * 300_000
    disk = PosixDisk()
    with_it = Prompt(n=2, id=ID, cwd="/", basis=BASIS, items=[message("user", text)], model="m")
    made = Compaction(
        n=3,
        id=ID,
        cwd="/",
        basis=BASIS,
        items=[message("user", text)],
        turn=2,
        prompt=with_it,
        carried=[with_it],
        plain=message("user", "short"),
    )
    blobs = Blobs(disk, str(home), ID)
    stored = outlined(made, blobs)
    assert len(Codec().encode(stored)) < 2000
    assert list(inlined([stored], blobs)) == [made]
