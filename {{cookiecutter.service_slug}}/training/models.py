"""The models: one function for each `_target_` of conf/model.

Each returns an unfitted scikit-learn pipeline that takes texts, gives labels, has
`predict_proba` and can be converted by `training.export`.
"""

from typing import Annotated

from pydantic import Field
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import ComplementNB
from sklearn.pipeline import Pipeline

# A letter is any character but ASCII white space, control characters and punctuation.
# The pattern must match alike in Python's re and in RE2 of ONNX Runtime, where \w is
# ASCII only.
LETTER = r"[^\x00-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f]"
WORD = LETTER + "+"

# ONNX knows runs of up to three.
Length = Annotated[int, Field(ge=1, le=3)]
Positive = Annotated[float, Field(gt=0)]


def words(max_words: Length, inverse_regularisation: Positive) -> Pipeline:
    """TF-IDF of word n-grams up to `max_words`, then logistic regression."""
    return _pipeline(WORD, max_words, _logistic(inverse_regularisation))


def characters(max_characters: Length, inverse_regularisation: Positive) -> Pipeline:
    """TF-IDF of character n-grams up to `max_characters`, then logistic regression.

    Use it for typing errors, rich inflection, and scripts without spaces between words.
    """
    return _pipeline(LETTER, max_characters, _logistic(inverse_regularisation))


def bayes(max_words: Length, smoothing: Positive) -> Pipeline:
    """Complement naive Bayes (Rennie et al., 2003) on TF-IDF: a fast baseline."""
    return _pipeline(WORD, max_words, ComplementNB(alpha=smoothing))


def _logistic(inverse_regularisation: float) -> LogisticRegression:
    return LogisticRegression(C=inverse_regularisation, max_iter=1_000)


def _pipeline(
    token: str, longest: int, classifier: LogisticRegression | ComplementNB
) -> Pipeline:
    # The contract has already folded the case.
    tfidf = TfidfVectorizer(
        lowercase=False, token_pattern=token, ngram_range=(1, longest)
    )
    return Pipeline([("tfidf", tfidf), ("classifier", classifier)])
