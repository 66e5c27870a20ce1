"""The sources of training data: one function for each `_target_` of conf/data.

Each returns a frame, or chunks of rows, with the columns of
`app.contract.LabelledInstance`, which `training.ingest` then validates.
"""

import difflib
import itertools
import logging
import math
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pandas as pd
import yaml
from hassil.expression import Sentence
from hassil.intents import Intents, RangeSlotList, TextSlotList
from hassil.sample import sample_expression, sample_sentence
from home_assistant_intents import get_intents, get_languages
from pydantic import Field

from serving.text import normalise
from training import corrections as corrected_rows
from training.stage import PipelineError
from training.tables import Chunk, read_table
from training.values import Component

logger = logging.getLogger(__name__)

# hassil expands every variant of a template in a fixed order; some have millions.
MAX_VARIANTS = 2_000
# Draws per wanted sentence: draws may repeat a sentence.
MAX_DRAWS = 4

Count = Annotated[int, Field(ge=1)]

SLOT = re.compile(r"{([^{}]+)}")


def table(path: str, test_path: str | None = None) -> Iterator[Chunk]:
    """Read your own data: CSV (UTF-8), JSON lines, Parquet, or a directory of Parquet.

    `test_path` names rows to test on, which are read in the same way: training.ingest
    calls this function again for them. Raises PipelineError, with the file, the line or
    row, the reason and the fix.
    """
    return read_table(Path(path))


def corrected(source: Component, corrections: str) -> Iterator[Chunk]:
    """Read another source, and let what users have corrected replace rows of it.

    `corrections` is the Parquet file that `make feedback` writes. Raises PipelineError.
    """
    if source.model_dump().get("test_path") is not None:
        raise PipelineError(
            "data.source.test_path: with corrections, the test rows are drawn from all "
            "rows. Set it to null."
        )
    return corrected_rows.join(source.create(), Path(corrections))


def intents(
    path: str, language: str, sentences: Count, min_sentences: Count, seed: int
) -> pd.DataFrame:
    """Draw commands to a smart home from the templates of home-assistant-intents.

    Each intent gives about `sentences` rows. Intents with fewer than three templates or
    fewer than `min_sentences` rows are skipped: they are too small to train and test.
    `path` is a YAML file with values for the slots of the templates.

    Raises PipelineError if the language is unknown or the slot values are unreadable.
    """
    source = _load_language(language)
    sampler = Sampler(source, language, _load_slots(Path(path), language), seed)
    rows: list[tuple[str, str, str]] = []
    for name, intent in source.intents.items():
        templates = [
            (template, data.expansion_rules)
            for data in intent.data
            for template in data.sentences
        ]
        if len(templates) < 3:
            continue
        wanted = math.ceil(sentences / len(templates))
        drawn = [
            (text, name, str(template.text))
            for template, rules in templates
            for text in sampler.draw(template, rules, wanted)
        ]
        if len(drawn) >= min_sentences:
            rows += drawn
    logger.info("Drew %d sentences, language %s", len(rows), language)
    return pd.DataFrame(rows, columns=["text", "label", "group"])


class Sampler:
    """Draw random sentences from templates, the same ones for the same seed."""

    def __init__(
        self, source: Intents, language: str, values: dict[str, list[str]], seed: int
    ) -> None:
        self._source = source
        self._language = language
        self._values = values
        self._rng = random.Random(seed)

    def draw(
        self, template: Sentence, rules: dict[str, Sentence], wanted: int
    ) -> list[str]:
        """Return at most `wanted` distinct sentences of a template, normalised."""
        written_out = sample_sentence(
            template,
            self._source.slot_lists,
            {**self._source.expansion_rules, **rules},
            language=self._language,
            expand_lists=False,
        )
        variants = list(itertools.islice(written_out, MAX_VARIANTS))
        texts: set[str] = set()
        for _ in range(wanted * MAX_DRAWS):
            text = normalise(SLOT.sub(self._fill, self._rng.choice(variants)))
            if text:
                texts.add(text)
            if len(texts) == wanted:
                break
        return sorted(texts)

    def _fill(self, reference: re.Match[str]) -> str:
        name = reference[1]
        if name in self._values:
            return self._rng.choice(self._values[name])

        slot = self._source.slot_lists.get(name)
        if isinstance(slot, RangeSlotList):
            return str(self._rng.choice(list(slot.get_numbers())))
        if isinstance(slot, TextSlotList):
            value = self._rng.choice(slot.values).text_in
            written_out = sample_expression(
                value, self._source.slot_lists, self._source.expansion_rules
            )
            return self._rng.choice(list(itertools.islice(written_out, MAX_VARIANTS)))
        raise PipelineError(
            f"The slot '{name}' has no values: add them to the file of data.path."
        )


def _load_language(language: str) -> Intents:
    known = sorted(get_languages())
    if language not in known:
        close = difflib.get_close_matches(language, known, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise PipelineError(
            f"data.language={language} is not known.{hint} Known: {', '.join(known)}"
        )
    return Intents.from_dict(get_intents(language) or {})


def _load_slots(path: Path, language: str) -> dict[str, list[str]]:
    try:
        languages = yaml.safe_load(path.read_text(encoding="utf-8"))
        slots = {**languages["en"], **languages.get(language, {})}
        return {name: [str(value) for value in slots[name]] for name in slots}
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise PipelineError(
            f"The slot values in {path} cannot be read ({error!r}): map languages, "
            "'en' among them, to slots, and slots to lists of values."
        ) from None
