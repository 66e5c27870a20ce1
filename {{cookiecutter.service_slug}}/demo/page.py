"""The page of the demo: `make demo-ui`. It uses only the HTTP API of the service.

The form follows from /openapi.json, so it fits any contract.
"""

import json
from typing import Any
from uuid import uuid4

import pandas as pd
import streamlit as st

from demo.client import ServiceError, examples, get, service_url
from demo.form import (
    FEEDBACK,
    LARGEST,
    Document,
    Field,
    make_feedback,
    make_instance,
    read_fields,
    read_json,
    read_numbers,
    read_truth,
    takes_feedback,
)

LONG = 200  # characters of a text that gets more than one line
MOST_BARS = 10
NOTHING = "(none)"


def main() -> None:
    """Show the form, the answer, and what people say about it."""
    url = service_url()
    st.set_page_config(page_title="Demo")
    try:
        document = get(f"{url}/openapi.json")
        samples = examples(url)
        fields = read_fields(document)
    except ServiceError as error:
        st.error(str(error))
        st.button("Try again")
        return
    st.title(document["info"]["title"])
    state = st.session_state
    entered = ask_instance(fields, samples)
    if entered is not None:
        state.update(entered=entered, answer=None, ids={}, thanks=False)
        state.answer = predict(url, document, entered)
    if answer := state.get("answer"):
        show_answer(answer)
        if takes_feedback(document):
            ask_feedback(url, document, state.entered, answer)


def ask_instance(
    fields: list[Field], samples: list[dict[str, Any]]
) -> dict[str, Any] | None:
    """Return the instance that was entered, once “Predict” is clicked; else None."""
    place = st.selectbox(
        "Example", range(len(samples)), format_func=lambda n: describe(samples[n])
    )
    sample = samples[place or 0] if samples else {}
    with st.form("instance"):
        values = {
            # Each example has widgets of its own, with its values to begin with.
            field.name: ask_value(
                field,
                f"{field.name} (optional)" if field.optional else field.name,
                sample.get(field.name),
                f"{field.name} {place}",
            )
            for field in fields
        }
        if not st.form_submit_button("Predict", type="primary"):
            return None
    return make_instance(fields, values)


def describe(sample: dict[str, Any]) -> str:
    """Return a sample in one line."""
    return ", ".join(str(value) for value in sample.values() if value is not None)


def ask_value(field: Field, label: str, sample: Any, key: str) -> Any:
    """Show a field and return what is entered; None if that is nothing."""
    shown: dict[str, Any] = {"help": field.help or None, "key": key}
    is_exact = not isinstance(sample, int) or abs(sample) <= LARGEST
    match field.kind:
        case "category":
            choices = [None, *field.choices] if field.optional else [*field.choices]
            index = choices.index(sample) if sample in choices else 0
            return st.selectbox(label, choices, index, format_func=name_choice, **shown)
        case "flag" if field.optional:
            choices = [None, True, False]
            index = choices.index(sample)
            return st.selectbox(label, choices, index, format_func=name_choice, **shown)
        case "flag":
            return st.checkbox(label, bool(sample), **shown)
        case "number" if is_exact:
            return ask_number(label, field, sample, shown)
        case "vector":
            text = ", ".join(json.dumps(number) for number in sample or [])
            entered = st.text_input(label, text, **shown)
            return (
                read_numbers(entered) if entered.strip() or not field.optional else None
            )
        case "text":
            is_long = field.longest is None or field.longest > LONG
            entry = st.text_area if is_long else st.text_input
            entered = entry(label, sample or "", max_chars=field.longest, **shown)
            return entered or (None if field.optional else "")
    text = "" if sample is None else json.dumps(sample)
    entered = st.text_input(label, text, **shown)
    return read_json(entered) if entered.strip() else None


def ask_number(
    label: str, field: Field, sample: float | None, shown: dict[str, Any]
) -> float | None:
    """Show a number and return what is entered; None if that is nothing."""
    read = int if field.whole else float
    bounds: dict[str, Any] = {
        name: None if one is None else read(one)
        for name, one in (
            ("min_value", field.lowest),
            ("max_value", field.highest),
            ("value", sample),
        )
    }
    step, form = (1, "%d") if field.whole else (None, "%.10g")
    entered: float | None = st.number_input(
        label, step=step, format=form, **bounds, **shown
    )
    return entered


def name_choice(choice: Any) -> str:
    """Return a choice as people read it."""
    if isinstance(choice, bool):
        return "yes" if choice else "no"
    return NOTHING if choice is None else str(choice)


def predict(
    url: str, document: Document, instance: dict[str, Any]
) -> dict[str, Any] | None:
    """Return the answer of the service; show an error, and return None."""
    body: dict[str, Any] = {"instances": [instance]}
    known = document["components"]["schemas"].get("PredictRequest", {})
    if "probabilities" in known.get("properties", {}):
        body["probabilities"] = True
    try:
        answer: dict[str, Any] = get(f"{url}/v1/predict", body)
    except ServiceError as error:
        st.error(str(error))
        return None
    return answer


def show_answer(answer: dict[str, Any]) -> None:
    """Show the value, or the label with the scores of the most probable ones."""
    (prediction,) = answer["predictions"]
    if "value" in prediction:
        st.metric("Value", f"{prediction['value']:g}")
    else:
        st.metric("Label", prediction.get("label", "I do not know"))
        st.write(f"Score {prediction['score']:.1%}")
    if scores := prediction.get("probabilities"):
        best = sorted(scores, key=scores.__getitem__, reverse=True)[:MOST_BARS]
        table = pd.DataFrame({"label": best, "score": [scores[one] for one in best]})
        st.bar_chart(table, x="label", y="score", horizontal=True, sort="-score")
    st.caption(f"Model {answer['model_version']}")


def ask_feedback(
    url: str, document: Document, instance: dict[str, Any], answer: dict[str, Any]
) -> None:
    """Ask whether the prediction is right, and send what people say."""
    state = st.session_state
    if state.thanks:
        st.success("Thank you. Your feedback is stored.")
        return
    truth = read_truth(document)
    (prediction,) = answer["predictions"]
    said: dict[str, Any] = {}
    if truth.name in prediction and st.button("Right"):
        said = {"correct": True}
    with st.form("correction"):
        labels = sorted(prediction.get("probabilities", []))
        entered = ask_truth(truth, labels, f"truth {prediction['id']}")
        if st.form_submit_button("Wrong"):
            said = {truth.name: entered}
    if not said:
        return
    if None in said.values():
        st.warning("Enter what is right.")
        return
    body = make_feedback(instance, answer, said)
    # If the same is sent again, the service knows the item by its id.
    body["feedback"][0]["id"] = state.ids.setdefault(json.dumps(said), str(uuid4()))
    try:
        get(f"{url}{FEEDBACK}", body)
    except ServiceError as error:
        st.error(str(error))
        return
    state.thanks = True
    st.rerun()


def ask_truth(truth: Field, labels: list[str], key: str) -> Any:
    """Return the truth that is entered: any text may be one that is no label yet."""
    title = "Wrong, it is …"
    if truth.kind == "text":
        return st.selectbox(title, labels, None, accept_new_options=True, key=key)
    return ask_value(truth, title, None, key)


if __name__ == "__main__":
    main()
