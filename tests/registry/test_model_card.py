from typing import Any

import pytest

from changeover_registry.model_card import is_written_here, write_card
from changeover_registry.records.release import Release

yaml: Any = pytest.importorskip("yaml", reason="PyYAML comes with MLflow")

Vendor = Any


def front_matter(card: bytes) -> Any:
    """What Hugging Face's pages read: YAML between the first two lines of three dashes."""
    before, head, _ = card.decode().split("---\n", 2)
    assert before == ""
    return yaml.safe_load(head)


def of_weights(release: Release, licence: str) -> Release:
    return release.model_copy(update={"licences": release.licences.model_copy(update={"weights": licence})})


def test_a_card_says_what_the_record_says(acme: Vendor) -> None:
    release = acme.make(content=b"weights").record
    text = write_card(release).decode()
    assert f"# acme/person-roto {release.version}" in text
    for said in (release.summary, release.changes, release.licences.weights, release.variants[0].files[0].sha256):
        assert said in text


@pytest.mark.parametrize(
    ("spdx", "hub"),
    [("Apache-2.0", "apache-2.0"), ("CC-BY-NC-SA-4.0", "cc-by-nc-sa-4.0"), ("GPL-3.0-or-later", "gpl-3.0")],
)
def test_front_matter_has_the_licence_as_the_hub_calls_it(acme: Vendor, spdx: str, hub: str) -> None:
    head = front_matter(write_card(of_weights(acme.make().record, spdx)))
    assert (head["license"], "license_name" in head) == (hub, False)
    assert (head["pipeline_tag"], head["library_name"]) == ("image-segmentation", "onnx")


@pytest.mark.parametrize("spdx", ["LicenseRef-acme-commercial", "MIT OR Apache-2.0", 'our: "own" #terms'])
def test_a_licence_that_the_hub_has_no_name_for_is_other_and_named(acme: Vendor, spdx: str) -> None:
    head = front_matter(write_card(of_weights(acme.make().record, spdx)))
    assert (head["license"], head["license_name"]) == ("other", spdx)


def test_the_same_record_gives_the_same_card(acme: Vendor) -> None:
    record = acme.make().record
    again = Release.from_bytes(record.to_bytes(), where="release.json")
    assert write_card(record) == write_card(again)


def test_a_card_of_ours_is_told_from_a_vendors_own(acme: Vendor) -> None:
    card = write_card(acme.make().record)
    assert is_written_here(card)
    assert is_written_here(card.replace(b"\n", b"\r\n"))
    assert not is_written_here(b"# person-roto\n\nBy hand.\n")
    assert not is_written_here(card + b"\nBy hand.\n")


def test_a_bar_or_a_line_in_a_text_starts_no_other_cell(acme: Vendor) -> None:
    text = write_card(of_weights(acme.make().record, "ours | theirs\nand more")).decode()
    assert "| weights | ours \\| theirs and more |" in text
