"""Normalise texts: the same in training and serving."""

import unicodedata


def normalise(text: str) -> str:
    """Fold case, Unicode width and white space. The model sees only this form.

        normalise("Turn  ON the lights") == "turn on the lights"

    It runs here because lower-casing inside ONNX Runtime depends on the locale of the
    machine. It is toNFKC_Casefold of the Unicode Standard (section 3.13, D146) without
    the removal of ignorable characters, and idempotent.
    """
    if text.isascii():
        return " ".join(text.lower().split())
    folded = unicodedata.normalize("NFD", text).casefold()
    folded = unicodedata.normalize("NFKC", folded).casefold()
    folded = unicodedata.normalize("NFKC", folded)
    return " ".join(folded.split())
