"""The families of models: one function for each `_target_` of conf/model.

Each says how a family reads the fields of the contract and which estimator it has for a
task. scikit-learn fits it, and `training.export` converts it to ONNX: a family uses
what skl2onnx converts, and the parity gate compares the two.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.naive_bayes import ComplementNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from serving.contract import MAX_NUMBER, Task
from training.columns import Recipe
from training.schema import Schema
from training.stage import PipelineError

# A letter is any character but ASCII white space, control characters and punctuation.
# The pattern must match alike in Python's re and in RE2 of ONNX Runtime, where \w is
# ASCII only.
LETTER = r"[^\x00-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f]"
TOKENS = {"words": LETTER + "+", "characters": LETTER}

Tokens = Literal["words", "characters"]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class Family:
    """A recipe of columns and an estimator for each task that the family can do."""

    name: str
    recipe: Recipe
    classifier: BaseEstimator
    regressor: BaseEstimator | None = None

    def build(self, schema: Schema) -> Pipeline:
        """Return an unfitted pipeline of the steps `columns` and `estimator`.

        Raises PipelineError if the family cannot do the task of the contract.
        """
        estimator = self.classifier
        if schema.task is Task.REGRESSION:
            estimator = self.regressor
        if estimator is None:
            raise PipelineError(
                f"{self.name} predicts no numbers, but `label` of LabelledInstance in "
                "app/contract.py is one. Choose model=linear or model=boosting; or, if "
                "each number stands for a class, write `label: str`."
            )
        columns = self.recipe.build(schema.fields)
        return Pipeline([("columns", columns), ("estimator", clone(estimator))])


def linear(tokens: Tokens, longest: Count, inverse_regularisation: Positive) -> Family:
    """Return logistic regression or ridge regression.

    It reads TF-IDF of n-grams of up to `longest` words or characters, and scaled
    numbers. Characters are for typing errors, rich inflection, and scripts without
    spaces.
    """
    return Family(
        "A linear model",
        Recipe(_tfidf(tokens, longest), _filled(StandardScaler()), mark_gaps=True),
        LogisticRegression(C=inverse_regularisation, max_iter=1_000),
        Ridge(alpha=1 / inverse_regularisation),
    )


def boosting(
    trees: Count,
    learning_rate: Positive,
    leaves: Annotated[int, Field(ge=2)],
    words: Count,
    seed: int,
) -> Family:
    """Return histogram-based gradient boosting of decision trees (as LightGBM).

    It reads numbers as they are, and which of the `words` most frequent words a text
    has.
    """
    options = {
        "max_iter": trees,
        "learning_rate": learning_rate,
        "max_leaf_nodes": leaves,
        "early_stopping": False,
        "random_state": seed,
    }
    text = CountVectorizer(
        lowercase=False, token_pattern=TOKENS["words"], binary=True, max_features=words
    )
    # Below all numbers, so that a tree can split off the missing ones.
    numbers = SimpleImputer(
        strategy="constant", fill_value=-MAX_NUMBER, keep_empty_features=True
    )
    return Family(
        "Gradient boosting",
        Recipe(text, numbers, mark_gaps=False, dense=True),
        HistGradientBoostingClassifier(**options),
        HistGradientBoostingRegressor(**options),
    )


def bayes(longest: Count, smoothing: Positive) -> Family:
    """Return complement naive Bayes (Rennie et al., 2003), a fast baseline for texts.

    It reads TF-IDF of words, and numbers between 0 and 1.
    """
    return Family(
        "Naive Bayes",
        Recipe(
            _tfidf("words", longest), _filled(MinMaxScaler(clip=True)), mark_gaps=True
        ),
        ComplementNB(alpha=smoothing),
    )


def sgd(
    tokens: Tokens, longest: Count, regularisation: Positive, epochs: Count, seed: int
) -> Family:
    """Return logistic regression by stochastic gradient descent.

    It is for hundreds of thousands of rows, and reads what `linear` reads.
    """
    return Family(
        "Stochastic gradient descent",
        Recipe(_tfidf(tokens, longest), _filled(StandardScaler()), mark_gaps=True),
        SGDClassifier(
            loss="log_loss",
            alpha=regularisation,
            max_iter=epochs,
            tol=None,  # no early stop
            random_state=seed,
        ),
    )


def _tfidf(tokens: Tokens, longest: int) -> TfidfVectorizer:
    # The contract has already folded the case.
    return TfidfVectorizer(
        lowercase=False, token_pattern=TOKENS[tokens], ngram_range=(1, longest)
    )


def _filled(scaler: BaseEstimator) -> Pipeline:
    """Return a scaler after an imputer: a missing value becomes the median."""
    fill = SimpleImputer(strategy="median", keep_empty_features=True)
    return Pipeline([("fill", fill), ("scale", scaler)])
