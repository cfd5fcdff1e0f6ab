from __future__ import annotations

import hashlib
from pathlib import Path

import orjson
import pytest

from sluicegate.cases import CaseFolder, find_cases, read_case
from sluicegate.problems import CommandProblem

GOOD = {"id": "one", "input": "x.pcap", "format": "pcap", "expect": [{"expect": "silence", "kind": "any"}]}


def write(folder: Path, words: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "case.json").write_bytes(orjson.dumps(words))
    return folder / "case.json"


def test_cases_are_found_at_any_depth_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b/two", "a/deep/er", "one"):
        write(tmp_path / name, {**GOOD, "id": name})
    assert [f.case.id for f in find_cases(tmp_path)] == ["a/deep/er", "b/two", "one"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({**GOOD, "input": "../../etc/passwd"}, "input"),
        ({**GOOD, "expect": [{"expect": "maybe", "kind": "x"}]}, "expect.0.expect"),
        ({"id": "x"}, "input"),
        ([], "case.json"),
    ],
)
def test_a_wrong_case_file_is_named_with_its_field(tmp_path: Path, words: object, said: str) -> None:
    path = write(tmp_path, words)
    with pytest.raises(CommandProblem, match=said) as caught:
        read_case(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_input_that_differs_from_its_hash_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pcap").write_bytes(b"abc")
    right = hashlib.sha256(b"abc").hexdigest()
    CaseFolder(tmp_path, read_case(write(tmp_path, {**GOOD, "sha256": right}))).check_input()
    with pytest.raises(CommandProblem, match="differs"):
        CaseFolder(tmp_path, read_case(write(tmp_path, {**GOOD, "sha256": "00"}))).check_input()


def test_a_folder_without_cases_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CommandProblem, match=r"no case\.json"):
        find_cases(tmp_path)
    with pytest.raises(CommandProblem, match="not a folder"):
        find_cases(tmp_path / "absent")
