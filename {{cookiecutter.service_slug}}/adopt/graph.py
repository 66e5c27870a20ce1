"""Read an ONNX file that was made elsewhere, and give it the inputs of a contract."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from onnx.external_data_helper import uses_external_data

from adopt.names import name_fields
from serving.contract import Task
from serving.fields import OUTPUTS, FieldKind, Kind
from training.stage import PipelineError

# The operator sets that are built into ONNX Runtime.
DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
CLASSES = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")
# Before each name of the file, and of what is added: so no two are the same, and fields
# may have any.
INSIDE, ADDED = "adopted/", "added/"

FLOATS = {
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
}
INTEGERS = {
    *(TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64),
    *(TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64),
}
# The operators that leave a number what it is.
RESHAPING = {"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
# The types of outputs that can be read into an array.
READABLE = {
    f"tensor({type_})"
    for type_ in ("float", "double", "float16", "string", "bool")
    + tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
}
# The service feeds int64. A client that counts in floats sends the largest as 2^63,
# which is none. What is larger than a float16 is infinite.
MAX_INT64, MAX_FLOAT16 = 9_223_372_036_854_775_000, 65_504


@dataclass(frozen=True)
class Input:
    """An input: its name, the type of ONNX, and the number of columns."""

    name: str
    type: int
    width: int
    is_flat: bool  # of the shape [n], not [n, width]

    @property
    def fed(self) -> int:
        """Return the type that the service feeds."""
        if self.type in FLOATS:
            return int(TensorProto.FLOAT)
        return int(TensorProto.INT64) if self.type in INTEGERS else self.type

    @property
    def bounds(self) -> tuple[int, int] | None:
        """Return the smallest and the largest number for it, unless all of float32."""
        if self.type == TensorProto.FLOAT16:
            return -MAX_FLOAT16, MAX_FLOAT16
        if self.type not in INTEGERS:
            return None
        known = np.iinfo(helper.tensor_dtype_to_np_dtype(self.type))
        return max(int(known.min), -MAX_INT64), min(int(known.max), MAX_INT64)

    def write_type(self) -> str:
        """Return the type of a field for it."""
        if self.type == TensorProto.STRING:
            return "Annotated[str, Field(max_length=MAX_TEXT_LENGTH)]"
        if self.type == TensorProto.BOOL:
            return "bool"
        number = "int" if self.type in INTEGERS else "float"
        if self.bounds:
            lowest, highest = self.bounds
            number = f"Annotated[{number}, Field(ge={lowest}, le={highest})]"
        if self.width == 1:
            return number
        length = f"min_length={self.width}, max_length={self.width}"
        return f"Annotated[list[{number}], Field({length})]"


@dataclass(frozen=True)
class Output:
    """An output: its name, the number of columns, and the type of ONNX Runtime."""

    name: str
    width: int
    type: str

    @property
    def is_number(self) -> bool:
        """Return whether it may be a probability or a value, and no class."""
        return self.type in ("tensor(float)", "tensor(double)", "tensor(float16)")

    @property
    def shown(self) -> str:
        """Return it as messages list it."""
        type_ = self.type.removeprefix("tensor(").rstrip(")")
        return f"{self.name} ({self.width}{'' if self.is_number else f', {type_}'})"


@dataclass(frozen=True)
class Source:
    """An ONNX file that can be served; `classes` are the labels that it names."""

    model: onnx.ModelProto
    inputs: list[Input]
    classes: list[str]


def read_source(path: Path) -> Source:
    """Return what a file has. Raises PipelineError, with the reason and the fix."""
    model = _load(path)
    _check_self_contained(model, path)
    classes = _find_classes(model.graph)
    _drop_zip_maps(model.graph)
    inputs = [_read_input(one, path) for one in _real_inputs(model.graph)]
    if not inputs:
        raise PipelineError(
            f"{path} has no inputs: it gives the same answer to everyone. Export it "
            "with what it predicts from as inputs, not as constants."
        )
    others = [one for one in model.graph.output if not one.type.HasField("tensor_type")]
    if len(others) == len(model.graph.output):
        raise PipelineError(
            f"{path}: the output '{others[0].name}' is no tensor (a sequence or a "
            "map), which no client can read. Export it as a tensor (of scikit-learn: "
            "options={'zipmap': False})."
        )
    for one in others:
        model.graph.output.remove(one)
    return Source(model, inputs, classes)


def _load(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise PipelineError(f"There is no file {path}. Name another: MODEL=FILE.")
    try:
        model = onnx.load_model(path, load_external_data=False)
    except OSError as error:
        raise PipelineError(
            f"{path} cannot be read: {error.strerror}. Give yourself the right to."
        ) from None
    except Exception:  # protobuf's classes come and go
        model = onnx.ModelProto()
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.initializer)
    names = [one.name for one in values]
    for node in _nodes(graph):
        names += [*node.input, *node.output, node.op_type, node.domain]
    # protobuf returns bytes where a text is no UTF-8.
    if not graph.node or not all(isinstance(name, str) for name in names):
        raise PipelineError(
            f"{path} is no ONNX file, or a damaged one. A service loads no pickle and "
            "no .pt: export the model to ONNX (torch.onnx.export, skl2onnx, "
            "onnxmltools)."
        )
    return model


def _nodes(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of those inside of its nodes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _check_self_contained(model: onnx.ModelProto, path: Path) -> None:
    """Raise PipelineError for data in other files, or operators of a library."""
    functions = list(model.functions)
    nodes = [node for graph in (model.graph, *functions) for node in _nodes(graph)]
    attributes = [attribute for node in nodes for attribute in node.attribute]
    graphs = [model.graph, *(one.g for one in attributes)]
    tensors = [tensor for one in attributes for tensor in (one.t, *one.tensors)]
    for graph in graphs:
        sparse = (one.values for one in graph.sparse_initializer)
        tensors += [*graph.initializer, *sparse]
    if any(map(uses_external_data, tensors)):
        raise PipelineError(
            f"{path} has its weights in other files, and the image takes one file. "
            "Save it as one: onnx.save_model(onnx.load(path), path, "
            "save_as_external_data=False), or torch.onnx.export(…, "
            "external_data=False)."
        )
    own = {(function.domain, function.name) for function in functions}
    foreign = sorted(
        {
            f"{node.domain}::{node.op_type}"
            for node in nodes
            if node.domain not in DOMAINS and (node.domain, node.op_type) not in own
        }
    )
    if foreign:
        raise PipelineError(
            f"{path} has the custom operators {', '.join(foreign)}, which ONNX Runtime "
            "does not have. Export it with standard operators, or do their part "
            "before the request."
        )


def _find_classes(graph: onnx.GraphProto) -> list[str]:
    """Return the labels that the nodes name, if they agree."""
    found = []
    for node in _nodes(graph):
        for attribute in node.attribute:
            if attribute.name in CLASSES and (attribute.strings or attribute.ints):
                texts = [text.decode(errors="replace") for text in attribute.strings]
                classes = texts or [str(number) for number in attribute.ints]
                if classes not in found:
                    found.append(classes)
    # Where the node has numbers for labels that are texts, the last one names them.
    named = [one for one in found if not all(text.isdigit() for text in one)]
    found = named or found
    return found[0] if len(found) == 1 else []


def _drop_zip_maps(graph: onnx.GraphProto) -> None:
    """Take the tensor of probabilities in place of the dictionaries made of it."""
    outputs = {one.name: one for one in graph.output}
    names = {*outputs}
    for node in [one for one in graph.node if one.op_type == "ZipMap"]:
        if node.output[0] not in outputs:
            continue
        graph.node.remove(node)
        graph.output.remove(outputs[node.output[0]])
        if node.input[0] not in names:
            names.add(node.input[0])
            graph.output.append(
                helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, None)
            )


def _real_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    constant = {tensor.name for tensor in graph.initializer}
    return [one for one in graph.input if one.name not in constant]


def _read_input(one: onnx.ValueInfoProto, path: Path) -> Input:
    """Return an input. Raises PipelineError if no field of a contract can be it."""
    where = f"{path}: the input '{one.name}'"
    if not one.type.HasField("tensor_type"):
        raise PipelineError(
            f"{where} is no tensor (a sequence, a map or optional); a field is a value "
            "or a list of numbers. Export it with tensors."
        )
    tensor = one.type.tensor_type
    if tensor.elem_type not in FLOATS | INTEGERS | {
        TensorProto.STRING,
        TensorProto.BOOL,
    }:
        raise PipelineError(
            f"{where} is of the type {_name_type(tensor.elem_type)}; a field is a text "
            "or a number or a flag. Export it with one of those, such as float32."
        )
    if not tensor.HasField("shape"):
        raise PipelineError(f"{where} has no shape. Export it with [batch, columns].")
    sizes = [
        size.dim_value if size.HasField("dim_value") else 0 for size in tensor.shape.dim
    ]
    shown = "[" + ", ".join(str(size or "?") for size in sizes) + "]"
    if not 1 <= len(sizes) <= 2:
        raise PipelineError(
            f"{where} has the shape {shown}; a field is one value, or one list of "
            "numbers, for each row: [batch, columns]. Export the model with a flat "
            "input that it reshapes itself."
        )
    if sizes[0] > 0:
        axes = {one.name: {0: "batch"}}
        raise PipelineError(
            f"{where} has the shape {shown}: always {sizes[0]} row(s), but a request "
            "has any number. Export it with a batch axis of any size (torch.onnx."
            f"export(…, dynamic_axes={axes}))."
        )
    if len(sizes) == 2 and sizes[1] < 1:
        raise PipelineError(
            f"{where} has the shape {shown}: it does not say how many columns it has. "
            "Only the number of rows may be open; export it with a fixed number of "
            "columns."
        )
    width = sizes[1] if len(sizes) == 2 else 1
    if width > 1 and tensor.elem_type in (TensorProto.STRING, TensorProto.BOOL):
        raise PipelineError(
            f"{where} is a list of texts or flags; a contract has lists of numbers. "
            "Export the model with an input for each column."
        )
    return Input(one.name, tensor.elem_type, width, len(sizes) == 1)


def _name_type(type_: int) -> str:
    """Return the name of a type, also of one that is newer than this library."""
    known = TensorProto.DataType.values()
    return str(TensorProto.DataType.Name(type_)) if type_ in known else f"{type_}"


def make_session(model: onnx.ModelProto, path: Path) -> ort.InferenceSession:
    """Return a session. Raises PipelineError if ONNX Runtime cannot load the model."""
    options = ort.SessionOptions()
    options.log_severity_level = 4  # the reason is in the exception
    try:
        return ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's classes are not public
        said = first_line(error)
        raise PipelineError(
            f"ONNX Runtime cannot load {path}: {said}. {_advise(model, said, path)}"
        ) from None


def _advise(model: onnx.ModelProto, said: str, path: Path) -> str:
    """Return what to do about a model that ONNX Runtime cannot load."""
    if newest := re.search(r"max supported IR version: (\d+)", said):
        return (
            f"Mark it as of an older version: model = onnx.load('{path}'); "
            f"model.ir_version = {newest[1]}; onnx.save(model, '{path}')."
        )
    if newest := re.search(r"is till opset (\d+)", said):
        return (
            f"Export it for opset {newest[1]} or an older one (torch.onnx.export(…, "
            f"opset_version={newest[1]}), skl2onnx: target_opset)."
        )
    if "construct locale" in said:
        return (
            "It changes the case of texts by a locale, which neither this machine nor "
            "the image has. Export it without (of scikit-learn: lowercase=False), and "
            "let app/contract.py do that: an AfterValidator with normalise."
        )
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info)
    types = {one.type.tensor_type.elem_type for one in values}
    types |= {one.data_type for one in graph.initializer}
    casts = (node.attribute[0].i for node in _nodes(graph) if node.op_type == "Cast")
    types |= {*casts}
    # The types of weights; there is no arithmetic for them on a CPU.
    small = [_name_type(one) for one in types]
    small = sorted(one for one in small if re.match("BFLOAT|FLOAT[48]|U?INT[24]$", one))
    if small:
        return (
            f"It has tensors of {', '.join(small)}: export it in float32 (of PyTorch: "
            "model.float())."
        )
    return (
        "Check it (onnx.checker.check_model), and export it with standard operators "
        "and an older opset, such as 17."
    )


def first_line(error: Exception) -> str:
    """Return the first line of an error, with the names as the file has them.

    The place in the source of ONNX Runtime is left out.
    """
    said = str(error).replace(INSIDE, "").strip().splitlines()[0]
    return re.sub(r"/onnxruntime_src/\S+ .*?[)>] (?=[A-Z])", "", said).rstrip(".")


def find_outputs(
    session: ort.InferenceSession, make_feed: Callable[[int], Any], path: Path
) -> list[Output]:
    """Return the outputs of a connected model as they come for two rows and for three.

    `make_feed` returns the first sample so many times. An output whose shape does not
    follow the number of rows has no columns. Raises PipelineError if the model fails,
    or if no output follows.
    """
    known = [one for one in session.get_outputs() if one.type in READABLE]
    names = [one.name for one in known]
    results = []
    for rows in (1, 2, 3):
        try:
            results.append(session.run(names, make_feed(rows)) if names else [])
        except Exception as error:  # whatever ONNX Runtime raises
            raise PipelineError(
                describe_failure(path, "the first sample", error)
                if rows == 1
                else f"{path} answers one row and fails for {rows} "
                f"({first_line(error)}). A request has any number of rows: export it "
                "with a batch axis of any size."
            ) from None
    widths, shapes = dict[str, int](), list[str]()
    for given, _, two, three in zip(known, *results, strict=True):
        follows = two.shape[:1] == (2,) and three.shape[:1] == (3,)
        if follows and two.shape[1:] == three.shape[1:] and two.ndim <= 2:
            widths[given.name] = two.shape[1] if two.ndim == 2 else 1
        else:
            shapes.append(
                f"the output '{given.name.removeprefix(INSIDE)}' has the shape "
                f"{list(two.shape)} for two rows and {list(three.shape)} for three"
            )
    if shapes and not widths:
        raise PipelineError(
            f"{path}: {'; '.join(shapes)}. A row of numbers is needed for each row of "
            "the input: [batch, columns]."
        )
    return [
        Output(one.name.removeprefix(INSIDE), widths.get(one.name, 0), one.type)
        for one in session.get_outputs()
    ]


def describe_failure(path: Path, sample: str, error: Exception) -> str:
    """Return why the model has no answer to a sample, and what to do."""
    return (
        f"{path} fails for {sample} of app/examples.py ({first_line(error)}). It may "
        "know other values only, such as certain categories or indices: give it rows "
        "that it was made for, SAMPLE=FILE."
    )


def choose_output(
    outputs: Sequence[Output], wanted: str, labels: Sequence[str]
) -> Output:
    """Return the output with the probabilities of labels, or with the value.

    Raises PipelineError if none or several could be it.
    """
    listed = ", ".join(one.shown for one in outputs)
    its = f"its outputs, with their columns, are {listed}."
    if wanted:
        outputs = [one for one in outputs if one.name == wanted]
        if not outputs:
            raise PipelineError(f"OUTPUT={wanted}: the model has no such output; {its}")
    if not any(one.is_number for one in outputs):
        raise PipelineError(
            f"{f'OUTPUT={wanted}' if wanted else 'The model'} gives no numbers of "
            f"float32 or the like; {its} Export it with probabilities in place of "
            "classes (of scikit-learn: a classifier with predict_proba), or with "
            "logits and LOGITS=1 (of PyTorch: without the argmax); a model that "
            "predicts a number, with that as a float32."
        )
    widths = {1, len(labels)} if len(labels) == 2 else {len(labels) or 1}
    fitting = [one for one in outputs if one.is_number and one.width in widths]
    if len(fitting) == 1:
        return fitting[0]
    need = (
        f"{len(labels)} numbers a row, one for each label" if labels else "one number"
    )
    hint = "Say which: OUTPUT=NAME." if fitting else ""
    if not labels and not fitting:
        hint = "Name its labels, in their order: LABELS=a,b,c."
    elif not fitting:
        hint = "Name all labels of the model, in their order: LABELS=a,b,c."
    if labels and [one.width for one in outputs if one.is_number] == [1] * len(labels):
        hint = (
            "They seem to be one for each label: export one output with all of them "
            "(of scikit-learn: options={'zipmap': False})."
        )
    has = "has several outputs" if fitting else "has no output"
    raise PipelineError(
        f"The model {f'has no OUTPUT={wanted}' if wanted else has} of {need}; {its} "
        f"{hint}"
    )


def connect(source: Source, fields: Sequence[FieldKind]) -> onnx.ModelProto:
    """Return the model with the fields as inputs, and its own outputs.

    A field is an input of its name, or all fields are the columns of the only input.
    Raises PipelineError if the fields are not those of the model.
    """
    model = onnx.ModelProto()
    model.CopyFrom(source.model)
    graph = model.graph
    _rename(graph)
    outside, before = _connect_inputs(source, fields)

    old = {INSIDE + one.name for one in source.inputs}
    kept = [one for one in graph.input if one.name not in old]
    nodes = list(graph.node)
    del graph.input[:], graph.node[:], graph.value_info[:]
    graph.input.extend([*outside, *kept])
    graph.node.extend([*before, *nodes])
    if not any(opset.domain in ("", "ai.onnx") for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", 17))
    return model


def _rename(graph: onnx.GraphProto) -> None:
    """Put INSIDE before every name of a graph, and of those inside of its nodes.

    onnx.compose.add_prefix leaves out constants that only an inner graph reads:
    https://github.com/onnx/onnx/blob/main/onnx/compose.py
    """
    for node in graph.node:
        node.input[:] = [INSIDE + name if name else "" for name in node.input]
        node.output[:] = [INSIDE + name if name else "" for name in node.output]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner)
    sparse = (one.values for one in graph.sparse_initializer)
    values = (*graph.input, *graph.output, *graph.value_info)
    for one in (*values, *graph.initializer, *sparse):
        one.name = INSIDE + one.name


def find_shares(model: onnx.ModelProto, output: Output) -> str:
    """Return the operator that makes probabilities for an output, or "".

    `model` is a connected one.
    """
    made_by = {name: node for node in model.graph.node for name in node.output}
    node = made_by.get(INSIDE + output.name)
    while node and node.op_type in RESHAPING:
        node = made_by.get(node.input[0])
    return node.op_type if node and node.op_type in ("Sigmoid", "Softmax") else ""


def adapt(
    model: onnx.ModelProto, output: Output, labels: Sequence[str], logits: bool
) -> bytes:
    """Return a connected model with the output that serving reads."""
    result, after, constants = _connect_output(output, labels, logits)
    graph = model.graph
    del graph.output[:]
    graph.node.extend(after)
    graph.initializer.extend(constants)
    graph.output.append(result)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _connect_inputs(
    source: Source, fields: Sequence[FieldKind]
) -> tuple[list[onnx.ValueInfoProto], list[onnx.NodeProto]]:
    """Return the new inputs, and the nodes that make the old ones of them."""
    names, nodes = [field.name for field in fields], list[onnx.NodeProto]()
    fitting = name_fields([one.name for one in source.inputs])
    by_field = {fitting[one.name]: one for one in source.inputs}
    if set(by_field) == set(names):
        for field in fields:
            _check_field(field, by_field[field.name])
        for name, one in by_field.items():
            nodes += _convert(one, name)
        pairs = [(name, by_field[name]) for name in names]
        outside = [
            helper.make_tensor_value_info(name, one.fed, [None, one.width])
            for name, one in pairs
        ]
        return outside, nodes
    first, *others = source.inputs
    is_columns = len(fields) == first.width and not others
    if is_columns and all(field.kind is Kind.NUMBER for field in fields):
        for field in fields:
            _check_field(field, replace(first, width=1))
        joined = f"{ADDED}columns of the contract"
        nodes = [helper.make_node("Concat", names, [joined], axis=1)]
        outside = [
            helper.make_tensor_value_info(name, first.fed, [None, 1]) for name in names
        ]
        return outside, [*nodes, *_convert(first, joined)]
    listed = ", ".join(f"{name} ({one.width})" for name, one in by_field.items())
    raise PipelineError(
        f"app/contract.py has the fields {', '.join(names)}, but the model has the "
        f"inputs, with their columns, {listed}. Give the contract those fields, or a "
        "number for each column."
    )


def _check_field(field: FieldKind, one: Input) -> None:
    """Raise PipelineError if a contract allows what an input cannot hold."""
    is_text, is_whole = one.type == TensorProto.STRING, one.type in INTEGERS
    is_flag = field.kind is Kind.FLAG
    reason = ""
    if is_text is not (field.kind in (Kind.TEXT, Kind.CATEGORY)):
        reason = f"is a {field.kind}"
    elif field.length != one.width:
        reason = f"has {field.length} number(s)"
    elif one.type == TensorProto.BOOL and not is_flag:
        reason = f"is a {field.kind}"
    elif field.optional and (is_whole or one.type == TensorProto.BOOL):
        reason = "may be None"
    elif is_whole and not (field.whole or is_flag):
        reason = "may have a fraction"
    # An int64 that is too large fails; a smaller type would get another number.
    elif one.bounds and one.type != TensorProto.INT64 and not is_flag:
        lowest, highest = map(float, one.bounds)
        if field.lowest < lowest or field.highest > highest:
            reason = f"is from {field.lowest:.9g} to {field.highest:.9g}"
    if reason:
        kind = _name_type(one.type)
        raise PipelineError(
            f"app/contract.py: '{field.name}' {reason}, but the input '{one.name}' of "
            f"the model is {kind} of {one.width} column(s). Write "
            f"`{field.name}: {one.write_type()}`, or narrower."
        )


def _convert(one: Input, given: str) -> list[onnx.NodeProto]:
    """Return the nodes that give an old input what it takes."""
    cast, inside = f"{ADDED}cast of {one.name}", INSIDE + one.name
    nodes = [helper.make_node("Cast", [given], [cast], to=one.type)]
    if one.type == TensorProto.STRING:  # which Cast does not take everywhere
        nodes = [helper.make_node("Identity", [given], [cast])]
    if not one.is_flat:
        return [*nodes, helper.make_node("Identity", [cast], [inside])]
    shape = f"{ADDED}shape of {one.name}"
    value = helper.make_tensor(shape, TensorProto.INT64, [1], [-1])
    return [
        *nodes,
        helper.make_node("Constant", [], [shape], value=value),
        helper.make_node("Reshape", [cast, shape], [inside]),
    ]


def _connect_output(
    output: Output, labels: Sequence[str], logits: bool
) -> tuple[onnx.ValueInfoProto, list[onnx.NodeProto], list[TensorProto]]:
    """Return the new output, the nodes that make it of the old one, and constants."""
    name = OUTPUTS[Task.CLASSIFICATION if labels else Task.REGRESSION]
    numbers, rows = f"{ADDED}numbers", f"{ADDED}rows"
    shape, one = f"{ADDED}shape of rows", f"{ADDED}one"
    constants = [
        helper.make_tensor(shape, TensorProto.INT64, [2], [-1, output.width]),
        helper.make_tensor(one, TensorProto.FLOAT, [1], [1.0]),
    ]
    nodes = [
        helper.make_node(
            "Cast", [INSIDE + output.name], [numbers], to=TensorProto.FLOAT
        ),
        helper.make_node("Reshape", [numbers, shape], [rows]),
    ]
    last = rows
    if logits:
        last = f"{ADDED}shares"
        if output.width == 1:
            nodes.append(helper.make_node("Sigmoid", [rows], [last]))
        else:
            nodes.append(helper.make_node("Softmax", [rows], [last], axis=1))
    if labels and output.width == 1:  # the share of the second label
        rest = f"{ADDED}rest"
        nodes.append(helper.make_node("Sub", [one, last], [rest]))
        nodes.append(helper.make_node("Concat", [rest, last], [name], axis=1))
    else:
        nodes.append(helper.make_node("Identity", [last], [name]))
    width = len(labels) or 1
    value = helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width])
    return value, nodes, constants
