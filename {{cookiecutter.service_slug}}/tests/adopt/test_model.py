"""An ONNX file made elsewhere: what is made of it, and what is refused and why."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from pydantic import Field, ValidationError

from adopt.apply import CONTRACT, MODEL_SOURCE
from adopt.convert import Choices, convert, read_choices
from adopt.graph import MAX_INT64, Source, read_source
from adopt.infer import Field as Planned
from adopt.infer import Plan
from adopt.layout import Refusal
from adopt.model import (
    STAGE,
    complete_choices,
    make_samples,
    plan_fields,
    read_sample,
)
from adopt.write import load_contract, read_fields, write_contract
from serving.contract import Contract, Task
from serving.model import Model
from serving.problems import ProblemError
from serving.tensors import InputTensor, TensorReader
from serving.testing import ROOT
from tests.training.conftest import reached
from training.dialect import Dialect
from training.stage import PipelineError

WIDTH, LABELS = 4, ("a", "b", "c")
WEIGHTS = np.random.default_rng(0).normal(size=(len(LABELS), WIDTH)).astype(np.float32)
ROW = [0.5, -1.0, 2.0, 0.25]


class Columns(Contract):
    """Each column of the input is a field."""

    first: float
    second: float
    third: float
    fourth: float


class Vector(Contract):
    """The input is a field."""

    input: Annotated[list[float], Field(min_length=WIDTH, max_length=WIDTH)]


COLUMNS = dict(zip(Columns.model_fields, ROW, strict=True))


def write_linear(
    path: Path,
    rows: int | str | None = "batch",
    width: int | str = WIDTH,
    weights: Any = WEIGHTS,
    nodes: Sequence[onnx.NodeProto] = (),
    outputs: Sequence[onnx.ValueInfoProto] = (),
    domain: str = "",
    opset: int = 17,
    ir_version: int = 8,
) -> Path:
    """Write a layer as PyTorch's exporter lays it out: Gemm, Relu, weights by name."""
    layer = helper.make_node("Gemm", ["input", "fc.weight"], ["output"], transB=1)
    result = helper.make_tensor_value_info(
        "output", TensorProto.FLOAT, [rows, len(weights)]
    )
    graph = helper.make_graph(
        [layer, *nodes],
        "main_graph",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [rows, width])],
        [*outputs] or [result],
        [numpy_helper.from_array(weights, "fc.weight")],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    opsets += [helper.make_opsetid(domain, 1)] if domain else []
    model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
    onnx.save(model, path)
    return path


def value(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    """An output of numbers."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def serve(files: dict[str, bytes], directory: Path, contract: type[Contract]) -> Any:
    """Load the files as the service does."""
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return Model.load(directory, contract)


def softmax(logits: Any) -> Any:
    """The shares by hand."""
    shares = np.exp(logits - logits.max())
    return shares / shares.sum()


@pytest.mark.parametrize(
    ("contract", "sample"), [(Columns, COLUMNS), (Vector, {"input": ROW})]
)
def test_logits_become_the_probabilities_of_the_labels(
    tmp_path: Path, contract: type[Contract], sample: dict[str, Any]
) -> None:
    path = write_linear(tmp_path / "given.onnx")

    files, _ = convert(path, Choices(LABELS, logits=True), contract, [sample])

    model = serve(files, tmp_path, contract)
    (answer,) = model.answer([contract.model_validate(sample)])
    np.testing.assert_allclose(answer.probabilities, softmax(WEIGHTS @ ROW), 1e-5)
    assert model.labels == list(LABELS)
    assert model.info.metrics == {}


def test_a_constant_that_only_a_branch_reads_is_found(tmp_path: Path) -> None:
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("Mul", ["output", constant], [name])],
            name,
            [],
            [value(name, "n", 3)],
        )
        for name, constant in (("then", "one"), ("else", "two"))
    }
    path = write_linear(
        tmp_path / "given.onnx",
        nodes=[helper.make_node("If", ["yes"], ["result"], **branches)],
        outputs=[value("result", "n", 3)],
    )
    model = onnx.load(path)
    constants = {"yes": np.array(True), "one": np.float32(1), "two": np.float32(2)}
    for name, constant in constants.items():
        tensor = numpy_helper.from_array(np.array(constant), name)
        model.graph.initializer.append(tensor)
    onnx.save(model, path)

    files, _ = convert(path, Choices(LABELS, logits=True), Columns, [COLUMNS])

    (answer,) = serve(files, tmp_path, Columns).answer([Columns(**COLUMNS)])
    np.testing.assert_allclose(answer.probabilities, softmax(WEIGHTS @ ROW), 1e-5)


def test_one_logit_is_the_share_of_the_second_label(tmp_path: Path) -> None:
    path = write_linear(tmp_path / "given.onnx", weights=WEIGHTS[:1])

    files, _ = convert(path, Choices(("no", "yes"), logits=True), Columns, [COLUMNS])

    (answer,) = serve(files, tmp_path, Columns).answer([Columns(**COLUMNS)])
    share = 1 / (1 + np.exp(-(WEIGHTS[:1] @ ROW)[0]))
    np.testing.assert_allclose(answer.probabilities, [1 - share, share], 1e-5)


SIGMOID = helper.make_node("Sigmoid", ["output"], ["share"])
FLAT = helper.make_node("Flatten", ["share"], ["flat"])
SOFTMAX = helper.make_node("Softmax", ["output"], ["softmax"], axis=1)
EXP = helper.make_node("Exp", ["output"], ["exp"])
TOTAL = helper.make_node("ReduceL1", ["exp"], ["total"], axes=[1])
SHARES = helper.make_node("Div", ["exp", "total"], ["shares"])


@pytest.mark.parametrize(
    ("nodes", "labels", "says"),
    [
        ([SOFTMAX], LABELS, "probabilities already: they come from a Softmax"),
        ([EXP, TOTAL, SHARES], LABELS, "probabilities already: each row has a sum"),
        ([SOFTMAX], ("no", "yes"), "a softmax of one number, which is 1 for every"),
        ([SIGMOID, FLAT], ("no", "yes"), "probabilities already: .* a Sigmoid"),
        ([], (), "there are none: name them.*or leave LOGITS out"),
    ],
)
def test_logits_that_are_none_are_refused(
    tmp_path: Path,
    nodes: Sequence[onnx.NodeProto],
    labels: tuple[str, ...],
    says: str,
) -> None:
    weights = WEIGHTS if labels == LABELS else WEIGHTS[:1]
    outputs = [value(nodes[-1].output[0], "n", len(weights))] if nodes else []
    path = write_linear(
        tmp_path / "given.onnx", weights=weights, nodes=nodes, outputs=outputs
    )

    with pytest.raises(PipelineError, match=says):
        convert(path, Choices(labels, logits=True), Columns, [COLUMNS])


def test_without_labels_the_model_predicts_a_number(tmp_path: Path) -> None:
    path = write_linear(tmp_path / "given.onnx", weights=WEIGHTS[:1])

    files, _ = convert(path, Choices(), Columns, [COLUMNS])

    (answer,) = serve(files, tmp_path, Columns).answer([Columns(**COLUMNS)])
    assert answer.value == pytest.approx(float((WEIGHTS[:1] @ ROW)[0]), rel=1e-5)


def test_a_dictionary_of_probabilities_is_taken_apart_and_names_the_labels(
    tmp_path: Path,
) -> None:
    maps = helper.make_node(
        *("ZipMap", ["shares"], ["probability"]),
        domain="ai.onnx.ml",
        classlabels_strings=LABELS,
    )
    kind = helper.make_map_type_proto(
        TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    )
    output = helper.make_value_info(
        "probability", helper.make_sequence_type_proto(kind)
    )
    shares = helper.make_node("Softmax", ["output"], ["shares"], axis=1)
    path = write_linear(tmp_path / "given.onnx", nodes=[shares, maps], outputs=[output])
    source = read_source(path)

    choices = complete_choices(source, Choices(), path, lambda _: None)
    files, _ = convert(path, choices, Columns, [COLUMNS])

    assert choices.labels == LABELS
    (answer,) = serve(files, tmp_path, Columns).answer([Columns(**COLUMNS)])
    np.testing.assert_allclose(answer.probabilities, softmax(WEIGHTS @ ROW), 1e-5)
    with pytest.raises(Exception, match="names a, b, c, in this order"):
        complete_choices(source, Choices(("b", "a", "c")), path, print)


TWICE = helper.make_node("Identity", ["output"], ["again"])
SUM = helper.make_node("ReduceSum", ["output"], ["sum"], keepdims=0)
LABEL = helper.make_node("ArgMax", ["output"], ["label"], axis=1, keepdims=0)
INT64, BFLOAT16 = TensorProto.INT64, TensorProto.BFLOAT16
HALF = helper.make_node("Cast", ["output"], ["half"], to=BFLOAT16)
SPLIT = helper.make_node("Split", ["output"], ["i0", "i1", "i2"], axis=1)
ROWS = helper.make_node("Flatten", ["output"], ["rows"], axis=0)
TEXTS = helper.make_node("Cast", ["rows"], ["texts"], to=TensorProto.STRING)
LOWER = helper.make_node(
    *("StringNormalizer", ["texts"], ["lower"]),
    case_change_action="LOWER",
    locale="tlh_KL.UTF-8",
)
SOFT = helper.make_node("Softsign", ["half"], ["soft"])
NEW = helper.make_node("Gelu", ["output"], ["gelu"])
FOREIGN = helper.make_node("Magic", ["output"], ["magic"], domain="my.ops")
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "rows of a fixed number": (
        {"rows": 1},
        r"'input' has the shape \[1, 4\]: always 1",
    ),
    "open columns": ({"width": "width"}, "does not say how many columns"),
    "several outputs": (
        {
            "nodes": [TWICE],
            "outputs": [value("output", "n", 3), value("again", "n", 3)],
        },
        "several outputs of 3 numbers.*output .3., again .3.*OUTPUT=NAME",
    ),
    "one answer for all rows": (
        {"nodes": [SUM], "outputs": [value("sum")]},
        "'sum' has the shape .* for two rows",
    ),
    "custom operators": (
        {"nodes": [FOREIGN], "domain": "my.ops"},
        "custom operators my.ops::Magic",
    ),
    "an operator that the opset does not have": (
        {"nodes": [NEW], "outputs": [value("gelu", "n", 3)]},
        "cannot load .*Gelu.*older opset",
    ),
    "a version of the format that is too new": (
        {"ir_version": 99},
        r"FAIL : Unsupported model IR version: 99.*model.ir_version = \d+; onnx.save",
    ),
    "an opset that is too new": ({"opset": 99}, r"for opset \d+ or an older one"),
    "an output for each label": (
        {
            "nodes": [SPLIT],
            "outputs": [value(name, "n", 1) for name in SPLIT.output],
        },
        "seem to be one for each label.*'zipmap': False",
    ),
    "a locale": (
        {
            "nodes": [ROWS, TEXTS, LOWER],
            "outputs": [
                helper.make_tensor_value_info("lower", TensorProto.STRING, None)
            ],
        },
        "by a locale.*lowercase=False",
    ),
    "an output that cannot be read": (
        {
            "nodes": [HALF],
            "outputs": [helper.make_tensor_value_info("half", BFLOAT16, ["n", 3])],
        },
        r"no numbers of float32.*half \(0, bfloat16\)",
    ),
    "arithmetic of bfloat16": (
        {
            "nodes": [HALF, SOFT],
            "outputs": [helper.make_tensor_value_info("soft", BFLOAT16, ["n", 3])],
        },
        "tensors of BFLOAT16: export it in float32",
    ),
    "classes without probabilities": (
        {
            "nodes": [LABEL],
            "outputs": [helper.make_tensor_value_info("label", INT64, ["n"])],
        },
        r"no numbers of float32.*label \(1, int64\).*without the argmax",
    ),
    "logits": ({}, "no probabilities of 3 labels.*LOGITS=1"),
    "another number of labels": ({"weights": WEIGHTS[:2]}, "no output of 3 numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_served_is_refused_with_the_reason(
    tmp_path: Path, name: str
) -> None:
    how, says = REFUSED[name]
    path = write_linear(tmp_path / "given.onnx", **how)

    with pytest.raises(PipelineError, match=says):
        convert(path, Choices(LABELS), Columns, [COLUMNS])


def test_a_model_without_inputs_is_refused(tmp_path: Path) -> None:
    path = write_linear(tmp_path / "given.onnx")
    model = onnx.load(path)
    row = numpy_helper.from_array(np.ones((1, WIDTH), np.float32), "input")
    model.graph.initializer.append(row)
    onnx.save(model, path)

    with pytest.raises(PipelineError, match="has no inputs"):
        read_source(path)


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("two", "no OUTPUT=two of 3 numbers"),
        ("label", "OUTPUT=label gives no numbers"),
        ("other", r"no such output.*output \(3\), two \(2\), label \(1, int64\)"),
    ],
)
def test_an_output_that_is_named_must_fit_the_labels(
    tmp_path: Path, output: str, says: str
) -> None:
    part = helper.make_node("Split", ["output"], ["two", "one"], axis=1)
    sizes = numpy_helper.from_array(np.array([2, 1]), "sizes")
    part.input.append("sizes")
    outputs = [value("output", "n", 3), value("two", "n", 2)]
    outputs.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]))
    nodes = [helper.make_node("Constant", [], ["sizes"], value=sizes), part, LABEL]
    path = write_linear(tmp_path / "given.onnx", nodes=nodes, outputs=outputs)

    with pytest.raises(PipelineError, match=says):
        convert(path, Choices(LABELS, True, output), Columns, [COLUMNS])


def test_weights_in_other_files_are_refused(tmp_path: Path) -> None:
    path = write_linear(tmp_path / "given.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, size_threshold=0)

    with pytest.raises(PipelineError, match="weights in other files.*external_data"):
        read_source(path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", None, "damaged"])
def test_what_is_no_onnx_file_is_refused(
    tmp_path: Path, content: bytes | str | None
) -> None:
    path = tmp_path / "given.onnx"
    if isinstance(content, str):
        damaged = write_linear(path).read_bytes().replace(b"fc.w", b"fc\xffw")
        path.write_bytes(damaged)
    elif content is not None:
        path.write_bytes(content)

    with pytest.raises(PipelineError, match="no ONNX file|There is no file"):
        read_source(path)


def test_other_fields_than_the_inputs_are_refused(tmp_path: Path) -> None:
    class Other(Contract):
        size: Literal["s", "m"]

    path = write_linear(tmp_path / "given.onnx")

    with pytest.raises(PipelineError, match="has the fields size, but the model has"):
        convert(path, Choices(LABELS, True), Other, [{"size": "s"}])


@pytest.mark.parametrize("is_file", [False, True])
@pytest.mark.parametrize(
    ("given", "labels"),
    [
        (" a, b ,c", ("a", "b", "c")),
        ('a,"b, c"', ("a", "b, c")),
        ("a\nb, c\n\n", ("a", "b, c")),
        ("\ufeffä\r\n b b \r\n", ("ä", "b b")),
        ('5" pipe\n"quoted"\n${x}', ('5" pipe', '"quoted"', "${x}")),
        ("a", "one label. Name two"),
        ("a,,b", "the label 2 is empty"),
        ("a\n\nb", "the label 2 is empty"),
        ("a,b,a", "a stands there more than once"),
        ("a\nb \r\nb", "b stands there more than once"),
        ('a,"b', "quotes"),
        ("a\n" + "b" * 100_000, "characters"),
    ],
)
def test_labels_are_read_from_a_list_or_a_file_or_refused(
    tmp_path: Path, given: str, labels: tuple[str, ...] | str, is_file: bool
) -> None:
    text = given.removeprefix("\ufeff")
    if is_file:
        file = tmp_path / "labels.txt"
        file.write_bytes(given.encode())
        text = str(file)
    if isinstance(labels, str):
        with pytest.raises(PipelineError, match=labels):
            read_choices({"LABELS": text})
        return

    choices = read_choices({"LABELS": text})

    assert choices.labels == labels
    # As the stage reads them.
    (argument,) = choices.arguments
    assert read_choices(dict([argument.split("=", 1)])) == choices


@pytest.mark.parametrize("content", [b"", b'["a", "b"]', "ä\nb".encode("utf-16")])
def test_a_file_without_a_label_on_each_line_is_refused(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "labels.txt").write_bytes(content)

    says = "labels.txt (cannot be read|has no labels, or is JSON)"
    with pytest.raises(PipelineError, match=says):
        read_choices({"LABELS": str(tmp_path / "labels.txt")})


@pytest.mark.parametrize(
    ("name", "content", "fields"),
    [
        ("rows.csv", "Sepal Length,b,c,d\n1,2,3,4\n", ["sepal_length", "b", "c", "d"]),
        ("rows.json", "[[1, 2, 3, 4]]", ["input"]),
        ("rows.json", '{"instances": [{"input": [1, 2, 3, 4]}]}', ["input"]),
        ("rows.jsonl", '{"w": 1, "x": 2, "y": 3, "z": 4}\n', ["w", "x", "y", "z"]),
    ],
)
def test_a_sample_names_the_fields(
    tmp_path: Path, name: str, content: str, fields: list[str]
) -> None:
    source = read_source(write_linear(tmp_path / "given.onnx"))
    (tmp_path / name).write_text(content, encoding="utf-8")

    columns, rows = read_sample(tmp_path / name)
    planned = plan_fields(source, columns)
    (sample,) = make_samples(source, planned, rows)

    assert [field.name for field in planned] == fields == list(sample)
    assert np.ravel(list(sample.values())).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("type_", "given", "expected"),
    [("Annotated[str, Field()]", text, text) for text in ("1e3", "1.50", "true")]
    + [("bool", given, True) for given in ("True", "1", 1, True)]
    + [("float", "2", 2.0), ("int", "3.0", 3), ("bool", "false", False)],
)
def test_a_cell_is_what_its_field_takes(type_: str, given: Any, expected: Any) -> None:
    source = Source(onnx.ModelProto(), [], [])

    fields = [Planned("a", "a", type_, "the input a")]
    (sample,) = make_samples(source, fields, [{"a": given}])

    assert sample["a"] == expected and type(sample["a"]) in (type(expected), float)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.npy", b""),
        ("rows.json", b"[" * 100_000),
        ("rows.json", b"[[1" + b"0" * 400 + b", 2, 3, 4]]"),
        ("rows.csv", b"a,b\n1,2,3\n"),
        ("rows.csv", b"a,b,a,c\n1,2,3,4\n"),
        ("rows.csv", b",input,b,c,d\n0,1,2,3,4\n"),  # with the index of pandas
    ],
)
def test_a_damaged_sample_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    source = read_source(write_linear(tmp_path / "given.onnx"))
    (tmp_path / name).write_bytes(content)

    with pytest.raises(Refusal, match="SAMPLE"):
        columns, rows = read_sample(tmp_path / name)
        make_samples(source, plan_fields(source, columns), rows)


def test_the_fields_have_the_order_of_the_columns_whatever_was_there() -> None:
    text = CONTRACT.read_text(encoding="utf-8")
    for names in (["b", "a", "c"], ["c", "b", "d", "a"]):
        fields = [Planned(name, name, "float", "") for name in names]
        label = Planned("label", "label", "float", "")
        plan = Plan(Dialect(), Task.REGRESSION, 0, fields, label)
        text = write_contract(text, plan, set(), in_order=True)

        assert list(read_fields(text, "Instance")) == names
        assert list(load_contract(text).Instance.model_fields) == names


@pytest.mark.parametrize(
    ("labels", "fits"),
    [(("x", "y"), True), (("-1", "1"), True), (("1", "-1"), False)],
)
def test_labels_of_numbers_may_be_named_but_not_swapped(
    labels: tuple[str, ...], fits: bool
) -> None:
    source = Source(onnx.ModelProto(), [], ["-1", "1"])

    if fits:
        choices = complete_choices(source, Choices(labels), Path("m.onnx"), print)
        assert choices.labels == labels
        return
    with pytest.raises(Refusal, match="names -1, 1, in this order"):
        complete_choices(source, Choices(labels), Path("m.onnx"), print)


def test_a_sample_of_other_columns_is_refused(tmp_path: Path) -> None:
    source = read_source(write_linear(tmp_path / "given.onnx"))

    with pytest.raises(Exception, match=r"columns a, b; the model reads input \(4"):
        make_samples(source, plan_fields(source, ["a", "b"]), [{"a": 1, "b": 2}])


def test_the_stage_depends_on_the_files_that_it_imports_and_on_no_others() -> None:
    document = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    if "adopt" not in document["stages"]:
        document = yaml.safe_load(STAGE.format(command="", source=MODEL_SOURCE))
    files = reached(ROOT / "adopt/convert.py", ROOT / "adopt/__init__.py")

    wanted = {file.relative_to(ROOT).as_posix() for file in files}

    deps = document["stages"]["adopt"]["deps"]
    listed = {path for path in deps if path.endswith(".py")}
    assert wanted <= listed
    # A contract without a text does not import it.
    assert listed - wanted <= {"serving/text.py"}


def test_the_output_that_is_named_is_served(tmp_path: Path) -> None:
    # The sum has one number for all rows: no client could be given its own.
    outputs = [value("output", "n", 3), value("again", "n", 3), value("sum")]
    path = write_linear(tmp_path / "given.onnx", nodes=[TWICE, SUM], outputs=outputs)

    choices = Choices(LABELS, logits=True, output="again")
    _, output = convert(path, choices, Columns, [COLUMNS])

    assert output.name == "again"


class Coded(Contract):
    """A category, an index of an embedding, and a number."""

    town: str
    code: int
    size: float


def write_coded(path: Path) -> Path:
    """Write a model that knows two towns and two codes, and fails for others."""
    towns = helper.make_node(
        *("OneHotEncoder", ["town"], ["towns"]),
        domain="ai.onnx.ml",
        cats_strings=["Bonn", "Ulm"],
        zeros=0,  # as of scikit-learn with handle_unknown="error"
    )
    nodes = [
        towns,
        helper.make_node("Reshape", ["towns", "rows of two"], ["flat"]),
        helper.make_node("Gather", ["embedding", "code"], ["found"]),
        helper.make_node("Reshape", ["found", "rows of two"], ["of code"]),
        helper.make_node("Sum", ["flat", "of code", "size"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["shares"], axis=1),
    ]
    embedding = np.eye(2, dtype=np.float32)
    inputs = {
        "town": TensorProto.STRING,
        "code": TensorProto.INT64,
        "size": TensorProto.FLOAT,
    }
    graph = helper.make_graph(
        nodes,
        "coded",
        [
            helper.make_tensor_value_info(name, type_, ["n", 1])
            for name, type_ in inputs.items()
        ],
        [value("shares", "n", 2)],
        [
            numpy_helper.from_array(embedding, "embedding"),
            numpy_helper.from_array(np.array([-1, 2]), "rows of two"),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


CODED = {"town": "Ulm", "code": 1, "size": 0.5}


def write_cast(path: Path, type_: int) -> Path:
    """Write a model that gives its only number, of some type, as a float."""
    graph = helper.make_graph(
        [helper.make_node("Cast", ["code"], ["output"], to=TensorProto.FLOAT)],
        "cast",
        [helper.make_tensor_value_info("code", type_, ["n", 1])],
        [value("output", "n", 1)],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def contract_of(type_: str) -> Any:
    """A contract with one field."""
    imports = (
        "from typing import Annotated",
        "from pydantic import Field",
        "from serving.contract import Contract",
    )
    text = "class Instance(Contract):\n    code: " + type_
    return load_contract("\n".join([*imports, text])).Instance


@pytest.mark.parametrize(
    ("type_", "lowest", "highest"),
    [
        (TensorProto.INT8, -128, 127),
        (TensorProto.UINT8, 0, 255),
        (TensorProto.INT16, -(2**15), 2**15 - 1),
        (TensorProto.UINT32, 0, 2**32 - 1),
        (TensorProto.INT64, -MAX_INT64, MAX_INT64),
        (TensorProto.UINT64, 0, MAX_INT64),
        (TensorProto.FLOAT16, -65_504, 65_504),
    ],
)
def test_a_field_takes_the_numbers_that_its_input_holds_and_no_others(
    tmp_path: Path, type_: int, lowest: int, highest: int
) -> None:
    path = write_cast(tmp_path / "given.onnx", type_)
    (field,) = plan_fields(read_source(path), [])
    contract = contract_of(field.type)
    reader = TensorReader(contract, 10)
    files, _ = convert(path, Choices(), contract, [{"code": 1}])
    model = serve(files, tmp_path, contract)

    ends = [contract(code=lowest), contract(code=highest)]
    sent = json.dumps({"code": float(highest)})  # as a client that counts in floats
    assert contract.model_validate_json(sent).code <= highest
    answers = [answer.value for answer in model.answer(ends)]
    assert answers == [np.float32(lowest), np.float32(highest)]
    for number in (lowest - 1, highest + 1, 10**30, -1e30):
        with pytest.raises(ValidationError, match="code\n"):
            contract.model_validate_json(json.dumps({"code": number}))
        with pytest.raises(ProblemError) as caught:
            tensor = InputTensor(name="code", shape=[1], datatype="FP64", data=[number])
            reader.read([tensor])
        pointers = [mistake.pointer for mistake in caught.value.errors or ()]
        assert pointers == ["/inputs/0/data/0"]


@pytest.mark.parametrize(
    ("input_", "type_", "says"),
    [
        (TensorProto.INT8, "int", "is from -3.4.*INT8.*ge=-128, le=127"),
        (TensorProto.INT64, "float", "may have a fraction.*INT64"),
        (TensorProto.INT64, "int | None = None", "may be None"),
        (TensorProto.BOOL, "bool | None = None", "may be None.*`code: bool`"),
        (TensorProto.FLOAT, "str", "is a text.*FLOAT of 1 column"),
        (
            TensorProto.FLOAT,
            "Annotated[list[float], Field(min_length=2, max_length=2)]",
            "has 2 number",
        ),
    ],
)
def test_a_contract_that_allows_what_the_input_cannot_hold_is_refused(
    tmp_path: Path, input_: int, type_: str, says: str
) -> None:
    path = write_cast(tmp_path / "given.onnx", input_)

    with pytest.raises(PipelineError, match=says):
        convert(path, Choices(), contract_of(type_), [{"code": 1}])


def test_a_sample_that_breaks_the_contract_is_named(tmp_path: Path) -> None:
    path = write_cast(tmp_path / "given.onnx", TensorProto.INT8)
    contract = contract_of("Annotated[int, Field(ge=-128, le=127)]")

    with pytest.raises(PipelineError, match="The sample 2, .* code: .* equal to 127"):
        convert(path, Choices(), contract, [{"code": 1}, {"code": 200}])


def test_a_model_that_knows_few_values_is_tried_with_those_of_the_sample(
    tmp_path: Path,
) -> None:
    path = write_coded(tmp_path / "given.onnx")

    files, _ = convert(path, Choices(("no", "yes")), Coded, [CODED])

    assert serve(files, tmp_path, Coded).labels == ["no", "yes"]
    source = read_source(path)
    made_up = make_samples(source, plan_fields(source, []), [])
    for samples in (made_up, [CODED, {**CODED, "code": 7}]):
        with pytest.raises(PipelineError, match="the (first )?sample .*SAMPLE=FILE"):
            convert(path, Choices(("no", "yes")), Coded, samples)
