"""The model families: one function for each `_target_` of conf/model.

Each returns an unfitted scikit-learn pipeline from texts to labels, with
`predict_proba`, that `training.export` can turn into ONNX.
"""

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import ComplementNB
from sklearn.pipeline import Pipeline

# A letter is what is no ASCII space, control or punctuation. The pattern must mean the
# same to Python's re and to ONNX Runtime's RE2, and \w does not: in RE2 it is ASCII.
LETTER = r"[^\x00-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f]"
WORD = LETTER + "+"


def words(max_words: int, inverse_regularisation: float) -> Pipeline:
    """TF-IDF of words and of runs of up to `max_words`, then logistic regression."""
    return _pipeline(WORD, max_words, _logistic(inverse_regularisation))


def characters(max_characters: int, inverse_regularisation: float) -> Pipeline:
    """TF-IDF of runs of up to `max_characters` characters, then logistic regression.

    For typing errors, rich inflection, and scripts that do not part words by spaces.
    """
    return _pipeline(LETTER, max_characters, _logistic(inverse_regularisation))


def bayes(max_words: int, smoothing: float) -> Pipeline:
    """Complement naive Bayes (Rennie et al., 2003) on TF-IDF: fast, and a baseline."""
    return _pipeline(WORD, max_words, ComplementNB(alpha=smoothing))


def _logistic(inverse_regularisation: float) -> LogisticRegression:
    return LogisticRegression(C=inverse_regularisation, max_iter=1_000)


def _pipeline(
    token: str, longest: int, classifier: LogisticRegression | ComplementNB
) -> Pipeline:
    # The contract has folded the case already.
    tfidf = TfidfVectorizer(
        lowercase=False, token_pattern=token, ngram_range=(1, longest)
    )
    return Pipeline([("tfidf", tfidf), ("classifier", classifier)])
