from pathlib import Path

from pytest_phase5.load.progress import Progress, ProgressReader, write_progress


def at(seconds: float) -> Progress:
    return Progress(at=seconds, planned=9, sent=5, ended=3, errors=1, dropped=0)


def test_each_line_is_read_once_and_a_half_line_waits(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    reader = ProgressReader(path)
    assert reader.new() == []
    write_progress(path, at(1.0))
    write_progress(path, at(2.0))
    assert reader.new() == [at(1.0), at(2.0)]
    assert reader.new() == []
    write_progress(path, at(3.0))
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    assert reader.new() == []
    path.write_bytes(whole)
    assert reader.new() == [at(3.0)]


def test_what_was_sent_and_has_not_ended_is_in_flight() -> None:
    assert at(1.0).in_flight == 2
