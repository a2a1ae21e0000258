"""The training command on a tiny model, and the embedded model that the same command made."""

from __future__ import annotations

import json
from random import Random

import numpy as np
import pytest

import sentax.models.data as data
from sentax.models import training
from sentax.models.data import packing
from sentax.models.weights import load_params


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke")
    training.main(["--smoke", "--out", str(folder / "model"), "--checkpoints", str(folder / "kept")])
    return folder


def hugging_face(directory):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    return tokenizer, transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32), torch


def losses_in_transformers(directory, table):
    """Minus log-probabilities of the tokens after the first."""
    _, model, torch = hugging_face(directory)
    with torch.no_grad():
        logits = model(torch.tensor(table[:, :-1], dtype=torch.long)).logits
        log_probs = torch.log_softmax(logits, -1)
    return -np.take_along_axis(log_probs.numpy(), table[:, 1:, None], -1)[..., 0]


def test_a_smoke_run_lowers_the_loss(smoke):
    record = json.loads((smoke / "model" / "training.json").read_text())
    early = json.loads((smoke / "kept" / "step-00004" / "training.json").read_text())
    assert record["steps"] == training.SMOKE.steps
    assert record["tokens"] == training.SMOKE.steps * training.SMOKE.batch
    assert set(record["held_out"]) == set(data.KINDS)
    for kind, values in record["held_out"].items():
        assert values["nats_per_token"] < early["held_out"][kind]["nats_per_token"] - 0.2


def test_the_saved_directory_is_a_transformers_checkpoint_with_our_losses(smoke):
    tokenizer, model, _ = hugging_face(smoke / "model")
    assert (
        sum(p.numel() for p in model.parameters())
        == json.loads((smoke / "model/training.json").read_text())["parameters"]
    )
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == model.config.eos_token_id == 0
    ours = packing.Tokenizer.from_file(str(smoke / "model/tokenizer.json"))
    for text in ("Date=2031-04-17\n", "  two  spaces\n\n\n", "Zoë 中文 \x00\xad", "x\tC1=CC=CC=C1"):
        ids = tokenizer(text).input_ids
        assert ids == ours.encode(text).ids
        assert ids[0] == 0
        assert tokenizer.decode(ids[1:]) == text
    table = packing.rows(Random(3), ours, 2, 300)
    losses = losses_in_transformers(smoke / "model", table)
    np.testing.assert_allclose(losses, own_losses(smoke / "model", training.SMOKE, table), atol=2e-4)


def own_losses(directory, settings, table):
    """The trainer's losses with a saved model's weights."""
    params = load_params(directory, settings.decoder)
    return np.asarray(training._trainer(settings).losses(params, table))


def test_a_run_continues_where_it_stopped(smoke, tmp_path):
    class InterruptedRunError(Exception):
        pass

    def interrupt(line):
        if line.startswith("step 12 "):
            raise InterruptedRunError

    folders = tmp_path / "model", tmp_path / "kept"
    with pytest.raises(InterruptedRunError):
        training.train(training.SMOKE, *folders, log=interrupt)
    record = training.train(training.SMOKE, *folders, resume=True, log=lambda line: None)
    assert [step for step, _ in record["training_loss"]] == [4, 8, 12, 16, 20, 24]
    whole, parts = ((folder / "model/model.safetensors").read_bytes() for folder in (smoke, tmp_path))
    assert whole == parts


def test_rows_begin_with_end_of_text_and_hold_whole_documents():
    tokenizer = packing.train_tokenizer(512, 400)
    table = packing.rows(Random(5), tokenizer, 12, 200)
    assert table.shape == (12, 201)
    assert (table[:, 0] == 0).all()
    np.testing.assert_array_equal(table, packing.rows(Random(5), tokenizer, 12, 200))
    texts = {
        tuple(tokenizer.encode(text, add_special_tokens=False).ids)
        for _, text in data.documents(Random(5), 256)
    }
    inner = [
        tuple(part.tolist()) for row in table for part in np.split(row[1:], np.flatnonzero(row[1:] == 0))[1:-1]
    ]
    assert len(inner) > 10
    assert all(part[1:] in texts for part in inner)


@pytest.mark.skipif(
    not (training.EMBEDDED / "model.safetensors").exists(), reason="the embedded model is not built"
)
class TestEmbedded:
    """The artifact in the repository is the one that its record describes."""

    def test_it_is_small_and_has_its_tokenizer(self):
        assert sum(path.stat().st_size for path in training.EMBEDDED.iterdir()) < 12e6
        tokenizer = packing.Tokenizer.from_file(str(training.EMBEDDED / "tokenizer.json"))
        assert tokenizer.get_vocab_size() == 4096
        assert tokenizer.id_to_token(0) == packing.END_OF_TEXT
        every_byte = bytes(range(256)).decode("latin-1")
        assert tokenizer.decode(tokenizer.encode(every_byte).ids) == every_byte

    def test_its_held_out_loss_is_the_recorded_one_in_transformers_too(self):
        record = json.loads((training.EMBEDDED / "training.json").read_text())
        settings = training.Settings(
            **{**record["settings"], "early_steps": tuple(record["settings"]["early_steps"])}
        )
        tokenizer = packing.Tokenizer.from_file(str(training.EMBEDDED / "tokenizer.json"))
        count = settings.held_out_documents if record["steps"] == settings.steps else 16
        table, lengths, _ = packing.held_out(tokenizer, settings.seed, count, settings.long_row // 2)["date"]
        table = table[:, : int(lengths.max()) + 1]
        losses = losses_in_transformers(training.EMBEDDED, table)
        real = np.arange(losses.shape[1]) < lengths[:, None] - 1
        assert losses[real].mean() == pytest.approx(record["held_out"]["date"]["nats_per_token"], abs=2e-3)
